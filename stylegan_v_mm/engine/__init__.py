"""Runner, optimizers and hooks."""

from .hooks import TrainingSpeedHook, VideoPreviewHook
from .runner import GANOptimWrapperConstructor, VideoGANRunner

__all__ = [
    'GANOptimWrapperConstructor',
    'TrainingSpeedHook',
    'VideoGANRunner',
    'VideoPreviewHook',
]
