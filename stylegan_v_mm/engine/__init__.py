"""Runner, loop, optimizers and hooks."""

from .hooks.checkpoint import SafeCheckpointHook
from .hooks.divergence import DivergenceHook
from .hooks.preview import VideoPreviewHook
from .hooks.timing import SteadyTimerHook, TrainingSpeedHook
from .loops import ClipTrainLoop
from .optim import GANOptimWrapperConstructor
from .runner import VideoGANRunner
from .visualizer import VideoVisualizer

__all__ = [
    'ClipTrainLoop',
    'DivergenceHook',
    'GANOptimWrapperConstructor',
    'SafeCheckpointHook',
    'SteadyTimerHook',
    'TrainingSpeedHook',
    'VideoGANRunner',
    'VideoPreviewHook',
    'VideoVisualizer',
]
