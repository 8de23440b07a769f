r"""Make a set of frozen videos: of each video, copies of one random frame.

A distance of videos that is small between this set and the videos themselves
does not see motion.

Example:
    python tools/dataset_converters/freeze_videos.py data/clips data/frozen \
        --num-frames 16
"""

import argparse
import os
import shutil
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from conversion import (
    add_picture_options,
    add_resolution,
    make_parser,
    run_jobs,
)

from stylegan_v_mm.cli import positive_int, run_tool, seed_number
from stylegan_v_mm.datasets.conversion.frames import (
    output_names,
    problem_of,
    read_frames,
    write_pictures,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.files import atomic_write


def write_frozen(
    frames: Iterator[np.ndarray], path: Path, num_frames: int, **options: Any
) -> None:
    """Write a frame folder whose files are one: it takes no more space."""
    with atomic_write(path) as folder:
        write_pictures(frames, folder, **options)
        (first,) = folder.iterdir()
        for i in range(1, num_frames):
            copy = folder / f'{i:06d}{first.suffix}'
            try:
                os.link(first, copy)
            except OSError:  # this file system has no links, or not so many
                shutil.copyfile(first, copy)


def plan(args: argparse.Namespace) -> list[Job]:
    """List the frame folders to be made."""
    jobs = []
    sources = find_videos(args.src)
    for source, name in zip(sources, output_names(sources)):
        # Another video more or less does not change the others' frames.
        key = zlib.crc32(os.fsencode(source.name))
        rng = np.random.default_rng([args.seed, key])
        inds = rng.integers(max(len(source), 1), size=1)
        jobs.append(
            Job(
                source=source.name,
                name=name,
                num_items=1,
                items=partial(
                    read_frames,
                    source,
                    inds,
                    args.resolution,
                    keep_damaged=args.keep_damaged,
                ),
                write=partial(
                    write_frozen,
                    num_frames=args.num_frames or len(source),
                    format=args.format,
                    quality=args.quality,
                ),
                problem=problem_of(source, args.keep_damaged),
            )
        )
    return jobs


def main() -> None:
    """Read the command line and freeze."""
    parser = make_parser(
        __doc__,
        'folder or zip of videos, or a video file',
        'folder to make, or a file that ends in .zip',
    )
    parser.add_argument(
        '--num-frames', type=positive_int, help='default: as the video has'
    )
    parser.add_argument('--seed', type=seed_number, default=0)
    add_resolution(parser)
    add_picture_options(parser)
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
