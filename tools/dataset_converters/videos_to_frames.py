r"""Turn videos into frame folders, or a zip of them, that train fastest.

Class folders and other folders stay as they are: SRC/run/1.mp4 becomes
OUT/run/1/000000.png, ... or the same in OUT.zip.

Example:
    python tools/dataset_converters/videos_to_frames.py data/ucf101 \
        data/ucf101_128.zip --resolution 128 --format jpg --quality 95
"""

import argparse
from functools import partial

import numpy as np
from conversion import (
    add_picture_options,
    add_resolution,
    add_square_pixels,
    make_parser,
    run_jobs,
)

from stylegan_v_mm.cli import frame_rate, positive_int, run_tool
from stylegan_v_mm.datasets.conversion.frames import (
    output_names,
    problem_of,
    read_frames,
    write_pictures,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.archives import ZippedFrames
from stylegan_v_mm.datasets.sources.finding import VideoSource, find_videos
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.index import VideoIndex

#: Of a video that is resampled: damaged time stamps can be any number.
MAX_FRAMES = 10**7


def frame_times(index: VideoIndex) -> np.ndarray | None:
    """Compute at which times a video's frames are shown.

    Args:
        index: Of the video.

    Returns:
        [num_frames], seconds from 0 on; None if the file tells neither times
        nor a frame rate.
    """
    stamps = index.pts - index.pts[0]
    if len(index.key_pts) and np.all(np.diff(stamps) > 0):
        return stamps * index.time_base
    return np.arange(index.num_frames) / index.fps if index.fps else None


def resample(times: np.ndarray, fps: float) -> np.ndarray:
    """Choose the frame that is shown at each of the times 0, 1/fps, 2/fps...

    Args:
        times: [num_frames], seconds, when each frame is first shown, from 0
            on. The last one is shown for as long as the mean of the others.
        fps: Frames per second wanted.

    Returns:
        [T], int64, ascending.
    """
    spacing = times[-1] / (len(times) - 1) if len(times) > 1 else 1 / fps
    # A thousandth of a frame of slack against rounding.
    slack = 1e-3 * spacing
    count = np.ceil((times[-1] + spacing - slack) * fps)
    wanted = np.arange(count) / fps
    return np.searchsorted(times, wanted + slack, side='right') - 1


def choose_frames(
    source: VideoSource, fps: float | None, max_frames: int | None
) -> tuple[np.ndarray, str]:
    """Choose the frames of a video to write; return what prevents it."""
    inds = np.arange(len(source))
    if fps and len(source):
        if isinstance(source, FrameFolder | ZippedFrames):
            raise InputError(
                f'{source.name}: --fps needs video files, frame folders have '
                'no frame rate'
            )
        times = (
            frame_times(source.index)
            if isinstance(source, VideoFile)
            else source.times
        )
        if times is None:
            return inds, 'its frame rate is unknown'
        if times[-1] * fps > MAX_FRAMES:
            return inds, f'it is said to last {times[-1]:.0f} s'
        inds = resample(times, fps)
    return inds[:max_frames], ''


def plan(args: argparse.Namespace) -> list[Job]:
    """List the frame folders to be made."""
    write = partial(write_pictures, format=args.format, quality=args.quality)
    jobs = []
    sources = find_videos(args.src)
    for source, name in zip(sources, output_names(sources)):
        inds, hindrance = choose_frames(source, args.fps, args.max_frames)
        jobs.append(
            Job(
                source=source.name,
                name=name,
                num_items=len(inds),
                items=partial(
                    read_frames,
                    source=source,
                    frame_inds=inds,
                    resolution=args.resolution,
                    square_pixels=args.square_pixels,
                    keep_damaged=args.keep_damaged,
                ),
                write=write,
                problem=problem_of(source, args.keep_damaged) or hindrance,
            )
        )
    return jobs


def main() -> None:
    """Read the command line and convert."""
    parser = make_parser(
        __doc__,
        'folder or zip of videos, or a video file',
        'folder to make, or a file that ends in .zip',
    )
    add_resolution(parser)
    parser.add_argument(
        '--fps', type=frame_rate, help='frames per second; default: all'
    )
    parser.add_argument(
        '--max-frames', type=positive_int, help='of a video; default: all'
    )
    add_square_pixels(parser)
    add_picture_options(parser)
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
