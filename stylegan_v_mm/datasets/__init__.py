"""Videos to train on, and seeds to generate from."""

from .clip_sampler import ClipKey, ClipSampler
from .seed_dataset import SeedDataset
from .transforms import FlipClip, LoadClip, PackClip, ResizeCrop, SampleClip
from .video_dataset import VideoDataset

__all__ = [
    'ClipKey',
    'ClipSampler',
    'FlipClip',
    'LoadClip',
    'PackClip',
    'ResizeCrop',
    'SampleClip',
    'SeedDataset',
    'VideoDataset',
]
