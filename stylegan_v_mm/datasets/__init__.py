"""Videos to train on, and seeds to generate from."""

from .transforms import FlipClip, LoadClip, PackClip, ResizeCrop, SampleClip
from .video_dataset import VideoDataset

__all__ = [
    'FlipClip',
    'LoadClip',
    'PackClip',
    'ResizeCrop',
    'SampleClip',
    'VideoDataset',
]
