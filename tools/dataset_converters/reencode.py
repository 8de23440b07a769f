"""Encode videos again, so that any frame of them is found fast.

A frame can only be decoded from the key frame before it, and most files have
one in 250 frames. Here it is one in four: files of about twice the size, from
which random clips come faster. Frames are turned upright, sound is left out,
class folders stay.

Example:
    python tools/dataset_converters/reencode.py data/clips data/fast_clips
"""

import argparse
from functools import partial

import numpy as np
from conversion import (
    add_resolution,
    add_square_pixels,
    make_parser,
    refuse_zip,
    run_jobs,
)

from stylegan_v_mm.cli import positive_int, real_number, run_tool
from stylegan_v_mm.datasets.conversion.frames import (
    fps_of,
    output_names,
    pixel_aspect_of,
    problem_of,
    read_frames,
    write_mp4,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.finding import find_videos


def plan(args: argparse.Namespace) -> list[Job]:
    """List the files to be made."""
    refuse_zip(args.out)
    sources = find_videos(args.src)
    return [
        Job(
            source=source.name,
            name=f'{name}.mp4',
            num_items=len(source),
            items=partial(
                read_frames,
                source=source,
                frame_inds=np.arange(len(source)),
                resolution=args.resolution,
                square_pixels=args.square_pixels,
                keep_damaged=args.keep_damaged,
            ),
            write=partial(
                write_mp4,
                fps=fps_of(source),
                crf=args.crf,
                gop=args.gop,
                pixel_aspect=(
                    1 if args.square_pixels else pixel_aspect_of(source)
                ),
            ),
            problem=problem_of(source, args.keep_damaged),
        )
        for source, name in zip(sources, output_names(sources))
    ]


def main() -> None:
    """Read the command line and encode."""
    parser = make_parser(
        __doc__, 'folder of videos, or a video file', 'folder to make'
    )
    parser.add_argument(
        '--gop',
        type=positive_int,
        default=4,
        help='frames from one key frame to the next, at most',
    )
    parser.add_argument(
        '--crf',
        type=real_number(0, 51),
        default=16,
        help='quality of x264, from 0 (best) to 51; default: 16',
    )
    add_resolution(parser)
    add_square_pixels(parser)
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
