"""What metrics see: distances of real videos that were spoilt in many ways.

Of real clips, some are the real data; others, spoilt in one way after
another, stand for generated ones.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets import ResizeCrop, VideoDataset
from ..errors import InputError
from .frechet import GroupedStats, frechet_distance, frechet_distances
from .measures import jackknife_error
from .motion_report import ClipMotion, clip_motion, compare, mean_motion

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def add_noise(sigma: float) -> Spoil:
    """Add normal noise of so many grey levels, new in each frame."""
    return lambda clip, rng: np.rint(
        clip + sigma * rng.standard_normal(clip.shape, np.float32)
    ).clip(0, 255)


def unchanged(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leave a clip as it is."""
    return clip


def blur(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur each frame by a thirtieth of its width."""
    return np.stack(
        [cv2.GaussianBlur(x, (0, 0), clip.shape[2] / 30) for x in clip]
    )


def turn_hue(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the hue by a third: red becomes green, green blue."""
    frames = []
    for frame in clip:
        hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += 85  # of 256, in bytes
        frames.append(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))
    return np.stack(frames)


#: Ways to spoil clips [T, R, R, 3], uint8, T divisible by 4.
SPOILT: dict[str, Spoil] = {
    'mild noise': add_noise(5),
    'heavy noise': add_noise(10),
    'harsh noise': add_noise(25),
    'blurred': blur,
    'other hue': turn_hue,
    'frozen': lambda clip, rng: clip[[0] * len(clip)],
    'shuffled frames': lambda clip, rng: rng.permutation(clip),
    'backwards': lambda clip, rng: clip[::-1],
    'half speed': lambda clip, rng: clip[np.arange(len(clip)) // 2],
    'repeating': lambda clip, rng: clip[
        np.arange(len(clip)) % (len(clip) // 3)
    ],
}
#: Name of the other real clips, which differ from the first by chance.
OTHER = 'other real clips'
COLUMNS = [
    'SpectrumDist',
    'FrameDiff1',
    'FrameDiff8',
    'Frozen',
    'Loops',
    'MeanFreq',
]


class Clip(NamedTuple):
    """A clip.

    Attributes:
        video: Number of its video.
        frames: Frames [T, R, R, 3], uint8.
    """

    video: int
    frames: np.ndarray


class Measured(NamedTuple):
    """Measurements of a set of clips.

    Attributes:
        features: Features [N, F], keyed by the names of distances.
        videos: Numbers of the videos of the clips, N of them.
        motion: The mean motion of the clips.
    """

    features: dict[str, Tensor]
    videos: list[int]
    motion: ClipMotion


def cut(
    data: str, num_frames: int, resolution: int, num_clips: int
) -> list[Clip]:
    """Cut videos into clips.

    Args:
        data: Folder, zip or video file.
        num_frames: Frames of a clip, T.
        resolution: Height and width in pixels, R.
        num_clips: How many clips at most, spread evenly over all.

    Returns:
        The clips in order, an even number.

    Raises:
        InputError: The videos cannot be read, or make fewer than 4 clips.
    """
    places = [
        (number, source, start)
        for number, source in enumerate(
            VideoDataset(data, min_num_frames=num_frames).sources
        )
        for start in range(0, len(source) - num_frames + 1, num_frames)
    ]
    num = min(num_clips, len(places)) // 2 * 2
    if num < 4:
        raise InputError(
            f'{data}: {len(places)} clips of {num_frames} frames, but two on '
            'either side are needed: give more videos or fewer --num-frames'
        )
    resize = ResizeCrop(resolution)
    clips = []
    for i in tqdm(range(num), 'reading', unit='clip', disable=None):
        number, source, start = places[i * len(places) // num]
        frames = source.read(range(start, start + num_frames))
        clips.append(Clip(number, resize({'frames': frames})['frames']))
    return clips


def halve(clips: list[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Split clips into those of every other video and the rest.

    Raises:
        InputError: Either part has fewer than 2 clips.
    """
    first = [clip for clip in clips if clip.video % 2 == 0]
    rest = [clip for clip in clips if clip.video % 2 == 1]
    if min(len(first), len(rest)) < 2:
        raise InputError(
            f'--halves: {len(first)} clips of every other video and '
            f'{len(rest)} of the rest, but two on either side are needed: '
            'give more videos'
        )
    return first, rest


def measure(
    clips: list[Clip],
    spoil: Spoil,
    detectors: Mapping[str, nn.Module],
) -> Measured:
    """Spoil clips, each with its own seed, and measure them."""
    features: dict[str, list[Tensor]] = {name: [] for name in detectors}
    motions = []
    bar = tqdm(clips, leave=False, unit='clip', disable=None)
    for seed, clip in enumerate(bar):
        video = as_video(spoil(clip.frames, np.random.default_rng(seed)))
        for name, detector in detectors.items():
            features[name].append(detector.features(video[None]))
        motions.append(clip_motion(video))
    return Measured(
        {name: torch.cat(rows) for name, rows in features.items()},
        [clip.video for clip in clips],
        mean_motion(ClipMotion(*map(torch.stack, zip(*motions)))),
    )


def as_video(clip: np.ndarray) -> Tensor:
    """Turn a clip [T, R, R, 3] into a video [T, 3, R, R], uint8."""
    clip = np.ascontiguousarray(clip.astype(np.uint8).transpose(0, 3, 1, 2))
    return torch.from_numpy(clip)


def distance(
    name: str, fake: Measured, real: Measured, num: int | None = None
) -> tuple[float, float]:
    """Compute a Frechet distance and its standard error.

    The error is a jackknife over groups, NaN if these are too few. Clips of
    a video are alike, so they are in one group.

    Args:
        name: Name of the distance.
        fake: One set.
        real: The other set.
        num: How many clips of either, spread evenly. Defaults to None, all.
    """
    a, b = (
        group(measured.features[name], measured.videos, num)
        for measured in (fake, real)
    )
    without = [a.total - part for part in a.groups if part.num]
    error = math.nan
    if len(without) > 1 and all(stats.num > 1 for stats in without):
        error = jackknife_error(frechet_distances(without, b.total))
    return frechet_distance(a.total, b.total), error


def group(
    features: Tensor, videos: Sequence[int], num: int | None
) -> GroupedStats:
    """Sum features [N, F] of ``num`` clips, spread evenly, by group."""
    stats = GroupedStats(features.shape[1])
    num = num or len(videos)
    for i in np.arange(num) * len(videos) // num:
        stats.append(features[i : i + 1], videos[i] // 2)
    return stats


def table(results: dict[str, Measured], shows_errors: bool) -> list[list[str]]:
    """Lay out measurements of sets of clips in rows of cells.

    Args:
        results: Measurements, keyed by the names of the sets; the first set
            is the real one.
        shows_errors: Show by how many standard errors distances lie above
            that of :data:`OTHER`, and leave out the first set.
    """
    first = next(iter(results.values()))
    # In short clips, no frames are 8 apart.
    known = compare(first.motion, first.motion)
    columns = [name for name in COLUMNS if name in known]
    heads = ['']
    for name in first.features:
        heads += [name, 'above'] if shows_errors else [name]
    rows = [[*heads, *columns]]
    chances = {
        name: distance(name, results[OTHER], first)
        for name in first.features
        if shows_errors
    }
    for set_name, measured in results.items():
        if shows_errors and measured is first:
            continue
        cells = [set_name]
        for name in first.features:
            value, error = distance(name, measured, first)
            cells.append(f'{value:.3g}')
            if name in chances:
                chance, its_error = chances[name]
                above = (value - chance) / math.hypot(error, its_error)
                cells.append(f'{above:.1f}')
        values = compare(measured.motion, first.motion)
        rows.append([*cells, *(f'{values[name]:.3g}' for name in columns)])
    return rows


def table_of_chance(a: Measured, b: Measured) -> list[list[str]]:
    """Lay out the distance of two sets of real clips by their number."""
    rows = [['clips of either half']]
    for name in a.features:
        rows[0] += [name, 'standard error']
    most = min(len(a.videos), len(b.videos))
    for num in sorted({most, *(2**i for i in range(3, most.bit_length()))}):
        cells = [str(num)]
        for name in a.features:
            value, error = distance(name, a, b, num)
            cells += [f'{value:.4g}', f'{error:.2g}']
        rows.append(cells)
    return rows
