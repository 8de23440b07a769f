"""What the converters share: command line, jobs, restart, report.

A converter lists jobs, one for each video that it makes, and
:func:`run_jobs` does those that are not done yet. A video appears in OUT when
it is complete, so that a process may be killed at any time. The options lie in
``OUT/conversion.json``: a later run must have the same.

Where OUT ends in ``.zip``, the videos gather in the hidden folder
``.OUT.parts`` beside it. When all are there, they are packed, the zip is moved
to its place, and that folder goes.
"""

import argparse
import json
import os
import shutil
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from stylegan_v_mm.cli import whole_number
from stylegan_v_mm.datasets.sources.finding import (
    VideoSource,
    find_damage,
    frame_rate,
    read_each,
)
from stylegan_v_mm.datasets.sources.frame_folders import MovingPicture
from stylegan_v_mm.datasets.sources.listing import join_some, printable
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.datasets.transforms import ResizeCrop
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import atomic_write, file_lock, remove_unfinished
from stylegan_v_mm.inference import save_frames
from stylegan_v_mm.video.encoding import VideoWriter
from stylegan_v_mm.video.index import name_damaged
from stylegan_v_mm.video.reader import MAX_FRAME_PIXELS, DamagedVideoError

SETTINGS = 'conversion.json'
REPORT = 'report.json'
LOCK = '.lock'
MAX_LINES = 20  # about skipped videos; the report has all
# Of videos whose own rate is unknown.
DEFAULT_FPS = 25


@dataclass(frozen=True)
class Job:
    """A video to be made.

    Attributes:
        source: What the report calls it.
        name: Its path in the output, with forward slashes: that of an mp4
            file or of a frame folder.
        num_items: How many items there are.
        items: Starts the work and gives what is written, as a rule frames,
            [H, W, 3], uint8, RGB.
        write: Writes the items to a path, which appears when it is complete.
        problem: Why it cannot be made, '' if nothing is known.
    """

    source: str
    name: str
    num_items: int
    items: Callable[[], Iterator]
    write: Callable[[Iterator, Path], None]
    problem: str = ''


# The command line


def make_parser(
    description: str, src: str, out: str
) -> argparse.ArgumentParser:
    """Make a parser with what all converters ask for."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', type=Path, help=src)
    parser.add_argument('out', type=Path, help=out)
    parser.add_argument(
        '--num-workers',
        type=whole_number(1, 1024),
        default=os.cpu_count(),
        help='videos converted at a time; default: number of cores',
    )
    parser.add_argument(
        '--keep-damaged',
        action='store_true',
        help='use the longest intact stretch of damaged videos',
    )
    return parser


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Ask for the format of frame folders."""
    parser.add_argument(
        '--format',
        choices=['png', 'webp', 'jpg'],
        default='png',
        help='png and webp are lossless; default: png',
    )
    parser.add_argument(
        '--quality',
        type=whole_number(1, 95),
        metavar='1..95',
        default=95,
        help='of jpg files; default: 95',
    )


def add_square_pixels(parser: argparse.ArgumentParser) -> None:
    """Ask whether frames are stretched as players do."""
    parser.add_argument(
        '--square-pixels',
        action='store_true',
        help='stretch frames whose pixels are not square; default: leave them',
    )


def refuse_zip(out: Path) -> None:
    """Ask for a folder, where frame folders are not what is made."""
    if out.suffix == '.zip':
        raise InputError(f'{out}: OUT must be a folder, not a zip')


# Reading and writing


def problem_of(source: VideoSource, keep_damaged: bool) -> str:
    """Why a video cannot be used, '' if it can."""
    return '' if keep_damaged and len(source) else source.problem


