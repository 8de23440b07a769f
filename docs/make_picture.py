"""Lay frames of videos out in one picture, for docs/make_pictures.sh.

    python docs/make_picture.py VIDEO ... --frames 0:36:5 --out rows.png
    python docs/make_picture.py VIDEO ... --frames 0:80 --columns 6 \
        --out grid.webp

The first command draws these frames of each video in a row. The second draws
an animated grid with this many columns.
"""

import argparse
from pathlib import Path

import torch

from stylegan_v_mm.cli import positive_int, run_tool
from stylegan_v_mm.datasets.sources.finding import open_video
from stylegan_v_mm.datasets.transforms import ResizeCrop
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference.writing import pictures
from stylegan_v_mm.video.encoding import video_grid


def frame_range(text: str) -> range:
    """Read START:STOP or START:STOP:STEP."""
    return range(*map(int, text.split(':')))


def read(path: Path, frames: range, resolution: int | None) -> torch.Tensor:
    """Read frames of a video, uint8 [T, 3, H, W]."""
    video = open_video(path).read(list(frames))
    if resolution is not None:
        video = ResizeCrop(resolution)({'frames': video})['frames']
    return torch.from_numpy(video.copy()).permute(0, 3, 1, 2)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('videos', type=Path, nargs='+')
    parser.add_argument(
        '--frames',
        type=frame_range,
        nargs='+',
        required=True,
        help='START:STOP or START:STOP:STEP: one for all videos, or one each',
    )
    parser.add_argument('--columns', type=positive_int, default=1)
    parser.add_argument('--resolution', type=positive_int, help='to resize to')
    parser.add_argument('--out', type=Path, required=True, help='png or webp')
    args = parser.parse_args()
    frames = args.frames
    if len(frames) == 1:
        frames = frames * len(args.videos)
    if len(frames) != len(args.videos):
        raise InputError(
            f'--frames: {len(frames)} for {len(args.videos)} videos'
        )
    videos = [
        read(path, these, args.resolution)
        for path, these in zip(args.videos, frames)
    ]
    if args.out.suffix == '.png':
        rows = [video_grid(video[:, None], len(video)) for video in videos]
        grid = video_grid(torch.stack(rows), args.columns)
        next(pictures([grid])).save(args.out, optimize=True)
        return
    grid = video_grid(torch.stack(videos), args.columns)
    # Viewers would blur the pixels if they enlarged them.
    grid = grid.repeat_interleave(2, -1).repeat_interleave(2, -2)
    first, *others = pictures([grid])
    # Lossy, for web pages; write_animation's are lossless and far larger.
    first.save(
        args.out,
        save_all=True,
        append_images=others,
        duration=50,  # ms: 20 frames a second
        loop=0,
        quality=75,
    )


if __name__ == '__main__':
    run_tool(main)
