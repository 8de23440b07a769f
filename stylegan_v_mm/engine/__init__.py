"""Runner, loop, optimizers and hooks."""

from .checkpoint_hook import SafeCheckpointHook
from .hooks import TrainingSpeedHook, VideoPreviewHook
from .loops import ClipTrainLoop
from .runner import GANOptimWrapperConstructor, VideoGANRunner

__all__ = [
    'ClipTrainLoop',
    'GANOptimWrapperConstructor',
    'SafeCheckpointHook',
    'TrainingSpeedHook',
    'VideoGANRunner',
    'VideoPreviewHook',
]