def intact_frames(source: VideoSource, frame_inds: np.ndarray) -> np.ndarray:
    """Keep the frames of one stretch of a video, in which none is damaged.

    Decodes the whole video.

    Args:
        source: From ``find_videos``.
        frame_inds: [T], ascending.

    Returns:
        [T'], those of ``frame_inds`` that lie in the stretch which holds most
        of them. What is left out is logged.

    Raises:
        DamagedVideoError: If there is none.
    """
    damaged = find_damage(source)
    stretches = np.searchsorted(damaged, frame_inds)
    stretches[np.isin(frame_inds, damaged)] = len(damaged) + 1
    sizes = np.bincount(stretches, minlength=len(damaged) + 2)[:-1]
    if not sizes.any():
        raise DamagedVideoError(f'{source.name}: no frame is intact')
    kept = frame_inds[stretches == sizes.argmax()]
    if len(kept) < len(frame_inds):
        tqdm.write(
            f'{source.name}: {name_damaged(damaged)}; using frames {kept[0]} '
            f'to {kept[-1]}',
            file=sys.stderr,
        )
    return kept


def read_frames(
    source: VideoSource,
    frame_inds: np.ndarray,
    resolution: int | None = None,
    square_pixels: bool = False,
    keep_damaged: bool = False,
) -> Iterator[np.ndarray]:
    """Decode frames one at a time, ascending.

    Args:
        source: From ``find_videos``.
        frame_inds: [T], ascending.
        resolution: If given, the central square is resized to it.
        square_pixels: Whether frames are stretched to the shape that players
            show.
        keep_damaged: Whether to leave out what is not intact.

    Yields:
        [H, W, 3], uint8, RGB, all of one size.

    Raises:
        DamagedVideoError: If a frame cannot be decoded or differs in size.
    """
    if keep_damaged:
        frame_inds = intact_frames(source, frame_inds)
    pixel_aspect = pixel_aspect_of(source) if square_pixels else 1
    shape = None
    for frame in read_each(source, frame_inds):
        if frame.shape != (shape := shape or frame.shape):
            raise DamagedVideoError(f'{source.name}: frames differ in size')
        if pixel_aspect != 1:
            frame = stretch(frame, pixel_aspect)
        yield resize(frame, resolution) if resolution else frame


def pixel_aspect_of(source: VideoSource) -> float:
    """Width of a video's pixels divided by their height."""
    return source.index.pixel_aspect if isinstance(source, VideoFile) else 1


