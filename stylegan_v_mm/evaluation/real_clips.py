"""The real clips that generated ones are compared with."""

import sys
from typing import Any

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MMLogger
from torch.utils.data import Dataset, Subset

from ..errors import InputError
from ..registry import DATASETS

# Frames of one video that are decoded together.
_FRAMES_PER_ITEM = 16


def real_clips(
    real_data: dict, num_frames: int, resolution: int, frame_stride: int = 1
) -> Any:
    """Make a data set of one clip of each long enough video.

    Where in the video a clip lies is drawn by a fixed seed. No flips.

    Args:
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``.
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Take every so many frames. Defaults to 1.

    Returns:
        Dataset: Items are dicts with ``video`` uint8 [T, 3, R, R] and ``c``
        [c_dim].

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
            # Names below are ours, whatever the config's default scope is.
            _scope_=DATASETS.scope,
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


def _choose(count: int, most: int | None, first: bool) -> np.ndarray:
    """Choose from a row, spread evenly over it, or the first ones."""
    chosen = count if most is None else min(most, count)
    inds = np.arange(chosen)
    return inds if first else inds * count // chosen


class RealFrames(Dataset):
    """Single frames of videos, a few of one video an item.

    They are spread evenly over all frames of all videos, or are the first
    ones. An item is a dict with ``video``, uint8 [T, 3, R, R], of at most 16
    frames, not all in a row, and its label ``c``; no frames where the video is
    damaged, which is logged.

    Args:
        real_data (dict): See :func:`real_clips`.
        resolution (int): Height and width in pixels, R.
        most (int, optional): How many to choose, if there are as many. None:
            all.
        first (bool): Whether to take the first ones. Defaults to False.

    Raises:
        InputError: See :func:`real_clips`.
    """

    def __init__(
        self,
        real_data: dict,
        resolution: int,
        most: int | None,
        first: bool = False,
    ) -> None:
        # The clips of one frame have the pipeline; these have other times.
        self.videos = real_clips(real_data, 1, resolution)
        self._size = (resolution, resolution)
        ends = np.cumsum(self.videos.video_lens)
        self.total = int(ends[-1])
        chosen = _choose(self.total, most, first)
        self.num_frames = len(chosen)
        #: [N], video and place in it of each chosen frame.
        self._video = np.searchsorted(ends, chosen, side='right')
        self._place = chosen - (ends - self.videos.video_lens)[self._video]
        # An item starts with each video, and every 16 frames in it.
        runs = np.flatnonzero(np.diff(self._video, prepend=-1))
        since = np.arange(len(chosen))
        since -= np.repeat(runs, np.diff(runs, append=len(chosen)))
        self._starts = np.flatnonzero(since % _FRAMES_PER_ITEM == 0)

    @property
    def fingerprint(self) -> str:
        """Of the videos, see ``VideoDataset``."""
        return self.videos.fingerprint

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict:
        start = self._starts[index]
        video = self._video[start]
        places = self._place[start : start + _FRAMES_PER_ITEM]
        same = self._video[start : start + _FRAMES_PER_ITEM] == video
        results = {
            'source': self.videos.sources[video],
            'frame_inds': places[same],
            'c': self.videos.labels[video],
        }
        load, *rest = self.videos.pipeline.transforms[1:]
        try:
            results = load(results)
        except InputError as error:
            MMLogger.get_current_instance().warning(f'{error}; left out')
            results['frames'] = np.zeros((0, *self._size, 3), np.uint8)
        for transform in rest:
            results = transform(results)
        return results


def describe(clips: Any) -> dict:
    """Say which data real clips come from.

    Args:
        clips (Dataset): From :func:`real_clips`, or a :class:`RealFrames`.

    Returns:
        dict: ``data``, where it lies here, and ``data_digest``, the same for
        every copy.
    """
    videos = getattr(clips, 'videos', clips)
    return dict(data=str(videos.data_root), data_digest=videos.identity)


def own_share(
    clips: Any, most: int | None = None, first: bool = False
) -> Subset:
    """Choose clips, and deal them out: to each process a stretch of them.

    Args:
        clips (Dataset): From :func:`real_clips`, or a :class:`RealFrames`.
        most (int, optional): How many to choose, if there are as many,
            spread evenly over the data set. Defaults to None, all.
        first (bool): Whether to choose the first ones. Defaults to False.

    Returns:
        Subset: Those of this process.
    """
    inds = _choose(len(clips), most, first)
    start, end = (
        (get_rank() + i) * len(inds) // get_world_size() for i in range(2)
    )
    return Subset(clips, inds[start:end].tolist())
