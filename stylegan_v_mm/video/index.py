"""List the frames of a video file, decoding as little as possible."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from PIL import Image

from .reader import (
    MAX_FPS,
    MIN_FPS,
    DamagedVideoError,
    PacketScan,
    PacketTimes,
    Reader,
    exif_orientation,
)


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """What is needed to decode any frame of a video file.

    Attributes:
        path: The file.
        codec: Name of its codec.
        width: Width of a frame in pixels, turned upright.
        height: Height of a frame in pixels, turned upright.
        orientation: How decoded frames lie, see :func:`upright`.
        pixel_aspect: Width of a pixel divided by its height, in upright
            frames; 1 if unknown.
        fps: Frames per second on average, 0 if unknown.
        time_base: Seconds in which time stamps count.
        pts: [num_frames], int64, the time stamp by which the decoder names
            each frame, in the order of showing; unique. Without ``key_pts``
            its number.
        key_pts: [K], int64, time stamps one can seek to; empty if the file
            has no usable ones, then frames are counted from the start.
        key_inds: [K], int64, the first frame that decoding from there gives.
        regular: Whether each frame is one packet with the frame's time stamp,
            and these increase.
        damaged: [D], int64, ascending, frames that are known to be damaged.
        num_checked: How many frames were decoded to know that.
        problem: What is wrong with the file, '' if nothing was found.
    """

    path: str
    codec: str
    width: int
    height: int
    orientation: int
    pixel_aspect: float
    fps: float
    time_base: float
    pts: np.ndarray
    key_pts: np.ndarray
    key_inds: np.ndarray
    regular: bool
    damaged: np.ndarray
    num_checked: int
    problem: str = ''

    @property
    def num_frames(self) -> int:
        """Number of frames, up to the last one that can be decoded."""
        return len(self.pts)


def index_video(path: str | os.PathLike, thorough: bool = False) -> VideoIndex:
    """List the frames of a video file.

    The time stamps are read from the packets without decoding them. They are
    trusted if the first and the last group of pictures decode to just these
    time stamps, undamaged; otherwise (AVI with B-frames, raw streams, damaged
    files) the whole file is decoded once.

    Args:
        path: Any file that FFmpeg reads.
        thorough: Decode the whole file in any case, so that all damaged
            frames are found.

    Returns:
        The index; ``problem`` names the damaged frames. Those after the last
        intact one are left out. So are all after the first error, where the
        packets do not tell how many frames it cost.

    Raises:
        DamagedVideoError: If not a single frame can be decoded.
    """
    path = os.fspath(path)
    try:
        with Reader(path) as reader:
            listed = reader.list_packets()
            may_jump = reader.times_may_jump
            codec = reader.stream.codec_context.name
            average_rate = float(reader.stream.average_rate or 0)
            time_base = float(reader.stream.time_base or 0)
            pixel_aspect = float(reader.stream.sample_aspect_ratio or 1)
            if not 0.01 <= pixel_aspect <= 100:
                pixel_aspect = 1.0
        if may_jump:
            with Reader(path) as reader:
                listed = listed.with_keys(reader.finds_keys(listed))
        first, num_checked = _look_at_ends(path, listed)
        times, regular = listed, num_checked > 0
        damaged, broken = np.zeros(0, np.int64), False
        if thorough or not regular:
            scan = _scan(path)
            first = scan.first
            matched = _match(listed, scan, trusted=regular)
            times, damaged = matched or _as_shown(path, scan)
            if may_jump:
                confirmed = np.isin(times.key_pts, listed.key_pts)
                times = times.with_keys(confirmed)
            regular = matched is not None and len(times.key_pts) > 0
            broken = scan.breaks_off or (
                matched is None and scan.num_whole is not None
            )
            num_checked = len(times.pts)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror
        if error.errno == errno.EINVAL:
            # So FFmpeg says that a format is not among the allowed ones.
            reason = 'it has none of the formats of videos that are read'
        raise DamagedVideoError(f'{path}: cannot be read: {reason}') from None
    intact = np.setdiff1d(np.arange(len(times.pts)), damaged)
    if first is None or not len(intact):
        raise DamagedVideoError(f'{path}: no frame can be decoded')
    end = int(intact[-1]) + 1
    damaged = damaged[damaged < end]
    total = max(len(listed.pts), len(times.pts))
    problems = []
    if len(damaged):
        problems.append(f'{name_damaged(damaged)}, of {total}')
    if end < len(times.pts) or (broken and end < total):
        problems.append(f'decoding stops after {end} of {total} frames')
    elif broken:
        problems.append(f'the file breaks off after {end} frames')

    fps = _frame_rate(average_rate, times.pts * time_base)
    if not len(times.key_pts):
        times = times._replace(pts=np.arange(len(times.pts)))
    kept = times.key_inds < end
    orientation = _orientation(first, path)
    width, height = first.width, first.height
    if orientation >= 5:
        width, height, pixel_aspect = height, width, 1 / pixel_aspect
    return VideoIndex(
        path=path,
        codec=codec,
        width=width,
        height=height,
        orientation=orientation,
        pixel_aspect=pixel_aspect,
        fps=fps,
        time_base=time_base,
        pts=times.pts[:end],
        key_pts=times.key_pts[kept],
        key_inds=times.key_inds[kept],
        regular=regular,
        damaged=damaged,
        num_checked=min(num_checked, end),
        problem='; '.join(problems),
    )


def name_damaged(numbers: np.ndarray, most: int = 20) -> str:
    """Say which frames are damaged: ``frames 3 to 7, 12 are damaged``.

    Args:
        numbers: [D], ascending, of the frames.
        most: How many stretches of them are named.
    """
    if len(numbers) == 1:
        return f'frame {numbers[0]} is damaged'
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    names = [
        f'{run[0]} to {run[-1]}' if len(run) > 1 else f'{run[0]}'
        for run in runs[:most]
    ]
    more = f' and {len(runs) - most} more stretches' if runs[most:] else ''
    return f'frames {", ".join(names)}{more} are damaged'


def _orientation(frame: av.VideoFrame, path: str) -> int:
    """Find out how a frame of a file lies, see :func:`upright`."""
    try:
        matrix: Any = frame.side_data.get('DISPLAYMATRIX')
    except ValueError:
        # PyAV has no name for EXIF, of which FFmpeg has made the matrix.
        with suppress(OSError), Image.open(path) as image:
            return exif_orientation(image)
        return {0: 1, -90: 6, 90: 8}.get(frame.rotation, 3)
    if matrix is None:
        return 1
    # A pixel (x, y) is shown at (ax + cy, bx + dy), but for a shift.
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(np.int64)
    if abs(b) + abs(c) <= abs(a) + abs(d):
        return {(0, 0): 1, (1, 0): 2, (1, 1): 3, (0, 1): 4}[a < 0, d < 0]
    return {(0, 0): 5, (1, 0): 6, (1, 1): 7, (0, 1): 8}[c < 0, b < 0]


def _frame_rate(average: float, times: np.ndarray) -> float:
    """Choose the average frame rate of a video.

    Args:
        average: What FFmpeg says, 0 if it does not.
        times: [n], seconds, when each frame is shown, as far as it is known.

    Returns:
        Frames per second: what FFmpeg says, unless no two frames follow each
        other as fast as that (raw DV); then what the times say. 0 if neither
        is known, or not possible.
    """
    steps = np.diff(times)
    rate = average
    if len(steps) and steps.min() > 0 and not 0 < average * steps.min() < 1.5:
        rate = float(1 / steps.mean())
    return rate if MIN_FPS <= rate <= MAX_FPS else 0.0


def _look_at_ends(
    path: str, listed: PacketTimes
) -> tuple[av.VideoFrame | None, int]:
    """Compare what the packets announce with the first and last group.

    Returns:
        The first frame, and how many frames were decoded; 0 if these are not
        just as announced, or damaged.
    """
    pts, key_pts = listed.pts, listed.key_pts
    if not (listed.whole and len(key_pts)) or len(np.unique(pts)) < len(pts):
        return None, 0
    end = int(listed.key_inds[1]) if len(key_pts) > 1 else len(pts)
    first, next_key = None, None
    seen: list[int | None] = []
    try:
        with Reader(path) as reader:
            for frame in reader.frames():
                if frame.is_corrupt:
                    return None, 0
                first = first or frame
                if len(seen) == end:
                    next_key = reader.to_image(frame)
                    break
                seen.append(frame.pts)
        if seen != pts[:end].tolist() or (next_key is None) != (
            end == len(pts)
        ):
            return None, 0
        if next_key is None:
            return first, end
        if not _is_clean(path, int(key_pts[1]), next_key):
            return None, 0
    except av.FFmpegError:
        return None, 0
    num_last = _group_agrees(path, listed, len(key_pts) - 1)
    return first, end + num_last if num_last else 0


def _is_clean(path: str, key_pts: int, image: np.ndarray) -> bool:
    """Check that a key frame, if seeking finds it, is what it should be.

    Some raw streams (H.261) call each frame a key frame.
    """
    with Reader(path) as reader:
        for frame in reader.frames(key_pts):
            if frame.pts == key_pts:
                return np.array_equal(reader.to_image(frame), image)
            if frame.pts is not None and frame.pts > key_pts:
                break
    return True


def _group_agrees(path: str, times: PacketTimes, key: int) -> int:
    """Check that seeking to a key frame gives its group of frames, intact.

    Returns:
        The number of these frames, 0 if it does not.
    """
    start, end = np.append(times.key_inds, len(times.pts))[[key, key + 1]]
    expected = times.pts[start:end].tolist()
    beyond = times.pts[end] if end < len(times.pts) else None
    seen: list[int | None] = []
    try:
        with Reader(path) as reader:
            for frame in reader.frames(int(times.key_pts[key])):
                if frame.pts is not None and frame.pts == beyond:
                    break
                seen.append(None if frame.is_corrupt else frame.pts)
    except av.FFmpegError:
        return 0
    return len(expected) if seen[-len(expected) :] == expected else 0


def _scan(path: str) -> PacketScan:
    with Reader(path) as reader:
        return reader.scan()


def _match(
    listed: PacketTimes, scan: PacketScan, trusted: bool
) -> tuple[PacketTimes, np.ndarray] | None:
    """Take the frames that the packets announce, to know which are missing.

    Args:
        listed: From the packets.
        scan: From decoding the whole file.
        trusted: Whether the first and the last group are as announced.

    Returns:
        The frames and which are damaged, [D], int64; None if what is missing
        is not due to damage: then the packets do not tell the frames.
    """
    number_of = {pts: i for i, pts in enumerate(scan.pts.tolist())}
    found = np.array([number_of.get(pts, -1) for pts in listed.pts.tolist()])
    missing = found < 0
    bad = scan.bad
    if trusted:
        bad = np.union1d(bad, listed.packets[missing])
    elif (
        not len(bad)
        or len(scan.pts) != np.sum(~missing)
        or not np.all(np.diff(scan.pts) > 0)
        or not np.all(np.diff(listed.pts) > 0)
    ):
        return None
    is_key = np.append(scan.is_key, False)[found]
    damaged = _depend_on(bad, listed.packets, is_key)
    if not np.all(damaged[missing]):
        return None
    if not trusted:
        keys = np.flatnonzero(is_key)
        listed = listed._replace(key_pts=listed.pts[keys], key_inds=keys)
    return listed, np.flatnonzero(damaged)


def _as_shown(path: str, scan: PacketScan) -> tuple[PacketTimes, np.ndarray]:
    """Number the frames as decoding shows them, up to the first error.

    Returns:
        The frames and which are damaged, [D], int64.
    """
    end = scan.num_whole
    pts, packets = scan.pts[:end], scan.packets[:end]
    is_key = scan.is_key[:end]
    damaged = np.flatnonzero(_depend_on(scan.bad, packets, is_key))
    key_inds = np.flatnonzero(is_key)
    times = PacketTimes(pts, packets, pts[key_inds], key_inds)
    # Whether one can seek is tried where all is intact.
    counts = np.diff(np.searchsorted(damaged, np.append(key_inds, len(pts))))
    intact = np.flatnonzero(counts == 0)
    if (
        len(np.unique(pts)) < len(pts)
        or not len(intact)
        or not _group_agrees(path, times, int(intact[-1]))
    ):
        times = times.with_keys(np.zeros(0, np.int64))
    return times, damaged


def _depend_on(
    bad: np.ndarray, packets: np.ndarray, is_key: np.ndarray
) -> np.ndarray:
    """Find the frames that are decoded from damaged packets.

    Those are the ones between the key frame before a frame and the frame
    itself, in the order of the file, which is that of decoding. A frame that
    is shown before its key frame depends on the key frame before that as
    well.

    Args:
        bad: [B], ascending, damaged packets.
        packets: [n], the packet of each frame, in the order of showing.
        is_key: [n], bool.

    Returns:
        [n], bool.
    """
    key_inds = np.flatnonzero(is_key)
    key_inds = key_inds[np.argsort(packets[key_inds])]
    starts = np.concatenate([[0, 0], packets[key_inds]])
    key = np.searchsorted(starts, packets, side='right') - 1
    is_early = np.arange(len(packets)) < np.append([0, 0], key_inds)[key]
    begins = np.searchsorted(bad, starts[key - is_early], side='left')
    return np.searchsorted(bad, packets, side='right') > begins
