"""Videos to train on, and seeds to generate from."""

from .seed_dataset import SeedDataset
from .transforms import FlipClip, LoadClip, PackClip, ResizeCrop, SampleClip
from .video_dataset import VideoDataset

__all__ = [
    'FlipClip',
    'LoadClip',
    'PackClip',
    'ResizeCrop',
    'SampleClip',
    'SeedDataset',
    'VideoDataset',
]
