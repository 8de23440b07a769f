r"""Cut the faces out of FaceForensics, as frame folders.

SRC is the folder that holds ``original`` and ``mask`` (FaceForensics'
``train``); a mask video is white where its video shows no face. The box of
a face is that of the columns and rows whose darkness in the mask, 255 minus
the colour, summed over the three channels, has a mean above 5; made square,
moved into the picture where it sticks out.

The published data set has a box of its own for each frame, so that faces
shake; ``--one-box`` takes one around all of a video's, so that they do not.

Example:
    python tools/dataset_converters/face_forensics.py \
        FaceForensics_compressed/train data/face_forensics --format jpg
"""

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np
from conversion import add_picture_options, make_parser, run_jobs

from stylegan_v_mm.cli import picture_size, run_tool
from stylegan_v_mm.datasets.conversion.frames import (
    bare_name,
    intact_frames,
    problem_of,
    read_frames,
    resize,
    write_pictures,
)
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.finding import VideoSource, find_videos
from stylegan_v_mm.video.reader import DamagedVideoError

THRESHOLD = 5


def face_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Find the face in a frame of a mask video.

    Args:
        mask: [H, W, 3], uint8, white where there is no face.

    Returns:
        Left, top, right, bottom in pixels, the last two exclusive; None if
        there is no face.
    """
    darkness = (255 - mask).sum(axis=2, dtype=np.int64)
    columns = np.flatnonzero(darkness.mean(axis=0) > THRESHOLD)
    rows = np.flatnonzero(darkness.mean(axis=1) > THRESHOLD)
    if not len(columns) or not len(rows):
        return None
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def square(
    box: tuple[int, int, int, int], width: int, height: int
) -> tuple[int, int, int]:
    """Extend a box to a square that lies in the picture.

    Args:
        box: Left, top, right, bottom in pixels.
        width: Width of the picture.
        height: Height of the picture.

    Returns:
        Left, top and side. The centre is the box's, unless the square would
        leave the picture; the side its longer one, unless the picture has no
        room for it.
    """
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top), width, height)
    x = (left + right - side) // 2
    y = (top + bottom - side) // 2
    return (
        int(np.clip(x, 0, width - side)),
        int(np.clip(y, 0, height - side)),
        side,
    )


def find_boxes(
    mask: VideoSource, inds: np.ndarray, one_box: bool
) -> list[tuple[int, int, int, int]]:
    """Find the face in each frame of a mask video.

    Args:
        mask: The mask video.
        inds: [T], its frames.
        one_box: Give all frames the smallest box around all boxes.

    Returns:
        T boxes. Frames without a face have that of the frame before, or of
        the first one with a face.

    Raises:
        DamagedVideoError: If there is no face in any frame.
    """
    boxes = [face_box(frame) for frame in read_frames(mask, inds)]
    found = [box for box in boxes if box]
    if not found:
        raise DamagedVideoError(f'{mask.name}: no face in any frame')
    if one_box:
        corners = np.array(found)
        box = (*corners.min(axis=0)[:2], *corners.max(axis=0)[2:])
        return [box] * len(boxes)
    last = found[0]
    return [last := box or last for box in boxes]


def read_faces(
    video: VideoSource,
    mask: VideoSource,
    inds: np.ndarray,
    one_box: bool,
    resolution: int,
    keep_damaged: bool,
) -> Iterator[np.ndarray]:
    """Decode frames and cut out the faces, [R, R, 3], uint8, RGB."""
    if keep_damaged:
        inds = intact_frames(mask, intact_frames(video, inds))
    size = video.read(inds[:1]).shape[1:3]
    mask_size = mask.read(inds[:1]).shape[1:3]
    if size != mask_size:
        raise DamagedVideoError(
            f'{mask.name}: {mask_size[1]}x{mask_size[0]} pixels, but the '
            f'video has {size[1]}x{size[0]}'
        )
    boxes = find_boxes(mask, inds, one_box)
    for frame, box in zip(read_frames(video, inds), boxes):
        left, top, side = square(box, size[1], size[0])
        face = frame[top : top + side, left : left + side]
        yield resize(face, resolution)


def plan(args: argparse.Namespace) -> list[Job]:
    """List the frame folders to be made."""
    write = partial(write_pictures, format=args.format, quality=args.quality)
    masks = {bare_name(m): m for m in find_videos(args.src / 'mask')}
    jobs = []
    for video in find_videos(args.src / 'original'):
        name = bare_name(video)
        problem = problem_of(video, args.keep_damaged)
        inds = np.arange(0)
        if name not in masks:
            problem = problem or 'it has no mask video'
        else:
            mask = masks[name]
            problem = problem or problem_of(mask, args.keep_damaged)
            inds = np.arange(min(len(video), len(mask)))
        items = partial(
            read_faces,
            video=video,
            mask=masks.get(name, video),  # a job with a problem reads nothing
            inds=inds,
            one_box=args.one_box,
            resolution=args.resolution,
            keep_damaged=args.keep_damaged,
        )
        jobs.append(
            Job(
                source=video.name,
                name=name,
                num_items=len(inds),
                items=items,
                write=write,
                problem=problem,
            )
        )
    return jobs


def main() -> None:
    """Read the command line and cut."""
    parser = make_parser(
        __doc__,
        'folder that holds original/ and mask/',
        'folder to make, or a file that ends in .zip',
    )
    parser.add_argument('--resolution', type=picture_size, default=256)
    parser.add_argument(
        '--one-box', action='store_true', help='one box a video: no shaking'
    )
    add_picture_options(parser)
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
