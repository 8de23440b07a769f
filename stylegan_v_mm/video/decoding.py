"""Decode chosen frames, or long stretches, of video files."""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat

import av
import numpy as np

from .index import VideoIndex, name_damaged
from .reader import DamagedVideoError, Reader

# At most 64 files stay open, or fewer if their frames are larger than
# 256 x 256 pixels: a decoder holds about ten frames in memory.
MAX_OPEN_PIXELS = 64 * 256**2


def decode_frames(
    index: VideoIndex, frame_inds: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Decode frames of a video, and only the frames that they depend on.

    Args:
        index: From :func:`index_video`.
        frame_inds: [T], integers in [0, index.num_frames), in any order,
            repetitions allowed.

    Returns:
        [T, H, W, 3], uint8, RGB, turned upright; pixels as stored (a pixel
        aspect ratio is not applied).

    Raises:
        IndexError: If the video does not have one of the frames.
        DamagedVideoError: If a frame is damaged or cannot be decoded.
    """
    frame_inds = np.asarray(frame_inds, dtype=np.int64)
    if frame_inds.min() < 0 or frame_inds.max() >= index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {frame_inds.tolist()}'
        )
    wanted = np.unique(frame_inds)
    _check_intact(index, wanted)
    # The key frame before each frame; -1: the start of the file.
    keys = np.searchsorted(index.key_inds, wanted, side='right') - 1
    frames: dict[int, np.ndarray] = {}
    try:
        with _kept_open(index.path) as reader:
            for key in np.unique(keys).tolist():
                group = wanted[keys == key].tolist()
                frames |= _decode_group(reader, index, key, group)
    except (av.FFmpegError, OSError) as error:
        raise DamagedVideoError(
            f'{index.path}: decoding fails: {error.strerror}'
        ) from None
    if len({frame.shape for frame in frames.values()}) > 1:
        raise DamagedVideoError(f'{index.path}: frames differ in size')
    return np.stack([frames[i] for i in frame_inds.tolist()])


def iter_frames(
    index: VideoIndex, frame_inds: Sequence[int] | np.ndarray
) -> Iterator[np.ndarray]:
    """Decode frames of a video in one pass, in constant memory.

    This is for long stretches; :func:`decode_frames` is for a few frames
    anywhere.

    Args:
        index: From :func:`index_video`.
        frame_inds: [T], integers in [0, index.num_frames), ascending,
            repetitions allowed.

    Yields:
        [H, W, 3], uint8, RGB, turned upright, for each of ``frame_inds``.

    Raises:
        IndexError: If the video does not have one of the frames.
        DamagedVideoError: If a frame is damaged or cannot be decoded. Frames
            that were yielded before may depend on it, so none of them should
            be used.
    """
    wanted, counts = np.unique(frame_inds, return_counts=True)
    if not len(wanted):
        return
    if not 0 <= wanted[0] <= wanted[-1] < index.num_frames:
        raise IndexError(
            f'{index.path} has frames 0 to {index.num_frames - 1}, '
            f'got {wanted[0]} to {wanted[-1]}'
        )
    _check_intact(index, wanted)
    images = _in_one_pass(index, deque(wanted.tolist()))
    try:
        # strict=True runs the generator to its end, where it checks what was
        # decoded with the last image.
        for image, count in zip(images, counts, strict=True):
            yield from repeat(image, count)
    except (av.FFmpegError, OSError) as error:
        raise DamagedVideoError(
            f'{index.path}: decoding fails: {error.strerror}'
        ) from None


_local = threading.local()


@contextmanager
def _kept_open(path: str) -> Iterator[Reader]:
    """Yield an open reader of a file, at no particular position."""
    if not hasattr(_local, 'readers'):
        # Keyed by path and version of the file, the last used one at the end.
        _local.readers = OrderedDict()
    readers = _local.readers
    stat = os.stat(path)
    key = path, stat.st_ino, stat.st_size, stat.st_mtime_ns
    # Taken out while it is used, so that after an error it stays out.
    reader = readers.pop(key, None) or Reader(path)
    try:
        yield reader
    except BaseException:
        reader.close()
        raise
    readers[key] = reader
    while (
        len(readers) > 1
        and sum(r.pixels for r in readers.values()) > MAX_OPEN_PIXELS
    ):
        readers.popitem(last=False)[1].close()


def _close_readers() -> None:
    for reader in _local.__dict__.pop('readers', {}).values():
        reader.close()


# Processes that share an open file share its file position, too.
os.register_at_fork(after_in_child=_close_readers)


def _check_intact(index: VideoIndex, wanted: np.ndarray) -> None:
    damaged = np.intersect1d(wanted, index.damaged)
    if len(damaged):
        raise DamagedVideoError(f'{index.path}: {name_damaged(damaged)}')


def _decode_group(
    reader: Reader, index: VideoIndex, key: int, group: list[int]
) -> dict[int, np.ndarray]:
    """Decode frames that follow one key frame.

    If decoding from that key frame does not give all of them (it is not a
    clean entry point, or seeking misses it), try earlier and earlier ones.
    """
    frames: dict[int, np.ndarray] = {}
    start = int(index.key_inds[key]) if key >= 0 else 0
    back = 1
    while key >= 0:
        found, damage = _collect(
            reader, index, group, start, from_pts=int(index.key_pts[key])
        )
        if damage and back > 1:
            # The damage does not depend on where decoding starts.
            raise DamagedVideoError(damage)
        if not damage:
            frames |= found
            if len(frames) == len(group):
                return frames
        key, back = key - back, back * 2
    with Reader(index.path) as from_start:
        found, damage = _collect(from_start, index, group, start)
    frames |= found
    if damage:
        raise DamagedVideoError(damage)
    if len(frames) < len(group):
        missing = sorted(set(group) - set(frames))
        raise DamagedVideoError(
            f'{index.path}: frames {missing} cannot be decoded'
        )
    return frames


def _collect(
    reader: Reader,
    index: VideoIndex,
    group: list[int],
    start: int,
    from_pts: int | None = None,
) -> tuple[dict[int, np.ndarray], str]:
    """Decode until all frames of a group are found or passed.

    Args:
        reader: Reader of the file.
        index: Index of the file.
        group: Indices of the frames.
        start: Index of the first frame that they can depend on.
        from_pts: Time stamp to seek to; None if the file was just opened.

    Returns:
        The frames, keyed by index, and a message that names the first damaged
        frame among all that were decoded for them, '' if there is none.
    """
    wanted = {int(index.pts[i]): i for i in group}
    last, first = max(wanted), int(index.pts[start])
    decoded = reader.frames(from_pts, wanted if index.regular else None)
    frames: dict[int, np.ndarray] = {}
    damage = ''
    for number, frame in enumerate(decoded):
        pts = frame.pts if len(index.key_pts) else number
        if pts is None:
            continue
        if frame.is_corrupt and (
            pts in wanted or (index.regular and pts >= first)
        ):
            i = np.searchsorted(index.pts, pts)
            damage = damage or f'{index.path}: frame {i} is damaged'
        elif pts in wanted:
            frames[wanted[pts]] = reader.to_image(frame, index.orientation)
        # The frames of a regular file end by themselves after the last one.
        if len(frames) == len(wanted) and not index.regular:
            break
        if len(frames) < len(wanted) and index.regular and pts > last:
            break
    return frames, damage


def _in_one_pass(index: VideoIndex, left: deque[int]) -> Iterator[np.ndarray]:
    """Decode ascending frames from the key frame before the first one on.

    Where that key frame is not a clean entry point, or seeking misses it,
    single frames are decoded on their own, and the rest from the start of the
    file.
    """
    number_of: dict[int | None, int] = {
        int(pts): i for i, pts in enumerate(index.pts)
    }
    keys = set(index.key_inds.tolist())
    only = {int(index.pts[i]) for i in left} if index.regular else None
    key = np.searchsorted(index.key_inds, left[0], side='right') - 1
    starts = [int(index.key_pts[key])] if key >= 0 else []
    for from_pts in [*starts, None]:
        with Reader(index.path) as reader:
            # Among the packets since the last key frame: the first damaged
            # one, and the last one whose frame was yielded.
            damaged, given = np.inf, -1
            for count, frame in enumerate(reader.frames(from_pts, only)):
                pts = frame.pts if len(index.key_pts) else count
                number, packet = number_of.get(pts, -1), reader.origin(frame)
                while left and left[0] < number:
                    yield decode_frames(index, [left.popleft()])[0]
                wanted = bool(left) and left[0] == number
                if frame.is_corrupt:
                    damaged = min(damaged, packet)
                elif number in keys:
                    damaged, given = (
                        damaged if damaged > packet else np.inf,
                        -1,
                    )
                if wanted:
                    given = max(given, packet)
                if (damaged <= given and index.regular) or (
                    wanted and frame.is_corrupt
                ):
                    raise DamagedVideoError(
                        f'{index.path}: frame {number} is damaged'
                    )
                if wanted:
                    left.popleft()
                    yield reader.to_image(frame, index.orientation)
                # The frames of a regular file end by themselves.
                if not left and not index.regular:
                    return
        if not left:
            return
    raise DamagedVideoError(f'{index.path}: frame {left[0]} is missing')
