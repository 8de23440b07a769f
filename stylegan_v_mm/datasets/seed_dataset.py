"""What to generate: seeds, times and labels."""

import os

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from ..registry import DATASETS
from .video_dataset import VideoDataset


@DATASETS.register_module()
class SeedDataset(Dataset):
    """Seeds 0, 1, 2, ... of clips to generate, each from time 0 on.

    With labels, a seed draws a real video and takes its label: classes are
    as frequent as in the data.

    An item is a dict of

    - ``seed`` (int)
    - ``t`` [T], float64: 0, s, 2 s, ... frames
    - ``c`` [c_dim], float32

    Args:
        num_videos: Number of seeds.
        num_frames: Frames in a clip, T.
        frame_stride: Frames from one time to the next, s.
        data_root: Of the real videos, see ``VideoDataset``; read only if
            there are ``labels``.
        labels: Of the real videos, see ``VideoDataset``.
        images: Whether the real videos are images, see ``VideoDataset``.

    Raises:
        InputError: A number is below 1, or the labels cannot be read.
    """

    def __init__(
        self,
        num_videos: int,
        num_frames: int,
        frame_stride: int = 1,
        data_root: str | os.PathLike | None = None,
        labels: str | None = None,
        images: bool = False,
    ) -> None:
        if min(num_videos, num_frames, frame_stride) < 1:
            raise InputError(
                f'SeedDataset: num_videos={num_videos}, num_frames='
                f'{num_frames} and frame_stride={frame_stride} must be at '
                'least 1'
            )
        self.num_videos = num_videos
        self.t = torch.arange(num_frames, dtype=torch.float64) * frame_stride
        #: [V, c_dim], float32, labels to draw from.
        self.labels = np.zeros((1, 0), np.float32)
        #: Names of the classes (``classes``), empty if they have none.
        self.metainfo = {'classes': ()}
        if labels is not None:
            if data_root is None:
                raise InputError(
                    f'SeedDataset: labels={labels!r} needs a data_root, too'
                )
            videos = VideoDataset(data_root, labels=labels, images=images)
            self.labels, self.metainfo = videos.labels, videos.metainfo

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without labels."""
        return self.labels.shape[1]

    def __len__(self) -> int:
        return self.num_videos

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.num_videos:
            raise IndexError(f'{index} of {self.num_videos} seeds')
        video = np.random.default_rng(index).integers(len(self.labels))
        return {
            'seed': index,
            't': self.t,
            'c': torch.from_numpy(self.labels[video]),
        }
