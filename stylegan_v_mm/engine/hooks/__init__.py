"""Hooks: what training shows of itself, and when it has to stop."""

from .check_data import CheckDataHook
from .checkpoint import SafeCheckpointHook
from .divergence import DivergenceHook
from .preview import VideoPreviewHook
from .timing import SteadyTimerHook, TrainingSpeedHook

__all__ = [
    'CheckDataHook',
    'DivergenceHook',
    'SafeCheckpointHook',
    'SteadyTimerHook',
    'TrainingSpeedHook',
    'VideoPreviewHook',
]
