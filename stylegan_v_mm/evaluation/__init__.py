"""Metrics of generated videos, and the detectors they rest on."""

from .detectors import I3DTorchScript, RandomI3D
from .frechet import FeatureStats, frechet_distance
from .metrics import FrechetVideoDistance

__all__ = [
    'FeatureStats',
    'FrechetVideoDistance',
    'I3DTorchScript',
    'RandomI3D',
    'frechet_distance',
]
