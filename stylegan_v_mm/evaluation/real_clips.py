"""The real clips that generated ones are compared with."""

import hashlib
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MMLogger
from torch.utils.data import Dataset, Subset

from ..errors import InputError
from ..registry import DATASETS

# Frames of one video that are decoded together.
_FRAMES_PER_ITEM = 16


def clip_settings(
    num_frames: int, resolution: int, frame_stride: int = 1, **sampling: Any
) -> dict:
    """Make the settings of a data set of such clips: one a video, unflipped.

    Args:
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Take every so many frames. Defaults to 1.
        sampling: Of ``SampleClip``.

    Returns:
        dict: For a ``VideoDataset``, but for its ``data_root``.
    """
    return dict(
        min_num_frames=(num_frames - 1) * frame_stride + 1,
        max_num_frames=sys.maxsize,
        seed=0,
        pipeline=[
            dict(
                type='SampleClip',
                num_frames=num_frames,
                method='consecutive',
                frame_stride=frame_stride,
                **sampling,
            ),
            dict(type='LoadClip'),
            dict(type='ResizeCrop', resolution=resolution),
            dict(type='PackClip'),
        ],
    )


def real_clips(
    real_data: dict, num_frames: int, resolution: int, frame_stride: int = 1
) -> Any:
    """Make a data set of one clip of each long enough video.

    Where in the video a clip lies is drawn by a fixed seed. No flips.

    Args:
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``, and ``disjoint``, whether to
            make all clips that a video holds one after another, instead of
            one; or the config of a data set, by its ``type``. That one, and
            those in it if it is a wrapper, gets the settings that make such
            clips, as far as it takes them and the config does not give them:
            ``pipeline``, ``min_num_frames``, ``max_num_frames`` and ``seed``.
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Take every so many frames. Defaults to 1.

    Returns:
        Dataset: Items are dicts with ``video`` uint8 [T, 3, R, R] and ``c``
        [c_dim].

    Raises:
        InputError: A key is unknown, or the videos cannot be read.
    """
    settings = clip_settings(num_frames, resolution, frame_stride)
    if 'type' in real_data:
        shape = num_frames, 3, resolution, resolution
        return _CheckedClips(_with_settings(real_data, settings), shape)
    known = {'data_root', 'labels', 'images', 'disjoint'}
    if not {'data_root'} <= set(real_data) <= known:
        raise InputError(
            'real_data of a metric needs data_root and may have labels, '
            'images and disjoint, or is the config of a data set with its '
            f'type; got {sorted(real_data)}'
        )
    real_data = {**real_data}
    # Whose frames are measured one by one has them all in any case.
    if real_data.pop('disjoint', False) and num_frames > 1:
        settings['stretch'] = settings['min_num_frames']
    return DATASETS.build(
        _with_settings({'type': 'VideoDataset', **real_data}, settings)
    )


def _with_settings(config: dict, settings: dict) -> dict:
    """Add the settings that a data set takes, and those in it, and lack."""
    kind = config['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    takes = inspect.signature(kind).parameters if kind else ()
    given = {key: value for key, value in settings.items() if key in takes}
    # Names below are ours, whatever the config's default scope is.
    config = {'_scope_': DATASETS.scope, **given, **config}
    if isinstance(config.get('dataset'), dict):
        config['dataset'] = _with_settings(config['dataset'], settings)
    if 'datasets' in config:
        config['datasets'] = [
            _with_settings(each, settings) for each in config['datasets']
        ]
    return config


class _CheckedClips(Dataset):
    """Clips of any data set, and what it tells of them.

    Args:
        config (dict): Of the data set. Items are dicts with ``video`` and,
            unless there are no labels, ``c``.
        shape (tuple): What ``video`` has to be, uint8.
    """

    def __init__(self, config: dict, shape: tuple[int, ...]) -> None:
        self.dataset = dataset = DATASETS.build(config)
        self.shape = shape
        for name in ('labels', 'metainfo', 'video_lens'):
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))
        if hasattr(dataset, 'fingerprint'):
            # Of the videos; which clips of them is in the config.
            self.fingerprint = f'{dataset.fingerprint} {config}'
        self.data_root = getattr(dataset, 'data_root', type(dataset).__name__)
        # What does not list its clips is known by its config.
        digest = hashlib.sha256(repr(config).encode()).hexdigest()
        self.clip_list = getattr(dataset, 'clip_list', {'digest': digest})
        self._has_frames = hasattr(dataset, 'read')
        if not self._has_frames:
            self.video_lens = np.ones(len(dataset), np.int64)
        if len(dataset):
            self[0]  # Before any long work.

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self._checked(self.dataset[index], self.shape)

    def read(self, index: int, inds: Sequence[int]) -> dict:
        """Read single frames, see ``VideoDataset``.

        Of a data set that cannot, the clip itself is the only one.
        """
        if not self._has_frames:
            return self[index]
        shape = (len(inds), *self.shape[1:])
        return self._checked(self.dataset.read(index, inds), shape)

    def _checked(self, item: dict, shape: tuple[int, ...]) -> dict:
        video = torch.as_tensor(item.get('video', ()))
        if video.dtype != torch.uint8 or video.shape != shape:
            raise InputError(
                f'real_data: a clip of {type(self.dataset).__name__} must '
                f'have a video, uint8 {list(shape)}, got '
                f'{str(video.dtype).removeprefix("torch.")} '
                f'{list(video.shape)}'
            )
        return {'video': video, 'c': torch.as_tensor(item.get('c', ()))}


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
        try:
            return self.videos.read(int(video), places[same])
        except InputError as error:
            if not hasattr(self.videos, 'labels'):
                raise
            MMLogger.get_current_instance().warning(f'{error}; left out')
            return {
                'video': torch.zeros(0, 3, *self._size, dtype=torch.uint8),
                'c': torch.from_numpy(self.videos.labels[video]),
            }


def describe(clips: Any) -> dict:
    """Say which data real clips come from.

    Args:
        clips (Dataset): From :func:`real_clips`, or a :class:`RealFrames`.

    Returns:
        dict: ``data``, where it lies here, and ``data_digest``, the same for
        every copy of videos.
    """
    videos = getattr(clips, 'videos', clips)
    digest = videos.clip_list['digest']
    return dict(data=str(videos.data_root), data_digest=digest)


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
