r"""Show what a folder or zip of videos holds and what to set in the config.

Also how fast one core reads clips from it, and what would make that faster.
Of video files it decodes the first and the last frames, and what it reads
while measuring; with --thorough, all.

Example:
    python tools/analysis_tools/check_dataset.py data/clips \
        --preview clips.png --plot histograms.png
"""

import argparse
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from stylegan_v_mm.cli import count, picture_size, positive_int, run_tool
from stylegan_v_mm.datasets.labels import load_labels
from stylegan_v_mm.datasets.sources.archives import ZippedFrames
from stylegan_v_mm.datasets.sources.finding import (
    VideoList,
    VideoSource,
    find_damage,
    find_videos,
    frame_rate,
    read_each,
)
from stylegan_v_mm.datasets.sources.frame_folders import (
    FrameFolder,
    MovingPicture,
)
from stylegan_v_mm.datasets.sources.listing import by_reason, join_some
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.datasets.transforms import ResizeCrop, SampleClip
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write
from stylegan_v_mm.video.encoding import video_grid
from stylegan_v_mm.video.index import VideoIndex, name_damaged
from stylegan_v_mm.video.reader import DamagedVideoError

KINDS = {
    VideoFile: 'video files',
    MovingPicture: 'moving pictures',
    FrameFolder: 'frame folders',
    ZippedFrames: 'frame folders in a zip',
}
# Distances of frames that are compared.
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
# So many of them tell a rise from a plateau: videos of at least 11 frames.
MIN_LAGS = 6
# Grey levels; below, a video is still.
LEAST_CHANGE = 1
# The reading of so many clips is timed, or of fewer for a second.
MAX_CLIPS = 64
# Frames from one key frame to the next in what reencode.py makes.
SHORT_GOP = 4
# Advice is given where what is decoded is more than so many times what would
# do.
WASTE = 4


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        data: Data root.
        labels: As for ``VideoDataset``.
        sources: The videos, V of them.
        lens: [V], int64, frames.
        sizes: [V, 2], int64, width and height in pixels, 0 if damaged.
        damaged: [V], of each video, the frames known to be damaged.
        num_checked: How many frames were decoded to know these.
        fps: [V], frames per second, 0 if unknown.
        c: [V, c_dim], labels.
        classes: Names of classes.
        sample: Draws the times of a clip.
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
        """Frames that a clip needs."""
        return self.sample.min_num_frames

    @property
    def usable(self) -> np.ndarray:
        """Which videos give clips, [V], bool."""
        num_intact = self.lens - [len(damaged) for damaged in self.damaged]
        return (num_intact >= self.needed) & (self.sizes.min(axis=1) > 0)


@dataclass(frozen=True)
class Motion:
    """How much frames differ, by their distance.

    Attributes:
        curves: Of some videos: lags in frames, [L], and mean absolute
            differences, [L], in grey levels.
        half_lag: Lag in frames at which half of the largest difference is
            reached, in the median of the videos; None if hardly anything
            moves, or if the videos are too short to tell.
    """

    curves: list[tuple[np.ndarray, np.ndarray]]
    half_lag: float | None


def frame_size(source: VideoSource) -> tuple[int, int]:
    """Width and height of a video in pixels; (0, 0) if it is damaged."""
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
    """Find the damaged frames of videos, and say how many were looked at.

    Args:
        sources: V videos.
        thorough: Whether to decode all frames; otherwise it is what is known
            already: from the index of a file, the first frame of a folder.

    Returns:
        [V], of each video the numbers of its damaged frames, and the number
        of frames that were decoded.
    """
    if thorough:
        # FFmpeg works outside of Python's lock: threads are enough.
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


