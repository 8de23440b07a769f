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

# Most frames of one video that are decoded together.
_FRAMES_PER_ITEM = 16


def clip_settings(
    num_frames: int, resolution: int, frame_stride: int = 1, **sampling: Any
) -> dict:
    """Return the settings of a data set with one unflipped clip per video.

    Args:
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Distance between frames. Defaults to 1.
        sampling: More arguments of ``SampleClip``.

    Returns:
        dict: Arguments of a ``VideoDataset``, except for ``data_root``.
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
    """Make a data set with one clip of each video that is long enough.

    A fixed seed draws the offset of a clip in its video. Clips are not
    flipped.

    Args:
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``, and ``disjoint``, whether to
            use all consecutive clips of a video instead of one; or the config
            of another data set with its ``type``. Such a data set, and those
            in it if it is a wrapper, gets ``pipeline``, ``min_num_frames``,
            ``max_num_frames`` and ``seed`` for these clips, if it takes them
            and the config does not set them.
        num_frames (int): Frames in a clip, T.
        resolution (int): Height and width of the clips in pixels, R.
        frame_stride (int): Distance between frames. Defaults to 1.

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
    # Metrics of single frames use all frames of a video in any case.
    if real_data.pop('disjoint', False) and num_frames > 1:
        settings['stretch'] = settings['min_num_frames']
    return DATASETS.build(
        _with_settings({'type': 'VideoDataset', **real_data}, settings)
    )


def _with_settings(config: dict, settings: dict) -> dict:
    """Add the missing settings that a data set, or one in it, takes."""
    kind = config['type']
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    takes = inspect.signature(kind).parameters if kind else ()
    given = {key: value for key, value in settings.items() if key in takes}
    # The names in the settings are ours, whatever the default scope is.
    config = {'_scope_': DATASETS.scope, **given, **config}
    if isinstance(config.get('dataset'), dict):
        config['dataset'] = _with_settings(config['dataset'], settings)
    if 'datasets' in config:
        config['datasets'] = [
            _with_settings(each, settings) for each in config['datasets']
        ]
    return config


class _CheckedClips(Dataset):
    """Clips of any data set, with their attributes and checked shapes.

    Args:
        config (dict): Config of the data set. Items are dicts with ``video``
            and, if there are labels, ``c``.
        shape (tuple): Required shape of ``video``, uint8.
    """

    def __init__(self, config: dict, shape: tuple[int, ...]) -> None:
        self.dataset = dataset = DATASETS.build(config)
        self.shape = shape
        for name in ('labels', 'metainfo', 'video_lens'):
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))
        if hasattr(dataset, 'fingerprint'):
            # It identifies the videos, and the config the clips of them.
            self.fingerprint = f'{dataset.fingerprint} {config}'
        self.data_root = getattr(dataset, 'data_root', type(dataset).__name__)
        # A data set without a list of its clips is identified by its config.
        digest = hashlib.sha256(repr(config).encode()).hexdigest()
        self.clip_list = getattr(dataset, 'clip_list', {'digest': digest})
        self._has_frames = hasattr(dataset, 'read')
        if not self._has_frames:
            self.video_lens = np.ones(len(dataset), np.int64)
        if len(dataset):
            self[0]  # checks the shape before any long work

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        return self._checked(self.dataset[index], self.shape)

    def read(self, index: int, inds: Sequence[int]) -> dict:
        """Read single frames, see ``VideoDataset``.

        If the data set cannot read frames, return the clip itself.
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
    """Choose indices below ``count``, evenly spread or the first ones."""
    chosen = count if most is None else min(most, count)
    inds = np.arange(chosen)
    return inds if first else inds * count // chosen


class RealFrames(Dataset):
    """Single frames of videos; each item has a few frames of one video.

    They are spread evenly over all frames of all videos, or are the first
    ones. An item is a dict with ``video``, uint8 [T, 3, R, R], of at most 16
    frames, which need not be consecutive, and its label ``c``. If the video is
    damaged, the item has no frames, and a warning is logged.

    Args:
        real_data (dict): See :func:`real_clips`.
        resolution (int): Height and width in pixels, R.
        most (int, optional): Most frames to choose. None: all.
        first (bool): Whether to choose the first ones. Defaults to False.

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
        # Use the pipeline of clips of one frame, with other times.
        self.videos = real_clips(real_data, 1, resolution)
        self._size = (resolution, resolution)
        ends = np.cumsum(self.videos.video_lens)
        self.total = int(ends[-1])
        chosen = _choose(self.total, most, first)
        self.num_frames = len(chosen)
        #: [N], index of the video of each chosen frame, and position in it.
        self._video = np.searchsorted(ends, chosen, side='right')
        self._place = chosen - (ends - self.videos.video_lens)[self._video]
        # An item starts with each video, and every 16 frames in it.
        runs = np.flatnonzero(np.diff(self._video, prepend=-1))
        since = np.arange(len(chosen))
        since -= np.repeat(runs, np.diff(runs, append=len(chosen)))
        self._starts = np.flatnonzero(since % _FRAMES_PER_ITEM == 0)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the videos, see ``VideoDataset``."""
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
    """Describe the data of real clips.

    Args:
        clips (Dataset): From :func:`real_clips`, or a :class:`RealFrames`.

    Returns:
        dict: ``data``, the path, and ``data_digest``, which is the same for
        every copy of the videos.
    """
    videos = getattr(clips, 'videos', clips)
    digest = videos.clip_list['digest']
    return dict(data=str(videos.data_root), data_digest=digest)


def own_share(
    clips: Any, most: int | None = None, first: bool = False
) -> Subset:
    """Choose clips, and return the consecutive share of this process.

    Args:
        clips (Dataset): From :func:`real_clips`, or a :class:`RealFrames`.
        most (int, optional): Most clips to choose, spread evenly over the
            data set. Defaults to None, all.
        first (bool): Whether to choose the first ones. Defaults to False.

    Returns:
        Subset: The clips of this process.
    """
    inds = _choose(len(clips), most, first)
    start, end = (
        (get_rank() + i) * len(inds) // get_world_size() for i in range(2)
    )
    return Subset(clips, inds[start:end].tolist())
