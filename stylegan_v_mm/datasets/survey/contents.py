"""The videos of a data set: their number, sizes, rates, labels and flaws."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from ...video.index import VideoIndex, name_damaged
from ...video.reader import DamagedVideoError
from ..labels import load_labels
from ..sources.archives import ZippedFrames
from ..sources.finding import (
    VideoList,
    VideoSource,
    find_damage,
    find_videos,
    frame_rate,
)
from ..sources.frame_folders import FrameFolder, MovingPicture
from ..sources.listing import by_reason, join_some
from ..sources.video_files import VideoFile
from ..transforms import SampleClip

KINDS = {
    VideoFile: 'video files',
    MovingPicture: 'animated images',
    FrameFolder: 'frame folders',
    ZippedFrames: 'frame folders in a zip',
}


@dataclass(frozen=True)
class Survey:
    """Contents of a data set.

    Attributes:
        data: Data root.
        labels: As for ``VideoDataset``.
        sources: The videos, V of them.
        lens: Number of frames of each video, [V], int64.
        sizes: Width and height in pixels, [V, 2], int64; 0 if damaged.
        damaged: V arrays with the indices of each video's frames that are
            known to be damaged.
        num_checked: How many frames were decoded to find these.
        fps: Frames per second, [V]; 0 if unknown.
        c: Labels, [V, c_dim].
        classes: Names of the classes.
        sample: The transform that draws the times of a clip.
    """

    data: str
    labels: str | None
    sources: VideoList
    lens: np.ndarray
    sizes: np.ndarray
    damaged: list[np.ndarray]
    num_checked: int
    fps: np.ndarray
    c: np.ndarray
    classes: list[str]
    sample: SampleClip

    @property
    def needed(self) -> int:
        """Return the number of frames that a clip needs."""
        return self.sample.min_num_frames

    @property
    def usable(self) -> np.ndarray:
        """Return which videos give clips, [V], bool."""
        num_intact = self.lens - [len(damaged) for damaged in self.damaged]
        return (num_intact >= self.needed) & (self.sizes.min(axis=1) > 0)


def survey_videos(
    data: str,
    labels: str | None,
    num_frames: int,
    max_dist: int,
    thorough: bool = False,
) -> Survey:
    """Survey the videos of a data set.

    Args:
        data: Data root.
        labels: As for ``VideoDataset``.
        num_frames: Frames in a clip.
        max_dist: Largest distance from the first to the last frame of a clip.
        thorough: Whether to decode all frames.

    Returns:
        The contents of the data set.

    Raises:
        InputError: There are no videos, or none of them is usable.
    """
    sample = SampleClip(num_frames, max_dist=max_dist)
    sources = find_videos(data)
    c, classes = load_labels(data, [s.name for s in sources], labels)
    sizes = [
        frame_size(source)
        for source in tqdm(
            sources, 'Reading sizes', unit='video', disable=None
        )
    ]
    damaged, num_checked = known_damage(sources, thorough)
    survey = Survey(
        data=data,
        labels=labels,
        sources=sources,
        lens=np.array([len(source) for source in sources]),
        sizes=np.array(sizes),
        damaged=damaged,
        num_checked=num_checked,
        fps=np.array([frame_rate(source) for source in sources]),
        c=c,
        classes=classes,
        sample=sample,
    )
    if not survey.usable.any():
        raise InputError(
            f'{data}: none of {len(sources)} videos can be used: '
            + '; '.join(f'{key}: {value}' for key, value in flaws(survey))
        )
    return survey


def frame_size(source: VideoSource) -> tuple[int, int]:
    """Return width and height of a video, in pixels; 0 if it is damaged."""
    if isinstance(source, VideoFile):
        return source.index.width, source.index.height
    try:
        height, width = source.read([0]).shape[1:3]
    except DamagedVideoError:
        return 0, 0
    return width, height


def known_damage(
    sources: Sequence[VideoSource], thorough: bool
) -> tuple[list[np.ndarray], int]:
    """Find the damaged frames of videos.

    Args:
        sources: V videos.
        thorough: Whether to decode all frames. Otherwise, the result covers
            the frames that were decoded already: for the index of a file, or
            as the first frame of a folder.

    Returns:
        V arrays with the indices of each video's damaged frames, and how many
        frames were decoded.
    """
    if thorough:
        # FFmpeg releases Python's global lock, so threads are enough.
        with ThreadPoolExecutor() as pool:
            progress = tqdm(
                pool.map(find_damage, sources),
                'Decoding all frames',
                total=len(sources),
                unit='video',
                disable=None,
            )
            return list(progress), sum(map(len, sources))
    files = [s for s in sources if isinstance(s, VideoFile)]
    num_checked = sum(file.index.num_checked for file in files)
    none = np.zeros(0, np.int64)
    return [
        s.index.damaged if isinstance(s, VideoFile) else none for s in sources
    ], num_checked + len(sources) - len(files)


def describe(survey: Survey) -> list[tuple[str, str]]:
    """Describe a data set as rows (name, value)."""
    sources, lens = survey.sources, survey.lens
    kinds = Counter(KINDS[type(source)] for source in sources)
    layout = _count(kinds.elements()) if len(kinds) > 1 else next(iter(kinds))
    rows = [
        ('layout', layout),
        ('videos', f'{len(sources)}, {survey.usable.sum()} usable'),
        (
            'frames',
            f'{lens.sum()}; per video {lens.min()} to {lens.max()}, median '
            f'{np.median(lens):g}',
        ),
        (
            'looked at',
            f'{survey.num_checked} of {lens.sum()} frames; --thorough decodes '
            'all'
            if survey.num_checked < lens.sum()
            else 'all frames',
        ),
        ('sizes', _count(f'{w}x{h}' for w, h in survey.sizes if w)),
    ]
    timed = [
        f'{frame_rate(source):.4g}'
        for source in sources
        if isinstance(source, VideoFile | MovingPicture) and len(source)
    ]
    if timed:
        rows.append(('frame rates', _count(timed)))
    read = [s.index for s in sources if isinstance(s, VideoFile) and len(s)]
    if read:
        rows += [
            ('codecs', _count(index.codec for index in read)),
            ('key frames', f'every {_gop(read):.3g} frames, on average'),
        ]
    stretched = [
        f'{s.name} ({s.index.pixel_aspect:.4g})'
        for s in sources
        if isinstance(s, VideoFile) and s.index.pixel_aspect != 1
    ]
    if stretched:
        rows.append(
            (
                'pixels',
                'not square, width to height: '
                f'{join_some(stretched)}; reencode.py and videos_to_frames.py '
                'make them square with --square-pixels',
            )
        )
    if survey.classes:
        counts = [
            f'{name} ({count:g})'
            for name, count in zip(survey.classes, survey.c.sum(axis=0))
        ]
        rows.append(('classes', f'{len(counts)}: {join_some(counts)}'))
    elif survey.labels:
        rows.append(('labels', f'{survey.c.shape[1]} numbers per video'))
    return rows + flaws(survey)


def flaws(survey: Survey) -> list[tuple[str, str]]:
    """Describe what is not used and why as rows (name, value)."""
    sources, needed = survey.sources, survey.needed
    problems = [
        _problem(source, frames, readable=size.any())
        for source, frames, size in zip(sources, survey.damaged, survey.sizes)
    ]
    damaged = [
        f'{source.name} ({problem})'
        for source, problem in zip(sources, problems)
        if problem
    ]
    short = [
        f'{source.name} ({len(source)})'
        for source in sources
        if 0 < len(source) < needed
    ]
    return [
        ('damaged', join_some(damaged) or 'none found'),
        (
            f'under {needed} frames',
            join_some(short) or 'none, all are usable',
        ),
        *(
            ('left out', f'{reason} ({names})')
            for reason, names in by_reason(sources.left_out)
        ),
    ]


def _problem(source: VideoSource, damaged: np.ndarray, readable: bool) -> str:
    """Describe the damage of a video; '' if none is known."""
    problems = [source.problem] if source.problem else []
    if isinstance(source, VideoFile):
        # The problem of the source names the frames that its index knows.
        damaged = np.setdiff1d(damaged, source.index.damaged)
    if len(damaged) and isinstance(source, FrameFolder | ZippedFrames):
        names = join_some([str(source.files[i]) for i in damaged])
        problems.append(f'{names} cannot be decoded')
    elif len(damaged):
        problems.append(name_damaged(damaged))
    elif not readable:
        problems.append('first frame is not an image')
    return '; '.join(problems)


def _gop(indices: Sequence[VideoIndex]) -> float:
    """Return the mean number of frames from one key frame to the next."""
    keys = sum(max(len(index.key_inds), 1) for index in indices)
    return sum(index.num_frames for index in indices) / keys


def _count(values: Iterable) -> str:
    counts = Counter(values).most_common()
    return join_some([f'{value} ({count})' for value, count in counts], 8)
