"""Show what each metric sees: spoil real videos, and measure that.

Videos are cut into clips. Every other clip is the real data; the same clips,
spoilt in one way after another, are taken for generated ones. The rest, real
as well, tell how far apart two sets of so many clips are by chance.

Example:
    python tools/analysis_tools/metric_sensitivity.py data/clouds
"""

import argparse
from collections.abc import Callable

import cv2
import numpy as np
import torch
from motion_report import mean
from torch import Tensor
from tqdm import tqdm

from stylegan_v_mm.datasets import ResizeCrop, VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FeatureStats, RandomI3D, frechet_distance
from stylegan_v_mm.evaluation.motion_report import (
    MIN_NUM_FRAMES,
    ClipMotion,
    clip_motion,
    compare,
)
from stylegan_v_mm.evaluation.results import format_table
from stylegan_v_mm.tool import picture_size, positive_int, run_tool

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


# Of clips [T, R, R, 3], T divisible by 4.
SPOILT: dict[str, Spoil] = {
    'mild noise': add_noise(5),
    'heavy noise': add_noise(10),
    'harsh noise': add_noise(25),
    'blurred': blur,
    'frozen': lambda clip, rng: clip[[0] * len(clip)],
    'shuffled frames': lambda clip, rng: rng.permutation(clip),
    'backwards': lambda clip, rng: clip[::-1],
    'half speed': lambda clip, rng: clip[np.arange(len(clip)) // 2],
    'repeating': lambda clip, rng: clip[
        np.arange(len(clip)) % (len(clip) // 3)
    ],
}
COLUMNS = ['FrameDiff1', 'FrameDiff8', 'Frozen', 'Loops', 'MeanFreq']


def cut(
    data: str, num_frames: int, resolution: int, num_clips: int
) -> list[np.ndarray]:
    """Cut videos into clips.

    Args:
        data: Folder, zip or video file.
        num_frames: Of a clip, T.
        resolution: Height and width in pixels, R.
        num_clips: The most clips, spread evenly over all.

    Returns:
        In order, [T, R, R, 3], uint8, each.

    Raises:
        InputError: The videos cannot be read, or make fewer than 4 clips.
    """
    places = [
        (source, start)
        for source in VideoDataset(data, min_num_frames=num_frames).sources
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
        source, start = places[i * len(places) // num]
        frames = source.read(range(start, start + num_frames))
        clips.append(resize({'frames': frames})['frames'])
    return clips


def measure(
    clips: list[np.ndarray], spoil: Spoil, detector: RandomI3D
) -> tuple[FeatureStats, ClipMotion]:
    """Spoil clips, each with a seed of its own, and measure them."""
    stats = FeatureStats(detector.num_features)
    motions = []
    for seed, clip in enumerate(clips):
        video = as_video(spoil(clip, np.random.default_rng(seed)))
        stats.append(detector.features(video[None]))
        motions.append(clip_motion(video))
    return stats, mean(ClipMotion(*map(torch.stack, zip(*motions))))


def as_video(clip: np.ndarray) -> Tensor:
    """[T, R, R, 3] -> [T, 3, R, R], uint8."""
    clip = np.ascontiguousarray(clip.astype(np.uint8).transpose(0, 3, 1, 2))
    return torch.from_numpy(clip)


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', help='folder, zip or video file')
    parser.add_argument(
        '--num-clips',
        type=positive_int,
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
    args = parser.parse_args()
    detector = RandomI3D()
    least = max(MIN_NUM_FRAMES, detector.min_num_frames)
    if args.num_frames < least:
        raise InputError(
            f'--num-frames {args.num_frames} must be at least {least}'
        )
    clips = cut(args.data, args.num_frames, args.resolution, args.num_clips)
    real, other = clips[::2], clips[1::2]
    sets: dict[str, tuple[list[np.ndarray], Callable]] = {
        'itself': (real, unchanged),
        'other real clips': (other, unchanged),
    }
    sets |= {name: (real, spoil) for name, spoil in SPOILT.items()}
    results = {
        name: measure(sound, spoil, detector)
        for name, (sound, spoil) in tqdm(sets.items(), disable=None)
    }
    real_stats, real_motion = results['itself']
    rows = [['', 'FVD-random', 'SpectrumDist', *COLUMNS]]
    for name, (stats, motion) in results.items():
        values = compare(motion, real_motion)
        values['FVD-random'] = frechet_distance(stats, real_stats)
        cells = [f'{values[column]:.3g}' for column in rows[0][1:]]
        rows.append([name, *cells])
    print(format_table(rows))


if __name__ == '__main__':
    run_tool(main)
