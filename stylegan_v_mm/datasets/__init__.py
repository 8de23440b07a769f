"""Videos to train on, and seeds to generate from."""

from .clip_sampler import ClipKey, ClipSampler
from .collate import collate_clips
from .seed_dataset import SeedDataset
from .shards import ShardDataset
from .transforms import FlipClip, LoadClip, PackClip, ResizeCrop, SampleClip
from .video_dataset import VideoDataset
from .wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset

__all__ = [
    'ClassBalancedDataset',
    'ClipKey',
    'ClipSampler',
    'ConcatDataset',
    'FlipClip',
    'LoadClip',
    'PackClip',
    'RepeatDataset',
    'ResizeCrop',
    'SampleClip',
    'SeedDataset',
    'ShardDataset',
    'VideoDataset',
    'collate_clips',
]
