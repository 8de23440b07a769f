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
    """Frames of a video file, and how to decode any of them.

    Attributes:
        path: The file.
        codec: Name of its codec.
        width: Width of an upright frame, in pixels.
        height: Height of an upright frame, in pixels.
        orientation: EXIF orientation of decoded frames, see :func:`upright`.
        pixel_aspect: Width of a pixel divided by its height, in upright
            frames; 1 if unknown.
        fps: Frames per second on average, 0 if unknown.
        time_base: Unit of the time stamps, in seconds.
        pts: [num_frames], int64, the time stamp that the decoder gives each
            frame, in presentation order; unique. Without ``key_pts``, the
            index of each frame.
        key_pts: [K], int64, time stamps that seeking finds. If there are none,
            frames are counted from the start of the file.
        key_inds: [K], int64, index of the first frame that decoding from each
            of them gives.
        regular: Whether each frame is one packet with the frame's time stamp,
            and the time stamps increase.
        damaged: [D], int64, ascending, frames that are known to be damaged.
        num_checked: How many frames were decoded to find the damaged ones.
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
    trusted if the first and the last group of pictures decode to exactly these
    time stamps without damage. Otherwise (AVI with B-frames, raw streams,
    damaged files), the whole file is decoded once.

    Args:
        path: Any file that FFmpeg reads.
        thorough: Whether to decode the whole file in any case, so that all
            damaged frames are found.

    Returns:
        The index; ``problem`` names the damaged frames. Frames after the last
        intact one are left out. If an error lost an unknown number of frames,
        all frames after the error are left out, too.

    Raises:
        DamagedVideoError: If no frame can be decoded.
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
            # FFmpeg's error if a format is not in the list of allowed ones.
            reason = 'it is not in a supported video format'
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
    """Name the damaged frames: ``frames 3 to 7, 12 are damaged``.

    Args:
        numbers: [D], ascending indices of the frames.
        most: How many ranges of consecutive frames are named.
    """
    if len(numbers) == 1:
        return f'frame {numbers[0]} is damaged'
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    names = [
        f'{run[0]} to {run[-1]}' if len(run) > 1 else f'{run[0]}'
        for run in runs[:most]
    ]
    more = f' and {len(runs) - most} more ranges' if runs[most:] else ''
    return f'frames {", ".join(names)}{more} are damaged'


def _orientation(frame: av.VideoFrame, path: str) -> int:
    """Find the EXIF orientation of a file's frame, see :func:`upright`."""
    try:
        matrix: Any = frame.side_data.get('DISPLAYMATRIX')
    except ValueError:
        # PyAV does not know EXIF side data, from which FFmpeg has computed
        # the matrix.
        with suppress(OSError), Image.open(path) as image:
            return exif_orientation(image)
        return {0: 1, -90: 6, 90: 8}.get(frame.rotation, 3)
    if matrix is None:
        return 1
    # A pixel (x, y) is shown at (ax + cy, bx + dy), up to a shift.
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(np.int64)
    if abs(b) + abs(c) <= abs(a) + abs(d):
        return {(0, 0): 1, (1, 0): 2, (1, 1): 3, (0, 1): 4}[a < 0, d < 0]
    return {(0, 0): 5, (1, 0): 6, (1, 1): 7, (0, 1): 8}[c < 0, b < 0]


def _frame_rate(average: float, times: np.ndarray) -> float:
    """Choose the average frame rate of a video.

    Args:
        average: The average rate that FFmpeg reports, 0 if unknown.
        times: [n], presentation times of the frames, in seconds, as far as
            they are known.

    Returns:
        Frames per second. This is the rate that FFmpeg reports, unless no two
        frames are shown in such quick succession (raw DV); then it is computed
        from the times. It is 0 if neither is known or in the valid range.
    """
    steps = np.diff(times)
    rate = average
    if len(steps) and steps.min() > 0 and not 0 < average * steps.min() < 1.5:
        rate = float(1 / steps.mean())
    return rate if MIN_FPS <= rate <= MAX_FPS else 0.0


def _look_at_ends(
    path: str, listed: PacketTimes
) -> tuple[av.VideoFrame | None, int]:
    """Compare the listed packets with the first and last decoded groups.

    Returns:
        The first frame, and how many frames were decoded; 0 if these differ
        from the listed ones or are damaged.
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
    """Check that seeking to a key frame, if it works, gives its image.

    Some raw streams (H.261) mark every frame as a key frame.
    """
    with Reader(path) as reader:
        for frame in reader.frames(key_pts):
            if frame.pts == key_pts:
                return np.array_equal(reader.to_image(frame), image)
            if frame.pts is not None and frame.pts > key_pts:
                break
    return True


def _group_agrees(path: str, times: PacketTimes, key: int) -> int:
    """Check that seeking to a key frame gives its whole group, undamaged.

    Returns:
        The number of frames in the group, 0 if the check fails.
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
    """Match decoded frames with listed packets, to find missing frames.

    Args:
        listed: The listed packets.
        scan: The result of decoding the whole file.
        trusted: Whether the first and the last group were as listed.

    Returns:
        The listed frames, and the indices of the damaged ones, [D], int64.
        None if frames are missing for another reason than damage; then the
        packets do not correspond to frames.
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
    """Number the frames that decoding gives, up to the first error.

    Returns:
        The frames, and the indices of the damaged ones, [D], int64.
    """
    end = scan.num_whole
    pts, packets = scan.pts[:end], scan.packets[:end]
    is_key = scan.is_key[:end]
    damaged = np.flatnonzero(_depend_on(scan.bad, packets, is_key))
    key_inds = np.flatnonzero(is_key)
    times = PacketTimes(pts, packets, pts[key_inds], key_inds)
    # Whether seeking works is tested on a group without damage.
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

    A frame depends on all packets from the key frame before it to itself, in
    decoding order, which is the order of the file. A frame that is shown
    before its key frame also depends on the key frame before that one.

    Args:
        bad: [B], ascending indices of damaged packets.
        packets: [n], index of each frame's packet, in presentation order.
        is_key: [n], bool, whether each frame is a key frame.

    Returns:
        [n], bool, whether each frame is damaged.
    """
    key_inds = np.flatnonzero(is_key)
    key_inds = key_inds[np.argsort(packets[key_inds])]
    starts = np.concatenate([[0, 0], packets[key_inds]])
    key = np.searchsorted(starts, packets, side='right') - 1
    is_early = np.arange(len(packets)) < np.append([0, 0], key_inds)[key]
    begins = np.searchsorted(bad, starts[key - is_early], side='left')
    return np.searchsorted(bad, packets, side='right') > begins
