"""What a model would learn wrongly from videos: cuts, borders, captions, ...

A GAN learns all that its data show. This module looks for what is not part of
the scene, in frames that are spread over a data set.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import groupby, pairwise
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ...video.filters import FrameFilter
from ...video.reader import DamagedVideoError
from ..sources.finding import (
    VideoSource,
    find_damage,
    frame_rate,
    read_each,
)
from ..sources.listing import join_some
from .contents import Survey
from .copies import Prints, find_copies
from .windows import (
    FLICKER,
    LEAST,
    STILL,
    Box,
    Cuts,
    are_interlaced,
    black_border,
    blurred_border,
    captions,
    flicker,
    repetition,
    runs,
    shrink,
)

#: Kind of a finding -> what it is.
KINDS = {
    'cut': 'the scene changes from a frame to the next',
    'black border': 'edges that are always black',
    'blurred border': 'opposite edges that are much less sharp than the rest',
    'caption': 'detailed pixels that do not change while others do',
    'standstill': 'nothing changes',
    'repeated frames': 'frames are shown more than once',
    'flicker': 'brightness jumps up and down from frame to frame',
    'interlaced': 'odd and even lines are of different moments',
    'copy': 'frames that another video has, too',
}
#: Kind of a finding that the survey describes.
DAMAGED = 'damaged'
#: Frames that are judged together.
WINDOW = 64


class Finding(NamedTuple):
    """Something in a video that is not part of the scene.

    Attributes:
        kind: A key of :data:`KINDS`.
        video: Name of the video.
        start: First frame, or for a cut the first frame after it.
        end: One more than the last frame that was seen to have it.
        about: Details for people.
        region: Left, top, right, bottom as shares of width and height, from
            0 to 1; of borders, the rectangle inside of them. None: everywhere.
        repeats: Of repeated frames: those that show the one before again.
    """

    kind: str
    video: str
    start: int
    end: int
    about: str
    region: Box | None = None
    repeats: tuple[int, ...] = ()


class Looks(NamedTuple):
    """What was found, and where it was looked for.

    Attributes:
        findings: In the order of the videos.
        num_frames: How many frames were looked at.
    """

    findings: list[Finding]
    num_frames: int


def look_at_videos(survey: Survey, num_frames: int | None) -> Looks:
    """Look for findings in all usable videos.

    Args:
        survey: From ``survey_videos``.
        num_frames: About how many frames to decode, evenly spread over the
            videos in stretches of at least :data:`WINDOW`; None for all.

    Returns:
        The findings.
    """
    sources = [survey.sources[i] for i in np.flatnonzero(survey.usable)]
    total = sum(map(len, sources))
    share = 1.0 if num_frames is None else min(1.0, num_frames / total)

    # FFmpeg and OpenCV release Python's global lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        looks = list(
            tqdm(
                pool.map(partial(look_at_video, share=share), sources),
                'Looking at frames',
                total=len(sources),
                unit='video',
                disable=None,
            )
        )
    findings = [finding for found, _ in looks for finding in found]
    prints = [each for _, each in looks]
    findings += name_copies([source.name for source in sources], prints)
    return Looks(findings, sum(len(each.frames) for each in prints))


def look_at_video(
    source: VideoSource, share: float = 1.0
) -> tuple[list[Finding], Prints]:
    """Look for findings in one video, but for copies.

    Args:
        source: The video; of a damaged one, what is intact is looked at.
        share: How much of it to decode, see :func:`stretches`.

    Returns:
        The findings, and fingerprints of the frames.
    """
    parts = stretches(len(source), share)
    found: list[Finding] = []
    prints = Prints()
    try:
        for part in parts:
            found += look_at(source, part, prints)
    except DamagedVideoError:
        damaged = find_damage(source)
        found = [
            Finding(DAMAGED, source.name, i, i + 1, 'cannot be decoded')
            for i in damaged.tolist()
        ]
        prints = Prints()
        with suppress(DamagedVideoError):  # frames of several sizes
            for part in parts:
                intact = ~np.isin(part, damaged)
                for start, end in runs(intact):
                    found += look_at(source, part[start:end], prints)
    return merge(found), prints


def name_copies(
    names: Sequence[str], prints: Sequence[Prints]
) -> list[Finding]:
    """Find frames that an earlier video has, too.

    Args:
        names: Of the videos.
        prints: The fingerprints of each.
    """
    return [
        Finding(
            'copy',
            names[copy.second],
            copy.start,
            copy.end,
            f'{names[copy.first]} has them, from frame '
            f'{copy.start - copy.offset}',
        )
        for copy in find_copies(prints)
    ]


def stretches(length: int, share: float) -> list[range]:
    """Choose stretches of a video that have about a share of its frames.

    Args:
        length: Frames of the video.
        share: In (0, 1].

    Returns:
        Ranges of :data:`WINDOW` frames, evenly spread, at least one; or one
        of all frames.
    """
    count = max(1, round(share * length / WINDOW))
    if count * WINDOW >= length:
        return [range(length)]
    starts = np.linspace(0, length - WINDOW, 2 * count + 1)[1::2].astype(int)
    return [range(start, start + WINDOW) for start in starts]


def look_at(
    source: VideoSource, frames: range, prints: Prints
) -> Iterator[Finding]:
    """Look at successive frames of a video, decoded once.

    Args:
        source: The video.
        frames: Indices of the frames.
        prints: Gets the fingerprint of each frame.

    Yields:
        Findings, those of each window of :data:`WINDOW` frames together.

    Raises:
        DamagedVideoError: A frame cannot be decoded or differs in size.
    """
    name = source.name
    cuts = Cuts(frame_rate(source) or 25)
    fields = FrameFilter('idet', format='gray')
    starts = window_starts(frames)
    window: list[np.ndarray] = []
    interlaced: list[bool] = []
    last = shape = None
    start = frames.start
    for i, frame in zip(frames, read_each(source, frames)):
        if i in starts and window:
            yield from judge(name, start, np.stack(window), interlaced, last)
            last, start, window, interlaced = window[-1], i, [], []
        if frame.shape != (shape := shape or frame.shape):
            raise DamagedVideoError(f'{name}: frames differ in size')
        small = shrink(frame)
        for cut in cuts.show(i, small):
            yield Finding('cut', name, cut, cut + 1, f'at frame {cut}')
        interlaced += are_interlaced(fields.push(frame))
        window.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        prints.add(i, window[-1])
    if window:
        yield from judge(name, start, np.stack(window), interlaced, last)


def window_starts(frames: range) -> set[int]:
    """Divide a stretch into windows of about the same size."""
    count = max(1, len(frames) // WINDOW)
    places = np.linspace(frames.start, frames.stop, count + 1)[:-1]
    return set(places.astype(int).tolist())


def judge(
    name: str,
    start: int,
    window: np.ndarray,
    interlaced: Sequence[bool],
    last: np.ndarray | None,
) -> Iterator[Finding]:
    """Judge the frames of a window.

    Args:
        name: Of the video.
        start: Number of the first frame.
        window: Grey frames [n, h, w], uint8.
        interlaced: See :func:`are_interlaced`.
        last: The frame before, [h, w], if there is one.

    Yields:
        Findings.
    """
    if len(window) < LEAST:
        return
    end = start + len(window)
    joined = window if last is None else np.concatenate([last[None], window])
    changes = np.array([cv2.absdiff(a, b).mean() for a, b in pairwise(joined)])
    still = changes < STILL
    first = end - len(changes)
    for begin, stop in runs(still):
        if stop - begin >= LEAST:
            yield Finding(
                'standstill',
                name,
                first + begin - 1,
                first + stop,
                f'{stop - begin + 1} equal frames',
            )
    period, repeats = repetition(changes)
    if period:
        numbers = tuple((first + np.flatnonzero(repeats)).tolist())
        yield Finding(
            'repeated frames', name, start, end, period, repeats=numbers
        )
    if len(interlaced) >= LEAST and np.mean(interlaced) > 0.5:
        yield Finding('interlaced', name, start, end, 'two fields a frame')
    if still.all():
        return
    jump = flicker(window)
    if jump > FLICKER:
        yield Finding(
            'flicker', name, start, end, f'by {jump:.1f} of 255 a frame'
        )
    box = black_border(window)
    kind = 'black border'
    if box is None:
        kind, box = 'blurred border', blurred_border(window)
    if box is not None:
        yield Finding(kind, name, start, end, _percent(box), box)
    for region in captions(window, box):
        yield Finding('caption', name, start, end, _percent(region), region)


def merge(findings: Sequence[Finding]) -> list[Finding]:
    """Join findings of one kind and place in successive windows.

    Args:
        findings: Of one video.
    """
    merged: list[Finding] = []
    order = sorted(findings, key=lambda x: (x.kind, x.start))
    for kind, group in groupby(order, key=lambda x: x.kind):
        for finding in group:
            for i, other in enumerate(merged):
                apart = kind in ('cut', 'standstill', DAMAGED)
                if (
                    other.kind == kind
                    and _alike(finding.region, other.region)
                    and not (apart and finding.start > other.end)
                ):
                    merged[i] = other._replace(end=max(other.end, finding.end))
                    break
            else:
                merged.append(finding)
    return merged


def _alike(a: Sequence[float] | None, b: Sequence[float] | None) -> bool:
    """Whether regions overlap by at least half of what both cover."""
    if a is None or b is None:
        return a is b
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared >= 0.5 * (sum(areas) - shared)


def _percent(region: Box) -> str:
    """Write a rectangle for people."""
    left, top, right, bottom = (round(100 * x) for x in region)
    return (
        f'{left} to {right} % from the left, {top} to {bottom} % from the top'
    )


def describe_findings(survey: Survey, looks: Looks) -> list[tuple[str, str]]:
    """Describe findings as rows (name, value), those of a kind together.

    Args:
        survey: From ``survey_videos``.
        looks: From :func:`look_at_videos`.
    """
    data, num_frames = survey.data, survey.lens.sum()
    count = f'{looks.num_frames} of {num_frames} frames'
    if looks.num_frames >= num_frames:
        count = 'all frames'
    rows = [('searched', f'{count}, for flaws')]
    for kind, meaning in KINDS.items():
        found = [x for x in looks.findings if x.kind == kind]
        if found:
            places = [
                f'{x.video}, frames {x.start} to {x.end - 1} ({x.about})'
                for x in found
            ]
            rows.append((kind, f'{meaning}: {join_some(places, 5)}'))
    if any(x.kind in KINDS for x in looks.findings):
        command = f'python tools/dataset_converters/prepare.py {data} OUT'
        rows.append(('flaws', f'{command} makes clips without them'))
    else:
        rows.append(('flaws', 'none found'))
    return rows
