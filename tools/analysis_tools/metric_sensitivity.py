"""Show what each metric sees: spoil real videos, and measure that.

Videos are cut into clips. Every other clip is the real data; the same clips,
spoilt in one way after another, are taken for generated ones. The rest, real
as well, tell how far apart two sets of so many clips are by chance.

With --halves, every other video is the real data, and what is spoilt are the
others, as a model's clips are never the real ones. "above" then is how many
standard errors a distance lies above that of the unspoilt half. A second table
says what that one is by the number of clips: the least that a model can reach.

Example:
    python tools/analysis_tools/metric_sensitivity.py data/clouds --halves
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from compare_datasets import i3d_config
from motion_report import mean
from torch import Tensor, nn
from tqdm import tqdm

from stylegan_v_mm.cli import (
    picture_size,
    positive_int,
    run_tool,
    whole_number,
)
from stylegan_v_mm.datasets import ResizeCrop, VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FlowHistograms, frechet_distance
from stylegan_v_mm.evaluation.frechet import GroupedStats, frechet_distances
from stylegan_v_mm.evaluation.measures import jackknife_error
from stylegan_v_mm.evaluation.motion_report import (
    MIN_NUM_FRAMES,
    ClipMotion,
    clip_motion,
    compare,
)
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.registry import MODELS

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


# Of clips [T, R, R, 3], T divisible by 4.
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
#: Real clips that are not the first ones: what chance makes.
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
        video: Number of the video that it is from.
        frames: [T, R, R, 3], uint8.
    """

    video: int
    frames: np.ndarray


class Measured(NamedTuple):
    """What a set of clips is like.

    Attributes:
        features: [N, F] by the names of distances.
        videos: [N], numbers of the videos that clips are from.
        motion: Means over clips.
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
        num_frames: Of a clip, T.
        resolution: Height and width in pixels, R.
        num_clips: The most clips, spread evenly over all.

    Returns:
        In order.

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
    """Take the clips of every other video, and those of the rest.

    Raises:
        InputError: Either has fewer than 2 clips.
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
    """Spoil clips, each with a seed of its own, and measure them."""
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
        mean(ClipMotion(*map(torch.stack, zip(*motions)))),
    )


def distance(
    name: str, fake: Measured, real: Measured, num: int | None = None
) -> tuple[float, float]:
    """Compute a Frechet distance and its standard error.

    The error is a jackknife over groups; not a number, if these are too few.
    Clips of a video are alike: they are in one group.

    Args:
        name: Of the distance.
        fake: One set.
        real: The other one.
        num: Clips of either, spread evenly. Defaults to None, all.
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
    """Sum up features [N, F] of so many clips, spread evenly."""
    stats = GroupedStats(features.shape[1])
    num = num or len(videos)
    for i in np.arange(num) * len(videos) // num:
        stats.append(features[i : i + 1], videos[i] // 2)
    return stats


def as_video(clip: np.ndarray) -> Tensor:
    """[T, R, R, 3] -> [T, 3, R, R], uint8."""
    clip = np.ascontiguousarray(clip.astype(np.uint8).transpose(0, 3, 1, 2))
    return torch.from_numpy(clip)


def table(results: dict[str, Measured], shows_errors: bool) -> list[list[str]]:
    """Lay out measurements of sets of clips: rows of cells.

    Args:
        results: By the names of the sets; the first is the real one.
        shows_errors: Whether to say how far distances are above that of
            :data:`OTHER`, in standard errors, and to leave out the first.
    """
    first = next(iter(results.values()))
    # Of few frames, none are 8 apart.
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
    """Lay out how far two sets of real clips are apart, by their number."""
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


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', help='folder, zip or video file')
    parser.add_argument(
        '--num-clips',
        type=whole_number(4),
        default=512,
        help='the most, half of them real (default: 512)',
    )
    parser.add_argument(
        '--num-frames',
        type=positive_int,
        default=16,
        help='of a clip (default: 16)',
    )
    parser.add_argument(
        '--resolution',
        type=picture_size,
        default=64,
        help='pixels (default: 64)',
    )
    parser.add_argument(
        '--halves',
        action='store_true',
        help='compare clips of different videos, and show standard errors',
    )
    parser.add_argument(
        '--detector',
        default='i3d',
        help='what tools/get_detectors.py got (default: %(default)s), another '
        "file of I3D, by path or URL, or 'random', which needs no file",
    )
    args = parser.parse_args()
    i3d = MODELS.build(i3d_config(args.detector))
    length = args.num_frames
    detectors: dict[str, nn.Module] = {
        'FVD-random' if i3d.is_random else f'FVD{length}': i3d,
        f'FlowDist{length}': FlowHistograms(),
    }
    least = max(each.min_num_frames for each in detectors.values())
    least = max(MIN_NUM_FRAMES, least)
    if args.num_frames < least:
        raise InputError(
            f'--num-frames {args.num_frames} must be at least {least}'
        )
    clips = cut(args.data, args.num_frames, args.resolution, args.num_clips)
    real, other = halve(clips) if args.halves else (clips[::2], clips[1::2])
    unspoilt = {'itself': real, OTHER: other}
    sets: dict[str, tuple[list[Clip], Spoil]] = {
        name: (sound, unchanged) for name, sound in unspoilt.items()
    }
    spoilt = other if args.halves else real
    sets |= {name: (spoilt, spoil) for name, spoil in SPOILT.items()}
    results = {
        name: measure(sound, spoil, detectors)
        for name, (sound, spoil) in tqdm(sets.items(), disable=None)
    }
    print(format_table(table(results, args.halves)))
    if args.halves:
        print()
        print(format_table(table_of_chance(results[OTHER], results['itself'])))


if __name__ == '__main__':
    run_tool(main)
