"""The real frames that generated ones are most like: does a model memorise?"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from tqdm import tqdm

from ..datasets import ResizeCrop, VideoDataset
from ..datasets.sources.finding import VideoSource, read_each
from ..errors import InputError
from ..video.pixels import from_bytes
from .detectors.lpips import LPIPS

# Frames that are decoded and compared together.
_BATCH = 64


class Nearest(NamedTuple):
    """The nearest frame of each of K videos to each of N frames.

    Attributes:
        distances: [N, K], float32, LPIPS, ascending in each row.
        frames: [N, K, 3, R, R], uint8.
    """

    distances: Tensor
    frames: Tensor


def spread_frames(data: str, num_frames: int, resolution: int) -> Tensor:
    """Read frames that are spread evenly over all videos.

    Args:
        data (str): Folder, zip or video file.
        num_frames (int): How many frames at most, N.
        resolution (int): Height and width in pixels, R.

    Returns:
        Tensor: [N, 3, R, R], uint8.

    Raises:
        InputError: The videos cannot be read.
    """
    sources = VideoDataset(data).sources
    ends = np.cumsum([len(source) for source in sources])
    num = min(num_frames, ends[-1])
    # In the middle of N equal parts, not always at the start of a video.
    places = (2 * np.arange(num) + 1) * ends[-1] // (2 * num)
    videos = np.searchsorted(ends, places, side='right')
    batches = [
        frames
        for video in np.unique(videos)
        for frames in _batches(
            sources[video],
            places[videos == video] - ends[video] + len(sources[video]),
            resolution,
        )
    ]
    return torch.cat(batches)


def nearest_frames(
    samples: Tensor, data: str, lpips: LPIPS, num_videos: int
) -> Nearest:
    """Compare frames with all frames of a data set, by LPIPS.

    Successive frames of a video are alike, so only one frame of each video
    counts.

    Args:
        samples (Tensor): Frames [N, 3, R, R], uint8.
        data (str): Folder, zip or video file.
        lpips (LPIPS): The distance.
        num_videos (int): How many videos, K.

    Returns:
        Nearest: On the CPU.

    Raises:
        InputError: The videos cannot be read, or are fewer than K.
    """
    sources = VideoDataset(data).sources
    if len(sources) < num_videos:
        raise InputError(
            f'{data}: the nearest frames of {num_videos} videos are wanted, '
            f'but there are {len(sources)}'
        )
    lpips = lpips.to(get_device())
    resolution = samples.shape[-1]
    ours = torch.cat([_embed(lpips, part) for part in samples.split(_BATCH)])
    least, where = [], []
    progress = tqdm(
        total=sum(map(len, sources)), desc=data, unit='frame', disable=None
    )
    with progress:
        for source in sources:
            distances = []
            for frames in _batches(source, range(len(source)), resolution):
                squares = torch.cdist(ours, _embed(lpips, frames)).square()
                distances.append(squares.cpu())
                progress.update(len(frames))
            distance, index = torch.cat(distances, 1).min(1)
            least.append(distance)
            where.append(index)
    distances, videos = torch.stack(least, 1).topk(num_videos, largest=False)
    indices = torch.stack(where, 1).gather(1, videos)
    frames = [
        frame
        for video, index in zip(videos.flatten(), indices.flatten().tolist())
        for frame in _batches(sources[video], [index], resolution)
    ]
    return Nearest(distances, torch.cat(frames).unflatten(0, videos.shape))


def _batches(
    source: VideoSource, inds: Sequence[int] | np.ndarray, resolution: int
) -> Iterator[Tensor]:
    """Decode ascending frames in batches [B, 3, R, R], uint8."""
    resize = ResizeCrop(resolution)
    frames = []
    for number, frame in enumerate(read_each(source, inds), 1):
        frames.append(resize({'frames': frame[None]})['frames'])
        if len(frames) == _BATCH or number == len(inds):
            batch = torch.from_numpy(np.concatenate(frames))
            yield batch.permute(0, 3, 1, 2)
            frames = []


@torch.no_grad()
def _embed(lpips: LPIPS, frames: Tensor) -> Tensor:
    """Map frames [N, 3, R, R], uint8, to points; LPIPS is their distance."""
    return lpips.embed(from_bytes(frames.to(get_device())))