def stretch(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
    """Change the width of a frame [H, W, 3] so that its pixels are square.

    Raises:
        DamagedVideoError: If no video has such pixels.
    """
    height, width = frame.shape[:2]
    new_width = round(width * pixel_aspect)
    if not 1 <= new_width * height <= MAX_FRAME_PIXELS:
        raise DamagedVideoError(
            f'its pixels are said to be {pixel_aspect:g} times as wide as high'
        )
    shrinks = new_width < width
    return cv2.resize(
        frame,
        (new_width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4,
    )


def resize(frame: np.ndarray, resolution: int) -> np.ndarray:
    """Crop the central square of a frame [H, W, 3] and resize it."""
    return ResizeCrop(resolution)({'frames': frame[None]})['frames'][0]


def bare_name(source: VideoSource) -> str:
    """Name of a video without the suffix that a file has."""
    name = PurePosixPath(source.name)
    is_file = isinstance(source, VideoFile | MovingPicture)
    return str(name.with_suffix('') if is_file else name)


def output_names(sources: Sequence[VideoSource]) -> list[str]:
    """Name what becomes of each video.

    The suffix of a file goes, unless two files would then have one name, or
    one that of a folder.
    """
    bare = list(map(bare_name, sources))
    counts = Counter(bare)
    for source in sources:
        counts.update(map(str, PurePosixPath(source.name).parents))
    return [
        name if counts[name] == 1 else source.name
        for name, source in zip(bare, sources)
    ]


def fps_of(source: VideoSource) -> float:
    """Frame rate of a video, :data:`DEFAULT_FPS` if unknown."""
    return frame_rate(source) or DEFAULT_FPS


def write_pictures(
    frames: Iterator[np.ndarray], path: Path, format: str, quality: int
) -> None:
    """Write a frame folder."""
    chunks = (
        torch.from_numpy(frame.copy()).permute(2, 0, 1)[None]
        for frame in frames
    )
    save_frames(chunks, path, format, quality)


def write_mp4(
    frames: Iterator[np.ndarray], path: Path, **options: Any
) -> None:
    """Write a video file; ``options`` are those of ``VideoWriter``."""
    with VideoWriter(path, **options) as writer:
        for frame in frames:
            writer.append(frame.transpose(2, 0, 1))


# Doing the jobs


def run_jobs(
    args: argparse.Namespace, plan: Callable[[argparse.Namespace], list[Job]]
) -> None:
    """Do the jobs that are not done yet, and report.

    Args:
        args: The command line, from :func:`make_parser`. All of it but
            ``out``, ``num_workers`` and ``keep_damaged`` has a say in how the
            videos look, and is kept.
        plan: Lists the jobs.

    Raises:
        InputError: If OUT was made with other options or by something else,
            cannot be written, lies in SRC, or another process is at work in
            it; if two jobs want one place, or a name fits into no zip; if no
            job can be done.
    """
    out, src = args.out, args.src.resolve()
    if out.resolve().is_relative_to(src):
        raise InputError(f'{out}: OUT must not lie in SRC, {args.src}')
    zipped = out.suffix == '.zip'
    folder = out.with_name(f'.{out.name}.parts') if zipped else out
    report_file = out.with_suffix('.report.json') if zipped else out / REPORT
    settings = {'tool': Path(sys.argv[0]).stem} | vars(args)
    settings['src'] = str(src)
    for key in ('out', 'num_workers', 'keep_damaged'):
        del settings[key]
    _check_settings(out, folder, settings)

    jobs = plan(args)
    _check_names(jobs, zipped)
    skipped = {job.source: job.problem for job in jobs if job.problem}
    jobs = [job for job in jobs if not job.problem]
    if not jobs:
        raise InputError(f'{args.src}: {_none_usable(skipped)}')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / LOCK):
            _prepare(folder, jobs, settings, zipped)
            packed = _folders_in(out) if zipped and out.exists() else set()
            todo = [
                job
                for job in jobs
                if job.name not in packed and not (folder / job.name).exists()
            ]
            problems = _do(todo, folder, args.num_workers)
            if zipped:
                _pack(folder, [j for j in jobs if j.name not in packed], out)
            skipped |= problems
            made = [j.name for j in todo if j.source not in problems]
            begun = {job.name for job in todo}
            there = [job.name for job in jobs if job.name not in begun]
            report = {'made': made, 'there already': there, 'skipped': skipped}
            _write_json(report_file, report)
            if zipped:
                (folder / SETTINGS).unlink()  # what is left is no output
                shutil.rmtree(folder)
    except OSError as error:
        raise InputError(f'{out} cannot be written: {error}') from error
    if not made and not there:
        raise InputError(f'{args.src}: {_none_usable(skipped)}')
    print(
        ('' if made else 'nothing to do: ')
        + f'{out}: {len(made)} made, {len(there)} there already, '
        f'{len(skipped)} skipped; see {report_file}'
    )
    for source, problem in list(skipped.items())[:MAX_LINES]:
        print(f'skipped {source}: {problem}')
    if len(skipped) > MAX_LINES:
        print(f'skipped {len(skipped) - MAX_LINES} more')


def _none_usable(skipped: dict[str, str]) -> str:
    reasons = [f'{source} ({problem})' for source, problem in skipped.items()]
    return (
        f'none of {len(skipped)} videos can be used: {join_some(reasons, 5)}'
    )


def _check_settings(out: Path, folder: Path, settings: dict) -> None:
    """Refuse an output that was not made just like this."""
    file = folder / SETTINGS
    try:
        if folder != out and out.exists():
            with zipfile.ZipFile(out) as archive:
                old = json.loads(archive.read(SETTINGS))
        elif file.exists():
            old = json.loads(file.read_text())
        elif folder == out and out.exists():
            if all(path.name.startswith('.') for path in out.iterdir()):
                return
            raise KeyError
        else:
            return
    except (KeyError, ValueError, OSError, zipfile.BadZipFile):
        raise InputError(
            f'{out} exists and was not made by a converter: remove it or give '
            'another OUT'
        ) from None
    # Of another tool, only its name is of interest.
    changed = [
        f'{key}={old.get(key)}, now {value}'
        for key, value in settings.items()
        if old.get(key) != value
    ][: 1 if old.get('tool') != settings['tool'] else None]
    if changed:
        where = out if out.exists() else folder
        raise InputError(
            f'{where} was made with {"; ".join(changed)}: give the same '
            'options, or another OUT, or remove it'
        )


def _check_names(jobs: list[Job], zipped: bool) -> None:
    """Refuse jobs that would overwrite each other, or fit into no zip."""
    sources: dict[str, str] = {}
    for job in jobs:
        if zipped and printable(job.name) != job.name:
            raise InputError(
                f'{job.source}: the name is not UTF-8, as names in a zip must '
                'be: rename it, or give a folder for OUT'
            )
        if job.name in sources:
            raise InputError(
                f'{sources[job.name]} and {job.source} would both become '
                f'{job.name}: rename one of them'
            )
        sources[job.name] = job.source
    for job in jobs:
        for parent in map(str, PurePosixPath(job.name).parents):
            if parent in sources:
                raise InputError(
                    f'{sources[parent]} would become a folder of frames '
                    f'around {job.source}: rename one of them'
                )


def _prepare(
    folder: Path, jobs: list[Job], settings: dict, zipped: bool
) -> None:
    """Clean up after a killed run, and write down the settings."""
    if zipped and not (folder / SETTINGS).exists():
        for path in folder.iterdir():  # it was about to be removed
            shutil.rmtree(path, ignore_errors=True)
    for parent in {folder, *((folder / job.name).parent for job in jobs)}:
        remove_unfinished(parent)
    if not (folder / SETTINGS).exists():
        _write_json(folder / SETTINGS, settings)


def _do(jobs: list[Job], folder: Path, num_workers: int) -> dict[str, str]:
    """Do jobs, several at a time; give the problems, by source.

    Decoding, resizing and encoding happen outside of Python's lock: threads
    are enough.
    """
    stopped = threading.Event()
    progress = tqdm(
        total=sum(job.num_items for job in jobs),
        desc='Converting',
        unit='frame',
        smoothing=0.05,
        disable=None,
    )

    def watched(items: Iterator) -> Iterator:
        for item in items:
            if stopped.is_set():
                raise KeyboardInterrupt
            yield item
            progress.update()

    def do(job: Job) -> str:
        try:
            job.write(watched(job.items()), folder / job.name)
        except DamagedVideoError as error:
            return str(error)
        return ''

    problems = {}
    with progress, ThreadPoolExecutor(num_workers) as pool:
        futures = {pool.submit(do, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                if problem := future.result():
                    problems[futures[future].source] = problem
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return problems


def _folders_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as file:
        return {name.rpartition('/')[0] for name in file.namelist()}


def _pack(folder: Path, jobs: list[Job], out: Path) -> None:
    """Add frame folders to a zip, all of them or none."""
    names = [job.name for job in jobs if (folder / job.name).exists()]
    if not names:
        return
    with atomic_write(out) as temporary:
        if out.exists():
            shutil.copyfile(out, temporary)
        with zipfile.ZipFile(temporary, 'a') as archive:
            if not out.exists():
                archive.write(folder / SETTINGS, SETTINGS)
            progress = tqdm(names, 'Packing', unit='video', disable=None)
            for name in progress:
                for file in sorted((folder / name).iterdir()):
                    archive.write(file, f'{name}/{file.name}')


def _write_json(path: Path, content: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
