r"""Cut one long video into many: chunks of equal length, as frame folders.

The central square is kept. What does not fill a chunk is left out.

Example, RainbowJelly:
    python tools/dataset_converters/split_video.py rainbow_jelly.mp4 \
        data/rainbow_jelly --resolution 256 --start-frame 150 \
        --chunk-frames 512
"""

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
from conversion import add_picture_options, make_parser, run_jobs

from stylegan_v_mm.cli import count, picture_size, positive_int, run_tool
from stylegan_v_mm.datasets.conversion.frames import (
    bare_name,
    problem_of,
    read_frames,
    write_pictures,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.finding import VideoSource, find_videos
from stylegan_v_mm.errors import InputError


def read_square(
    source: VideoSource, inds: np.ndarray, resolution: int | None
) -> Iterator[np.ndarray]:
    """Decode frames, [R, R, 3]; by default as large as the square in them."""
    if resolution is None:
        resolution = min(source.read(inds[:1]).shape[1:3])
    return read_frames(source, inds, resolution)


def plan(args: argparse.Namespace) -> list[Job]:
    """List the chunks to be made."""
    sources = find_videos(args.src)
    if len(sources) > 1:
        raise InputError(
            f'{args.src} holds {len(sources)} videos: give one of them'
        )
    (source,) = sources
    if problem := problem_of(source, args.keep_damaged):
        raise InputError(f'{args.src}: {problem}')
    num_frames = len(source) - args.start_frame
    length = args.chunk_frames or num_frames // args.num_chunks
    if not 1 <= length <= num_frames:
        raise InputError(
            f'{args.src}: {max(num_frames, 0)} frames from frame '
            f'{args.start_frame} on are too few for such chunks'
        )
    name = bare_name(source).rpartition('/')[2]
    write = partial(write_pictures, format=args.format, quality=args.quality)
    num_chunks = args.num_chunks or num_frames // length
    bounds = args.start_frame + length * np.arange(num_chunks + 1)
    jobs = []
    for i, start in enumerate(bounds.tolist()):
        is_rest = i == num_chunks
        stop = len(source) if is_rest else start + length
        inds = np.arange(start, stop)
        if len(inds):
            jobs.append(
                Job(
                    source=f'frames {start} to {stop - 1}',
                    name=f'{name}_{i:04d}',
                    num_items=len(inds),
                    items=partial(read_square, source, inds, args.resolution),
                    write=write,
                    problem='they do not fill a chunk' if is_rest else '',
                )
            )
    return jobs


def main() -> None:
    """Read the command line and cut."""
    parser = make_parser(
        __doc__,
        'video file, or a folder of one video',
        'folder to make, or a file that ends in .zip',
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument(
        '--chunk-frames', type=positive_int, help='frames of a chunk'
    )
    length.add_argument(
        '--num-chunks', type=positive_int, help='number of chunks'
    )
    parser.add_argument(
        '--start-frame', type=count, default=0, help='leave out those before'
    )
    parser.add_argument(
        '--resolution', type=picture_size, help='default: as it is'
    )
    add_picture_options(parser)
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