def look(
    data: str,
    labels: str | None,
    num_frames: int,
    max_dist: int,
    thorough: bool = False,
) -> Survey:
    """Collect what is there.

    Args:
        data: Data root.
        labels: As for ``VideoDataset``.
        num_frames: Frames in a clip.
        max_dist: Largest distance of the first and last frame of a clip.
        thorough: Whether to decode all frames.

    Returns:
        What was found.

    Raises:
        InputError: If there is nothing to read or no clip to take.
    """
    sample = SampleClip(num_frames, max_dist=max_dist)
    sources = find_videos(data)
    c, classes = load_labels(data, [s.name for s in sources], labels)
    sizes = [
        frame_size(source)
        for source in tqdm(sources, 'Looking', unit='video', disable=None)
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


def describe(survey: Survey) -> list[tuple[str, str]]:
    """List what was found, as rows (what, value) for people."""
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
    """Name what is not used, as rows (what, value) for people."""
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
    """Say what is wrong with a video, '' if nothing is known."""
    problems = [source.problem] if source.problem else []
    if isinstance(source, VideoFile):
        # The index speaks of those that it knows.
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
    """Frames from one key frame to the next, on average."""
    keys = sum(max(len(index.key_inds), 1) for index in indices)
    return sum(index.num_frames for index in indices) / keys


@dataclass(frozen=True)
class Reading:
    """How clips are read, each as for training.

    Attributes:
        rate: Clips a second on one core, central squares resized.
        passed: Frames from the key frame before each frame to it, for a clip;
            1 for each frame of folders and zips.
        would_pass: The same, were there a key frame every ``SHORT_GOP``.
    """

    rate: float
    passed: float
    would_pass: float


def measure_reading(survey: Survey, resolution: int) -> Reading:
    """Read random clips for a second, or :data:`MAX_CLIPS`.

    Args:
        survey: From :func:`look`.
        resolution: Width and height of the clips in pixels.

    Returns:
        What it took.
    """
    rng = np.random.default_rng(0)
    usable = np.flatnonzero(survey.usable)
    resize = ResizeCrop(resolution)
    seconds: list[float] = []
    counts = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    while sum(seconds) < 1 and len(seconds) < MAX_CLIPS:
        source = survey.sources[rng.choice(usable)]
        clip = {'rng': rng, 'source': source, 'video_len': len(source)}
        frame_inds = survey.sample(clip)['frame_inds']
        start = time.perf_counter()
        with suppress(DamagedVideoError):
            resize({'frames': source.read(frame_inds)})
        seconds.append(time.perf_counter() - start)
        keys = np.arange(len(source))
        short = keys
        if isinstance(source, VideoFile):
            keys, short = source.index.key_inds, keys[::SHORT_GOP]
        elif isinstance(source, MovingPicture):
            keys, short = keys[:1], keys[::SHORT_GOP]
        counts.append([_passed(frame_inds, k) for k in (keys, short)])
    cv2.setNumThreads(threads)
    return Reading(len(seconds) / sum(seconds), *np.mean(counts, axis=0))


def _passed(frame_inds: np.ndarray, key_inds: np.ndarray) -> int:
    """Count the frames from a key frame, or the start, to those wanted."""
    groups = np.searchsorted(key_inds, frame_inds, side='right') - 1
    starts = np.where(groups < 0, 0, np.append(key_inds, 0)[groups])
    return sum(
        frame_inds[starts == start].max() - start + 1
        for start in np.unique(starts)
    )


def advise(
    survey: Survey, reading: Reading, resolution: int
) -> list[tuple[str, str]]:
    """Say what would make reading faster, as rows (what, value).

    Args:
        survey: From :func:`look`.
        reading: From :func:`measure_reading`.
        resolution: Of training.

    Returns:
        No rows if nothing would help much.
    """
    faults = []
    if reading.passed > WASTE * reading.would_pass:
        faults.append(
            f'a clip takes decoding {reading.passed:.0f} frames; with a key '
            f'frame every {SHORT_GOP} it would take {reading.would_pass:.0f}'
        )
    pixels = np.median(survey.sizes[survey.usable].prod(axis=1))
    large = pixels > WASTE * resolution**2
    if large:
        faults.append(
            f'frames have {pixels / resolution**2:.1f} times the pixels that '
            f'{resolution}x{resolution} have'
        )
    first = survey.sources[0]
    rows = []
    if faults:
        tool = (
            'reencode' if isinstance(first, VideoFile) else 'videos_to_frames'
        )
        out = 'OUT.zip' if isinstance(first, ZippedFrames) else 'OUT'
        size = f' --resolution {resolution}' if large else ''
        rows.append(
            (
                'advice',
                f'{", and ".join(faults)}: python tools/dataset_converters/'
                f'{tool}.py {survey.data} {out}{size}',
            )
        )
    if any(
        (source.members[:, 2] == zipfile.ZIP_DEFLATED).any()
        for source in survey.sources
        if isinstance(source, ZippedFrames)
    ):
        rows.append(
            (
                'advice',
                'the zip compresses pictures that are compressed: made by '
                '"zip -0 -r" it is read faster',
            )
        )
    return rows


def measure_motion(
    survey: Survey, num_videos: int = 12, num_frames: int = 257
) -> Motion:
    """Find out how fast frames change.

    Frames are compared as grey pictures of 32 x 32 pixels, where noise and
    compression average out: all pairs of a lag, for lags up to three quarters
    of the stretch that is looked at, in the middle of a video.

    Args:
        survey: From :func:`look`.
        num_videos: How many of the usable videos to look at, spread evenly.
        num_frames: How many frames of each.

    Returns:
        The differences, by lag.
    """
    usable = np.flatnonzero(survey.usable)
    picks = np.linspace(0, len(usable) - 1, num_videos).astype(int)
    sources = [survey.sources[usable[i]] for i in np.unique(picks)]
    # FFmpeg works outside of Python's lock: threads are enough.
    with ThreadPoolExecutor() as pool:
        curves = pool.map(lambda s: _differences(s, num_frames), sources)
        progress = tqdm(
            curves,
            'Comparing frames',
            total=len(sources),
            unit='video',
            disable=None,
        )
        curves = [curve for curve in progress if curve]
    half_lags = [
        _half_lag(lags, diffs)
        for lags, diffs in curves
        if diffs.max() >= LEAST_CHANGE
    ]
    # Few moving ones in a set of stills are no reason to speak of motion.
    moving = len(half_lags) > len(curves) / 2
    return Motion(curves, float(np.median(half_lags)) if moving else None)


def _differences(
    source: VideoSource, num_frames: int
) -> tuple[np.ndarray, np.ndarray] | None:
    num_frames = min(num_frames, len(source))
    lags = np.array([lag for lag in LAGS if lag <= num_frames * 3 // 4])
    if len(lags) < MIN_LAGS:
        return None
    start = (len(source) - num_frames) // 2
    try:
        small = [
            cv2.resize(
                cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
                (32, 32),
                interpolation=cv2.INTER_AREA,
            )
            for frame in read_each(source, range(start, start + num_frames))
        ]
    except DamagedVideoError:
        return None
    frames = np.array(small, np.float32)
    diffs = [np.abs(frames[lag:] - frames[:-lag]).mean() for lag in lags]
    return lags, np.array(diffs)


def _half_lag(lags: np.ndarray, diffs: np.ndarray) -> float:
    """Where a curve that starts at (0, 0) first reaches half of its top."""
    lags, diffs = np.r_[0, lags], np.r_[0, diffs]
    half = diffs.max() / 2
    i = np.argmax(diffs >= half)
    return float(np.interp(half, diffs[i - 1 : i + 1], lags[i - 1 : i + 1]))


def motion_period(half_lag: float, max_num_frames: int) -> int:
    """Choose ``motion_period`` from how fast frames change.

    A wave of period P differs from itself after L frames by sin(pi L / P)
    of the most it can; half of that is reached at P / 6. So the motion has
    periods around six times ``half_lag``, and the shortest wave of the model
    should not be longer.

    Args:
        half_lag: See :class:`Motion`.
        max_num_frames: Longest period of the model, at least 16.

    Returns:
        16, 32, 64, 128 or 256.
    """
    longest = min(256, max_num_frames)
    return _power_of_two(np.clip(6 * half_lag, 16, longest))


def _power_of_two(number: float) -> int:
    """The largest one that is not above a number."""
    return int(2 ** np.floor(np.log2(number)))


def largest_resolution(survey: Survey) -> int:
    """Choose the resolution for which three of four videos are large enough.

    Returns:
        A power of two from 16 to 1024.
    """
    side = np.percentile(survey.sizes[survey.usable].min(axis=1), 25)
    return _power_of_two(np.clip(side, 16, 1024))


def suggestions(
    survey: Survey, motion: Motion, resolution: int | None = None
) -> list[str]:
    """Choose config values.

    Args:
        survey: From :func:`look`.
        motion: From :func:`measure_motion`.
        resolution: If it is chosen already.

    Returns:
        Lines for a config.
    """
    usable = survey.usable
    lines = [f'data_root = {survey.data!r}']
    if survey.labels:
        lines += [
            f'labels = {survey.labels!r}',
            f'num_classes = {survey.c.shape[1]}',
        ]
    if resolution is None:
        lines.append(f'resolution = {largest_resolution(survey)}  # at most')
    else:
        lines.append(f'resolution = {resolution}')
    rates = Counter(f'{fps:.4g}' for fps in survey.fps[usable] if fps)
    if rates:
        lines.append(f'fps = {rates.most_common(1)[0][0]}  # of previews')
    max_num_frames = int(np.clip(survey.lens[usable].max(), 16, 1024))
    lines.append(f'max_num_frames = {max_num_frames}')
    if motion.half_lag is None:
        lines.append('# motion_period: too little moves, or for too short')
    else:
        lines.append(
            f'motion_period = {motion_period(motion.half_lag, max_num_frames)}'
            f'  # half of the change in {motion.half_lag:.2g} frames'
        )
    return lines


def write_plot(survey: Survey, motion: Motion, path: Path) -> None:
    """Draw how long, how large, how fast the videos are and how they move.

    Args:
        survey: From :func:`look`.
        motion: From :func:`measure_motion`.
        path: Image to write.

    Raises:
        InputError: If the image cannot be written.
    """
    # Without pyplot no window system is asked for.
    from matplotlib.figure import Figure

    figure = Figure((10, 7), layout='constrained')
    figure.suptitle(f'{survey.data}: {len(survey.sources)} videos')
    (lengths, sizes), (rates, change) = figure.subplots(2, 2)
    lengths.hist(survey.lens, bins=40)
    lengths.axvline(survey.needed, color='red', label='needed for a clip')
    lengths.legend()
    lengths.set(xlabel='frames', ylabel='videos', title='Lengths')
    read = survey.sizes[survey.sizes.min(axis=1) > 0]
    sizes.hist([*read.T], bins=40, label=['width', 'height'])
    sizes.legend()
    sizes.set(xlabel='pixels', ylabel='videos', title='Sizes')
    rates.hist(survey.fps[survey.fps > 0], bins=40)
    rates.set(xlabel='frames a second', ylabel='videos', title='Frame rates')
    for lags, diffs in motion.curves:
        change.plot(np.r_[0, lags], np.r_[0, diffs], color='C0', alpha=0.5)
    if motion.half_lag is not None:
        change.axvline(motion.half_lag, color='red', label='half, median')
        change.legend()
    change.set(xlabel='frames apart', ylabel='grey levels', title='Change')
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def write_preview(
    survey: Survey,
    path: Path,
    num_videos: int = 12,
    num_frames: int = 6,
    resolution: int = 128,
) -> None:
    """Write a contact sheet: one row per video, frames from start to end.

    Args:
        survey: From :func:`look`.
        path: Image to write.
        num_videos: Most rows; the videos are spread over the data set.
        num_frames: Columns.
        resolution: Width and height of a cell in pixels.

    Raises:
        InputError: If the image cannot be written.
    """
    videos = np.flatnonzero(survey.lens)
    picks = np.unique(np.linspace(0, len(videos) - 1, num_videos).astype(int))
    cells = []
    for video in videos[picks]:
        source = survey.sources[video]
        intact = np.setdiff1d(np.arange(len(source)), survey.damaged[video])
        if not len(intact):
            continue
        inds = intact[np.linspace(0, len(intact) - 1, num_frames).astype(int)]
        try:
            clip = {'frames': source.read(inds)}
        except DamagedVideoError:
            continue
        cells += [*ResizeCrop(resolution)(clip)['frames']]
    if not cells:
        raise InputError(f'{survey.data}: no video to show can be decoded')
    images = torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2)
    sheet = video_grid(images[:, None], ncols=num_frames)[0]
    image = Image.fromarray(sheet.permute(1, 2, 0).numpy())
    with atomic_write(path) as temporary:
        image.save(temporary, Image.registered_extensions()[path.suffix])


def _count(values: Iterable) -> str:
    counts = Counter(values).most_common()
    return join_some([f'{value} ({count})' for value, count in counts], 8)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'data', help='folder of videos, or folder or zip of frame folders'
    )
    parser.add_argument('--num-frames', type=positive_int, default=3)
    parser.add_argument('--max-dist', type=count, default=32)
    parser.add_argument(
        '--resolution',
        type=picture_size,
        help='of training; default: the largest that the videos allow',
    )
    parser.add_argument(
        '--labels', help='"folder", or a .json or .csv file of labels'
    )
    parser.add_argument(
        '--thorough',
        action='store_true',
        help='decode all frames, to find every damaged one',
    )
    parser.add_argument(
        '--preview', type=Path, help='contact sheet to write (.png)'
    )
    parser.add_argument('--plot', type=Path, help='histograms to write (.png)')
    args = parser.parse_args()
    pictures = [path for path in (args.preview, args.plot) if path]
    for path in pictures:
        if path.suffix not in ('.png', '.jpg'):
            raise InputError(f'{path}: give a .png or .jpg file')
        if not path.parent.is_dir():
            raise InputError(f'{path}: there is no folder {path.parent}')
    survey = look(
        args.data, args.labels, args.num_frames, args.max_dist, args.thorough
    )
    resolution = args.resolution
    if resolution is None:
        resolution = largest_resolution(survey)
    reading = measure_reading(survey, resolution)
    rows = [
        *describe(survey),
        (
            'reading',
            f'{reading.rate:.3g} clips of {args.num_frames} frames a second '
            f'on one core, at {resolution} px',
        ),
        *advise(survey, reading, resolution),
    ]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        print(f'{key:{width}}  {value}')
    motion = measure_motion(survey)
    print('\nlines for a config')
    print('\n'.join(suggestions(survey, motion, args.resolution)))
    if args.preview:
        write_preview(survey, args.preview)
    if args.plot:
        write_plot(survey, motion, args.plot)
    for path in pictures:
        print(f'\npicture in {path}')


if __name__ == '__main__':
    run_tool(main)
