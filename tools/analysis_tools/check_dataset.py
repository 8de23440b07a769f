"""Show what a folder or zip of videos holds and what to set in the config.

Example:
    python tools/analysis_tools/check_dataset.py data/clips --preview clips.png
"""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from stylegan_v_mm.datasets.labels import load_labels
from stylegan_v_mm.datasets.transforms import ResizeCrop, SampleClip
from stylegan_v_mm.datasets.video_sources import (
    VideoFile,
    VideoSource,
    find_videos,
    join_some,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.tool import run_tool
from stylegan_v_mm.video_io import DamagedVideoError, video_grid


def frame_size(source: VideoSource) -> tuple[int, int]:
    """Width and height of a video in pixels; (0, 0) if it is damaged."""
    if isinstance(source, VideoFile):
        return source.index.width, source.index.height
    try:
        height, width = source.read([0]).shape[1:3]
    except DamagedVideoError:
        return 0, 0
    return width, height


def describe(
    data: str, labels: str | None, num_frames: int, max_dist: int
) -> list[tuple[str, str]]:
    """Collect what is there.

    Args:
        data: Data root.
        labels: As for ``VideoDataset``.
        num_frames: Frames in a clip.
        max_dist: Largest distance of the first and last frame of a clip.

    Returns:
        Rows (what, value) for people.

    Raises:
        InputError: If there is nothing to read or no clip to take.
    """
    needed = SampleClip(num_frames, max_dist=max_dist).min_num_frames
    sources = find_videos(data)
    c, classes = load_labels(data, [s.name for s in sources], labels)
    sizes = [
        frame_size(source)
        for source in tqdm(sources, 'Looking', unit='video', disable=None)
    ]
    lens = np.array([len(source) for source in sources])
    usable = lens >= needed
    damaged = [f'{s.name} ({s.problem})' for s in sources if s.problem]
    damaged += [
        f'{source.name} (first frame is not an image)'
        for source, size in zip(sources, sizes)
        if size == (0, 0) and not source.problem
    ]
    short = [
        f'{source.name} ({len(source)})'
        for source, ok in zip(sources, usable)
        if not ok and len(source)
    ]
    kind = {
        'VideoFile': 'video files',
        'FrameFolder': 'frame folders',
        'ZippedFrames': 'frame folders in a zip',
    }[type(sources[0]).__name__]
    rows = [
        ('layout', kind),
        ('videos', f'{len(sources)}, {usable.sum()} usable'),
        (
            'frames',
            f'{lens.sum()}; per video {lens.min()} to {lens.max()}, median '
            f'{np.median(lens):g}',
        ),
        ('sizes', _count(f'{w}x{h}' for w, h in sizes if w)),
    ]
    if isinstance(sources[0], VideoFile):
        read = [source.index for source in sources if len(source)]
        rows += [
            ('frame rates', _count(f'{index.fps:.4g}' for index in read)),
            ('codecs', _count(index.codec for index in read)),
        ]
    if classes:
        counts = [
            f'{name} ({count:g})'
            for name, count in zip(classes, c.sum(axis=0))
        ]
        rows.append(('classes', f'{len(classes)}: {join_some(counts)}'))
    elif labels:
        rows.append(('labels', f'{c.shape[1]} numbers per video'))
    rows.append(('damaged', join_some(damaged) or 'none found'))
    rows.append(
        (f'under {needed} frames', join_some(short) or 'none, all are usable')
    )
    sides = [min(size) for size, ok in zip(sizes, usable) if ok and min(size)]
    if not sides:
        raise InputError(
            f'{data}: none of {len(sources)} videos can be used: '
            + '; '.join(f'{key}: {value}' for key, value in rows[-2:])
        )
    return rows + suggestions(sides, lens[usable], c.shape[1])


def suggestions(
    sides: Sequence[int], lens: np.ndarray, c_dim: int
) -> list[tuple[str, str]]:
    """Choose config values.

    Args:
        sides: Shorter side of each usable video in pixels.
        lens: Their lengths in frames.
        c_dim: Width of the labels.

    Returns:
        Rows (config variable, value).
    """
    # Three of four videos then need no enlarging.
    typical = np.percentile(sides, 25)
    resolution = int(np.clip(2 ** np.floor(np.log2(typical)), 16, 1024))
    return [
        ('', ''),
        ('resolution', f'{resolution} at most'),
        ('max_num_frames', str(min(1024, lens.max()))),
        ('c_dim', str(c_dim)),
    ]


def write_preview(
    data: str,
    path: str | os.PathLike,
    num_videos: int = 12,
    num_frames: int = 6,
    resolution: int = 128,
) -> None:
    """Write a contact sheet: one row per video, frames from start to end.

    Args:
        data: Data root.
        path: Image to write.
        num_videos: Most rows; the videos are spread over the data set.
        num_frames: Columns.
        resolution: Width and height of a cell in pixels.

    Raises:
        InputError: If the image cannot be written.
    """
    sources = [source for source in find_videos(data) if len(source)]
    picks = np.unique(np.linspace(0, len(sources) - 1, num_videos).astype(int))
    cells = []
    for source in (sources[i] for i in picks):
        inds = np.linspace(0, len(source) - 1, num_frames).astype(int)
        try:
            clip = {'frames': source.read(inds)}
        except DamagedVideoError:
            continue
        cells += [*ResizeCrop(resolution)(clip)['frames']]
    if not cells:
        raise InputError(f'{data}: no video to show can be decoded')
    images = torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2)
    sheet = video_grid(images[:, None], ncols=num_frames)[0]
    path = Path(path)
    temporary = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        bgr = cv2.cvtColor(sheet.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(temporary), bgr):
            raise InputError(f'{path} cannot be written')
        os.replace(temporary, path)
    except cv2.error:
        raise InputError(f'{path}: give a .png or .jpg file') from None


def _count(values) -> str:
    counts = Counter(values).most_common()
    return join_some([f'{value} ({count})' for value, count in counts], 8)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'data', help='folder of videos, or folder or zip of frame folders'
    )
    parser.add_argument('--num-frames', type=int, default=3)
    parser.add_argument('--max-dist', type=int, default=32)
    parser.add_argument(
        '--labels', help='"folder", or a .json or .csv file of labels'
    )
    parser.add_argument('--preview', help='contact sheet to write (.png)')
    args = parser.parse_args()
    rows = describe(args.data, args.labels, args.num_frames, args.max_dist)
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f'{key:{width}}  {value}' if key else '\nwhat to set')
    if args.preview:
        write_preview(args.data, args.preview)
        print(f'\npreview in {args.preview}')


if __name__ == '__main__':
    run_tool(main)
