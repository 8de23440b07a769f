"""Runner, loop, optimizers and hooks."""

from .hooks.check_data import CheckDataHook
from .hooks.checkpoint import SafeCheckpointHook
from .hooks.divergence import DivergenceHook
from .hooks.logs import DeferredLogsHook
from .hooks.preview import VideoPreviewHook
from .hooks.schedule import ScheduleHook
from .hooks.timing import SteadyTimerHook, TrainingSpeedHook
from .loops import ClipTrainLoop
from .optim import GANOptimWrapperConstructor
from .replicas import EqualReplicas
from .runner import VideoGANRunner
from .visualizer import VideoVisualizer

__all__ = [
    'CheckDataHook',
    'ClipTrainLoop',
    'DeferredLogsHook',
    'DivergenceHook',
    'EqualReplicas',
    'GANOptimWrapperConstructor',
    'SafeCheckpointHook',
    'ScheduleHook',
    'SteadyTimerHook',
    'TrainingSpeedHook',
    'VideoGANRunner',
    'VideoPreviewHook',
    'VideoVisualizer',
]
