"""From raw footage to clips: what to keep of each video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...video.filters import FrameFilter
from ..sources.finding import VideoSource, read_each
from ..survey.findings import Finding
from ..survey.windows import Box
from .frames import pixel_aspect_of, resize, stretch

# Of the height or width that may be cut off to get rid of a caption.
_MOST_CUT = 0.25
_WHOLE: Box = (0, 0, 1, 1)


@dataclass(frozen=True)
class Shot:
    """A clip to be made of a video.

    Attributes:
        frames: Indices of its frames, ascending.
        box: What to keep of each frame.
        interlaced: Whether to join the fields of each frame.
    """

    frames: tuple[int, ...]
    box: Box = _WHOLE
    interlaced: bool = False


@dataclass(frozen=True)
class Dropped:
    """Frames that are not used.

    Attributes:
        start: The first one.
        end: One more than the last.
        reason: Why.
    """

    start: int
    end: int
    reason: str


@dataclass(frozen=True)
class Lengths:
    """How long clips are, and how fast.

    Attributes:
        least: Frames of a clip; shorter ones are dropped.
        most: Longer ones are divided.
        fps: Frames a second, at most; None for those of the video.
    """

    least: int
    most: int
    fps: float | None


@dataclass(frozen=True)
class PlannedVideo:
    """What becomes of a video.

    Attributes:
        source: The video.
        shots: Clips to be made of it.
        dropped: What is not used.
        fps: Frames a second of the clips.
        problem: Why nothing of it can be used, '' if something can.
    """

    source: VideoSource
    shots: list[Shot]
    dropped: list[Dropped]
    fps: float
    problem: str = ''


@dataclass(frozen=True)
class Plan:
    """What becomes of all videos."""

    videos: list[PlannedVideo]

    @property
    def num_clips(self) -> int:
        """Clips in all."""
        return sum(len(video.shots) for video in self.videos)

    @property
    def num_frames(self) -> int:
        """Frames of all clips."""
        return sum(len(x.frames) for video in self.videos for x in video.shots)


def plan_shots(
    num_frames: int, fps: float, findings: Sequence[Finding], lengths: Lengths
) -> tuple[list[Shot], list[Dropped], float]:
    """Choose the clips of a video.

    A video is divided at cuts. Standing still, damage, copies of other videos
    and captions that are too far from the edges to be cut off end a clip, too.
    Frames that repeat the one before are left out, and frames are left out
    evenly to lower the rate.

    Args:
        num_frames: Frames of the video.
        fps: Frames a second.
        findings: Of this video.
        lengths: Which clips to make.

    Returns:
        The clips, what is dropped, and the frames a second of the clips.
    """
    reasons = np.full(num_frames, '', object)
    box, repeats = _WHOLE, np.zeros(num_frames, bool)
    borders = [x for x in findings if x.kind.endswith('border')]
    for finding in borders:
        box = _intersect(box, finding.region or _WHOLE)
    interlaced = False
    cuts = {0, num_frames}
    for finding in findings:
        part = slice(finding.start, finding.end)
        if finding.kind == 'cut':
            cuts.add(finding.start)
        elif finding.kind in ('standstill', 'copy', 'damaged'):
            reasons[part] = f'{finding.kind}: {finding.about}'
        elif finding.kind == 'repeated frames':
            repeats[list(finding.repeats)] = True
        elif finding.kind == 'interlaced':
            interlaced = True
        elif finding.kind == 'flicker':
            reasons[part] = f'flicker {finding.about}'
        elif finding.kind == 'caption':
            smaller = _cut_off(box, finding.region or _WHOLE)
            if smaller is None:
                reasons[part] = f'caption: {finding.about}'
            else:
                box = smaller
    kept = np.flatnonzero(~repeats)
    real_fps = fps * len(kept) / max(num_frames, 1)
    rate = min(lengths.fps or real_fps, real_fps)
    shots, dropped = [], []
    for start, end, reason in _pieces(reasons, sorted(cuts)):
        frames = kept[(kept >= start) & (kept < end)]
        frames = frames[_evenly(len(frames), rate / real_fps)]
        if not reason and len(frames) < lengths.least:
            reason = f'{len(frames)} frames, fewer than {lengths.least}'
        if reason:
            dropped.append(Dropped(start, end, reason))
            continue
        count = -(-len(frames) // lengths.most)
        shots += [
            Shot(tuple(part.tolist()), box, interlaced)
            for part in np.array_split(frames, count)
        ]
    return shots, dropped, rate


def read_shot(
    source: VideoSource, shot: Shot, resolution: int | None
) -> Iterator[np.ndarray]:
    """Decode the frames of a shot: upright, with square pixels, cropped.

    Args:
        source: The video.
        shot: What to keep of it.
        resolution: Width and height to which the central square of the box is
            resized; None for the box as it is.

    Yields:
        Frames [H, W, 3], uint8, RGB.

    Raises:
        DamagedVideoError: A frame cannot be decoded.
    """
    aspect = pixel_aspect_of(source)
    frames = read_each(source, shot.frames)
    if shot.interlaced:
        # The fields of a frame are joined with those of its neighbours.
        first, last = shot.frames[0], shot.frames[-1]
        wanted = set(shot.frames)
        every = deinterlace(read_each(source, range(first, last + 1)))
        frames = (x for i, x in enumerate(every, first) if i in wanted)
    for frame in frames:
        height, width = frame.shape[:2]
        left, top, right, bottom = shot.box
        frame = frame[
            round(top * height) : round(bottom * height),
            round(left * width) : round(right * width),
        ]
        if aspect != 1:
            frame = stretch(np.ascontiguousarray(frame), aspect)
        if resolution is not None:
            frame = resize(frame, resolution)
        yield np.ascontiguousarray(frame)


def deinterlace(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Make full frames of interlaced ones, by FFmpeg's filter ``bwdif``.

    Args:
        frames: Successive frames [H, W, 3], uint8.

    Yields:
        As many frames.
    """
    fields = FrameFilter('bwdif', 'mode=send_frame:deint=all')
    for frame in frames:
        yield from (x.to_ndarray(format='rgb24') for x in fields.push(frame))
    yield from (x.to_ndarray(format='rgb24') for x in fields.flush())


def _pieces(
    reasons: np.ndarray, cuts: Sequence[int]
) -> Iterator[tuple[int, int, str]]:
    """Divide a video where the reason changes and at cuts."""
    changes = 1 + np.flatnonzero(reasons[1:] != reasons[:-1])
    bounds = sorted({*cuts, *changes.tolist()})
    for start, end in pairwise(bounds):
        yield start, end, reasons[start]


def _evenly(count: int, share: float) -> np.ndarray:
    """Choose about a share of [0, count), evenly."""
    if share >= 1:
        return np.arange(count)
    return np.unique((np.arange(int(count * share)) / share).astype(int))


def _intersect(a: Box, b: Box) -> Box:
    """Return the rectangle that both cover."""
    return (
        max(a[0], b[0]),
        max(a[1], b[1]),
        min(a[2], b[2]),
        min(a[3], b[3]),
    )


def _cut_off(box: Box, region: Box) -> Box | None:
    """Cut the edge off that has a region; None if that costs too much."""
    left, top, right, bottom = box
    ways = {
        region[2] - left: (region[2], top, right, bottom),
        region[3] - top: (left, region[3], right, bottom),
        right - region[0]: (left, top, region[0], bottom),
        bottom - region[1]: (left, top, right, region[1]),
    }
    least = min(ways)
    if least <= 0:
        return box  # outside already
    return ways[least] if least <= _MOST_CUT else None
