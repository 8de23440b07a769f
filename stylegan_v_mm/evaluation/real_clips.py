"""The real clips that generated ones are compared with."""

import sys

import numpy as np
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import Dataset, Subset

from ..errors import InputError
from ..registry import DATASETS


def real_clips(
    real_data: dict, num_frames: int, resolution: int, frame_stride: int = 1
) -> Dataset:
    """Make a data set of one clip of each long enough video.

    Where in the video a clip lies is drawn by a fixed seed. No flips.

    Args:
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``.
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Take every so many frames. Defaults to 1.

    Returns:
        Dataset: Items are dicts with ``video`` uint8 [T, 3, R, R].

    Raises:
        InputError: A key is unknown, or the videos cannot be read.
    """
    known = {'data_root', 'labels', 'images'}
    if not {'data_root'} <= set(real_data) <= known:
        raise InputError(
            'real_data of a metric needs data_root and may have labels and '
            f'images, got {sorted(real_data)}'
        )
    return DATASETS.build(
        dict(
            type='VideoDataset',
            **real_data,
            min_num_frames=(num_frames - 1) * frame_stride + 1,
            max_num_frames=sys.maxsize,
            seed=0,
            pipeline=[
                dict(
                    type='SampleClip',
                    num_frames=num_frames,
                    method='consecutive',
                    frame_stride=frame_stride,
                ),
                dict(type='LoadClip'),
                dict(type='ResizeCrop', resolution=resolution),
                dict(type='PackClip'),
            ],
        )
    )


def own_share(clips: Dataset, most: int) -> Subset:
    """Choose clips, spread evenly over a data set, and deal them out.

    Args:
        clips (Dataset): From :func:`real_clips`.
        most (int): How many to choose, if there are as many.

    Returns:
        Subset: Those of this process.
    """
    count = min(most, len(clips))
    inds = np.arange(count) * len(clips) // count
    return Subset(clips, inds[get_rank() :: get_world_size()])
