"""Runner, loop, optimizers and hooks."""

from .checkpoint_hook import SafeCheckpointHook
from .hooks import (
    DivergenceHook,
    SteadyTimerHook,
    TrainingSpeedHook,
    VideoPreviewHook,
)
from .loops import ClipTrainLoop
from .runner import GANOptimWrapperConstructor, VideoGANRunner
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
