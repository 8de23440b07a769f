"""Recipes of training, side by side on the same data for the same time."""

from .comparison import Comparison
from .ideas import RECIPES
from .turns import TurnHook

__all__ = ['RECIPES', 'Comparison', 'TurnHook']
