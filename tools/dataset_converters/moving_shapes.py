"""Write a small data set of moving, coloured, rotating shapes as mp4 files.

One large shape a video, five laws of motion, four shapes, dark backgrounds;
easy enough for a tiny network to learn in minutes. The same arguments give
the same bytes.

Example:
    python tools/dataset_converters/moving_shapes.py data/demo
"""

import colorsys
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stylegan_v_mm.cli import (
    frame_rate,
    run_tool,
    seed_number,
    tool_parser,
    video_count,
    whole_number,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write
from stylegan_v_mm.video.encoding import write_video

COLOURS = {'red': 0.0, 'green': 1 / 3, 'blue': 2 / 3}  # hues
SHAPES = ('circle', 'square', 'triangle', 'star')
MOTIONS = ('bounce', 'orbit', 'swing', 'spin', 'zoom')
RADIUS = 0.28
SUPERSAMPLING = 4


def outline(shape: str) -> np.ndarray:
    """Corners of a shape around (0, 0), [K, 2], within the unit circle."""
    num_corners = {'circle': 64, 'square': 4, 'triangle': 3, 'star': 10}
    count = num_corners[shape]
    angles = 2 * np.pi * np.arange(count) / count - np.pi / 2
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if shape == 'star':
        corners[1::2] *= 0.45
    if shape == 'circle':  # so that it is not the largest of them
        corners *= 0.9
    return corners


def trajectory(
    motion: str, num_frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw where the shape is in each frame.

    Args:
        motion: One of :data:`MOTIONS`.
        num_frames: Number of frames, T.
        rng: Source of period, phase, direction and place.

    Returns:
        Centre [T, 2] in picture widths, angle [T] in radians, size [T]
        relative to :data:`RADIUS`.
    """
    period = rng.uniform(24, 40)
    turn = rng.choice([-1, 1])
    phase = 2 * np.pi * (rng.random() + turn * np.arange(num_frames) / period)
    still = np.ones(num_frames)
    wave = np.sin(phase)
    if motion == 'bounce':
        # Straight to and fro between the walls: a triangle wave.
        zigzag = 2 / np.pi * np.arcsin(np.stack([wave, np.sin(0.7 * phase)]))
        return 0.5 + 0.24 * zigzag.T, phase / 2, still
    if motion == 'orbit':
        circle = np.stack([np.cos(phase), wave], axis=1)
        return 0.5 + 0.22 * circle, phase, still
    if motion == 'swing':
        angle = 0.5 * wave
        arm = 0.5 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        return np.array([0.5, 0.08]) + arm, -angle, still
    place = np.broadcast_to(rng.uniform(0.4, 0.6, 2), (num_frames, 2))
    if motion == 'spin':
        return place, phase, still
    return place, phase / 4, 1 + 0.4 * wave


def render(
    shape: str,
    motion: str,
    num_frames: int,
    resolution: int,
    rng: np.random.Generator,
    colour: str | None = None,
) -> np.ndarray:
    """Draw a video of one shape.

    Args:
        shape: One of :data:`SHAPES`.
        motion: One of :data:`MOTIONS`.
        num_frames: Number of frames, T.
        resolution: Width and height in pixels, R.
        rng: Source of colours and motion.
        colour: One of :data:`COLOURS`, more or less; any hue if None.

    Returns:
        [T, 3, R, R], uint8, RGB.
    """
    hue = rng.random()
    if colour is not None:
        hue = (COLOURS[colour] + (hue - 0.5) / 6) % 1
    paint = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.6, 1.0))
    backdrop = _gradient(resolution, (hue + 0.5) % 1, rng)
    centre, angle, size = trajectory(motion, num_frames, rng)
    rotation = np.stack(
        [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1
    ).reshape(-1, 1, 2, 2)
    corners = (rotation @ outline(shape)[None, :, :, None]).squeeze(-1)
    corners = centre[:, None] + RADIUS * size[:, None, None] * corners

    large = SUPERSAMPLING * resolution
    frames = np.empty((num_frames, resolution, resolution, 3), np.uint8)
    for frame, polygon in zip(frames, corners):
        mask = np.zeros((large, large), np.float32)
        # With shift=8, coordinates are given in 1/256 pixels.
        points = np.round(polygon * large * 256).astype(np.int32)
        cv2.fillPoly(mask, [points], (1.0,), cv2.LINE_8, shift=8)
        mask = cv2.resize(
            mask, (resolution, resolution), interpolation=cv2.INTER_AREA
        )[..., None]
        frame[:] = np.round(mask * paint + (1 - mask) * backdrop)
    return frames.transpose(0, 3, 1, 2)


def _gradient(
    resolution: int, hue: float, rng: np.random.Generator
) -> np.ndarray:
    """Blend two dark colours from one side to the other, [R, R, 3]."""
    ends = [
        255 * np.array(colorsys.hsv_to_rgb(hue, 0.35, value))
        for value in (0.08, 0.2)
    ]
    ramp = np.linspace(0, 1, resolution)[:, None, None]
    image = ends[0] + (ends[1] - ends[0]) * ramp
    image = np.broadcast_to(image, (resolution, resolution, 3))
    return np.rot90(image, rng.integers(4))


def make_dataset(
    out_dir: str | os.PathLike,
    num_videos: int = 200,
    num_frames: int = 64,
    resolution: int = 64,
    fps: float = 25,
    seed: int = 0,
    by_class: str | None = None,
) -> None:
    """Write the data set; the folder appears when it is complete.

    Args:
        out_dir: Folder to make; must not exist or be empty (and not ``.``,
            which cannot be replaced).
        num_videos: Number of videos; shapes and motions take turns.
        num_frames: Frames per video.
        resolution: Width and height in pixels.
        fps: Frames per second.
        seed: Another seed gives other videos.
        by_class: ``'shape'``, ``'motion'`` or ``'colour'``: one folder for
            each. Only with the last one, colours take turns, too.

    Raises:
        InputError: If the folder cannot be made or holds something, or a
            number is not positive.
    """
    out_dir = Path(out_dir)
    for name in ('num_videos', 'num_frames', 'resolution', 'fps'):
        if locals()[name] <= 0:
            raise InputError(f'{name} must be positive')
    is_free = out_dir.is_dir() and out_dir.name and not any(out_dir.iterdir())
    if out_dir.exists() and not is_free:
        raise InputError(f'{out_dir} exists: remove it or give another one')
    with atomic_write(out_dir) as temporary:
        for i in tqdm(
            range(num_videos), 'Drawing', unit='video', disable=None
        ):
            names = {
                'shape': SHAPES[i % len(SHAPES)],
                'motion': MOTIONS[i % len(MOTIONS)],
                'colour': [*COLOURS][i % len(COLOURS)],
            }
            video = render(
                shape=names['shape'],
                motion=names['motion'],
                num_frames=num_frames,
                resolution=resolution,
                rng=np.random.default_rng([seed, i]),
                colour=names['colour'] if by_class == 'colour' else None,
            )
            folder = names[by_class] if by_class else ''
            write_video(temporary / folder / f'{i:05d}.mp4', video, fps)


def main() -> None:
    """Read the command line and write the data set."""
    parser = tool_parser(__doc__)
    parser.add_argument('out_dir', help='folder to make')
    parser.add_argument('--num-videos', type=video_count, default=200)
    parser.add_argument(
        '--num-frames', type=whole_number(1, 10**4), default=64
    )
    parser.add_argument('--resolution', type=whole_number(1, 1024), default=64)
    parser.add_argument('--fps', type=frame_rate, default=25)
    parser.add_argument('--seed', type=seed_number, default=0)
    parser.add_argument(
        '--by-class',
        choices=('shape', 'motion', 'colour'),
        help='one folder for each shape, motion or colour (class labels)',
    )
    args = parser.parse_args()
    make_dataset(**vars(args))
    print(f'{args.num_videos} videos in {args.out_dir}')


if __name__ == '__main__':
    run_tool(main)
