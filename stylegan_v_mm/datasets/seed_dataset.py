"""Seeds, times and labels of the clips to generate."""

import os

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError
from ..registry import DATASETS
from .video_dataset import VideoDataset


@DATASETS.register_module()
class SeedDataset(Dataset):
    """Consecutive seeds of clips to generate, each of which starts at time 0.

    With labels, each seed draws a real video and uses its label, so that
    classes are as frequent as in the data.

    An item is a dict of

    - ``index`` (int): of the item, for metrics that use only the first ones
    - ``seed`` (int)
    - ``t`` [T], float64: 0, s, 2 s, ... frames
    - ``c`` [c_dim], float32

    Args:
        num_videos: Number of seeds.
        num_frames: Frames in a clip, T.
        frame_stride: Frames from one time to the next, s.
        data_root: Data root of the real videos, see ``VideoDataset``; read
            only if there are ``labels``.
        labels: Labels of the real videos, see ``VideoDataset``.
        images: Whether the real videos are images, see ``VideoDataset``.
        real_videos: Config of a data set of the real videos, instead of
            ``data_root``, ``labels`` and ``images``. Any data set with
            ``labels`` [V, c_dim] is possible.
        first_seed: The first seed, at least 0. Defaults to 0.
        extra_videos: Number of further seeds, for metrics of frames, which
            use more and shorter clips than metrics of videos. A batch may
            hold both kinds, so collate items into lists (``pseudo_collate``).
        extra_frames: Frames in each of these further clips.

    Raises:
        InputError: A number is out of range, or the labels cannot be read.
    """

    def __init__(
        self,
        num_videos: int,
        num_frames: int,
        frame_stride: int = 1,
        data_root: str | os.PathLike | None = None,
        labels: str | None = None,
        images: bool = False,
        first_seed: int = 0,
        extra_videos: int = 0,
        extra_frames: int = 1,
        real_videos: dict | None = None,
    ) -> None:
        least = [num_videos, num_frames, frame_stride, extra_frames]
        if min(*least, first_seed + 1, extra_videos + 1) < 1:
            raise InputError(
                f'SeedDataset: num_videos={num_videos}, num_frames='
                f'{num_frames}, frame_stride={frame_stride} and extra_frames='
                f'{extra_frames} must be at least 1, first_seed={first_seed} '
                f'and extra_videos={extra_videos} at least 0'
            )
        self.num_videos = num_videos
        self.extra_videos = extra_videos
        self.first_seed = first_seed
        most = max(num_frames, extra_frames)
        t = torch.arange(most, dtype=torch.float64) * frame_stride
        self.t, self.extra_t = t[:num_frames], t[:extra_frames]
        #: [V, c_dim], float32, labels to draw from.
        self.labels = np.zeros((1, 0), np.float32)
        #: Names of the classes (``classes``), empty if they have none.
        self.metainfo = {'classes': ()}
        videos = None
        if real_videos is not None:
            videos = DATASETS.build(real_videos)
        elif labels is not None:
            if data_root is None:
                raise InputError(
                    f'SeedDataset: labels={labels!r} needs a data_root, too'
                )
            videos = VideoDataset(data_root, labels=labels, images=images)
        if videos is not None:
            if not hasattr(videos, 'labels'):
                raise InputError(
                    'SeedDataset: real_videos need an attribute labels, '
                    f'[V, c_dim]; {type(videos).__name__} has none'
                )
            self.labels = videos.labels
            self.metainfo = getattr(videos, 'metainfo', self.metainfo)

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without labels."""
        return self.labels.shape[1]

    def label_of(self, seed: int) -> Tensor:
        """Return the label [c_dim] of the real video that a seed draws."""
        video = np.random.default_rng(seed).integers(len(self.labels))
        return torch.from_numpy(self.labels[video])

    def __len__(self) -> int:
        return self.num_videos + self.extra_videos

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f'{index} of {len(self)} seeds')
        seed = self.first_seed + index
        return {
            'index': index,
            'seed': seed,
            't': self.t if index < self.num_videos else self.extra_t,
            'c': self.label_of(seed),
        }
