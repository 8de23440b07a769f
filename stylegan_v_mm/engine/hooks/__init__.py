"""Hooks: what training shows of itself, and when it has to stop."""

from .check_data import CheckDataHook
from .checkpoint import SafeCheckpointHook
from .divergence import DivergenceHook
from .logs import DeferredLogsHook
from .preview import VideoPreviewHook
from .schedule import ScheduleHook
from .timing import SteadyTimerHook, TrainingSpeedHook

__all__ = [
    'CheckDataHook',
    'DeferredLogsHook',
    'DivergenceHook',
    'SafeCheckpointHook',
    'ScheduleHook',
    'SteadyTimerHook',
    'TrainingSpeedHook',
    'VideoPreviewHook',
]
