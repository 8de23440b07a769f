r"""Shorten videos: leave out the first frames, keep at most so many.

Frame folders give folders of the same pictures, copied byte by byte; video
files are encoded again, as mp4.

Example, without titles and at most 1024 frames:
    python tools/dataset_converters/crop_time.py data/clips data/short_clips \
        --drop-first 50 --max-frames 1024
"""

import argparse
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from conversion import make_parser, refuse_zip, run_jobs

from stylegan_v_mm.cli import count, positive_int, real_number, run_tool
from stylegan_v_mm.datasets.conversion.frames import (
    fps_of,
    output_names,
    pixel_aspect_of,
    problem_of,
    read_frames,
    write_mp4,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.archives import ZippedFrames
from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write


def copy_files(files: Iterator[Path], folder: Path) -> None:
    """Copy files to a folder that is not there yet."""
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for file in files:
            shutil.copyfile(file, temporary / file.name)


def plan(args: argparse.Namespace) -> list[Job]:
    """List the videos to be made."""
    refuse_zip(args.out)
    jobs = []
    sources = find_videos(args.src)
    for source, name in zip(sources, output_names(sources)):
        if isinstance(source, ZippedFrames):
            raise InputError(f'{args.src}: unpack the zip first')
        inds = np.arange(len(source))[args.drop_first :][: args.max_frames]
        if isinstance(source, FrameFolder):
            files = [Path(source.path, source.files[i]) for i in inds]
            items, write = partial(iter, files), copy_files
        else:
            name += '.mp4'
            items = partial(
                read_frames, source, inds, keep_damaged=args.keep_damaged
            )
            write = partial(
                write_mp4,
                fps=fps_of(source),
                crf=args.crf,
                pixel_aspect=pixel_aspect_of(source),
            )
        short = '' if len(inds) else f'it has only {len(source)} frames'
        problem = problem_of(source, args.keep_damaged) or short
        jobs.append(
            Job(
                source=source.name,
                name=name,
                num_items=len(inds),
                items=items,
                write=write,
                problem=problem,
            )
        )
    return jobs


def main() -> None:
    """Read the command line and shorten."""
    parser = make_parser(
        __doc__,
        'folder of videos or of frame folders, or a video file',
        'folder to make',
    )
    parser.add_argument(
        '--drop-first', type=count, default=0, help='frames to leave out'
    )
    parser.add_argument(
        '--max-frames', type=positive_int, help='frames to keep; default: all'
    )
    parser.add_argument(
        '--crf',
        type=real_number(0, 51),
        default=16,
        help='quality of x264, from 0 (best) to 51; default: 16',
    )
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
