"""Clips of the recordings of Donkey Cars: where to cut them, or by a list."""

import csv
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from ...errors import InputError
from ...video.reader import DamagedVideoError
from ..sources.frame_folders import FrameFolder
from ..sources.tubs import Record, find_tubs, read_tub
from .frames import read_frames
from .jobs import Job

# Real driving changes the picture by more, standing still by noise alone.
STILL_CHANGE = 2.0  # grey levels, the mean over a picture
STILL_TIME = 500  # ms; a car rolls on for less with the throttle released
LIST_COLUMNS = ('clip', 'source_folder', 'first_image', 'last_image')


def tub_jobs(
    src: Path, write: Callable, fps: float, max_gap: float, min_frames: int
) -> list[Job]:
    """List the clips of all tubs, and what of them belongs to no clip.

    A clip ends where a record was marked as deleted or is damaged; where its
    picture is missing, repeats the one before or has another size; after a
    gap; and where the car stands still: for half a second its speed (or its
    throttle, if no speed is recorded) is 0, or the picture changes by less
    than 2 of 255 grey levels.

    Args:
        src: A tub, or a folder of tubs at any depth.
        write: Writes the frames of a clip to a path.
        fps: Pictures per second, where the records have no time.
        max_gap: Longest time between two pictures of a clip, in milliseconds.
        min_frames: Shorter clips are left out.

    Raises:
        InputError: There is no tub.
    """
    return [
        job
        for tub, folder in find_tubs(src)
        for job in _jobs_of_tub(
            tub=tub,
            folder=folder,
            write=write,
            fps=fps,
            max_gap=max_gap,
            min_frames=min_frames,
        )
    ]


def _jobs_of_tub(
    tub: str,
    folder: Path,
    write: Callable,
    fps: float,
    max_gap: float,
    min_frames: int,
) -> list[Job]:
    title = folder.resolve().name if tub == '.' else tub
    try:
        records = read_tub(folder, fps)
    except InputError as error:
        return [
            _job(
                source=title,
                name=f'{tub}/*',
                folder=folder,
                files=[],
                write=write,
                problem=str(error),
            )
        ]
    changes = picture_changes(records, max_gap, title)
    mark_stillness(records, changes)
    jobs = []
    for stretch in split(records, changes):
        first, last = stretch[0], stretch[-1]
        which = f'record {first.number}'
        if len(stretch) > 1:
            which = f'records {first.number} to {last.number}'
        problem = first.problem
        if not problem and len(stretch) < min_frames:
            problem = f'only {len(stretch)} frames without a cut'
        name = f'{first.number:05d}_{last.number:05d}.mp4'
        jobs.append(
            _job(
                source=f'{title}, {which}',
                name=(PurePosixPath(tub) / name).as_posix(),
                folder=first.picture.parent,
                files=[record.picture.name for record in stretch],
                write=write,
                problem=problem,
            )
        )
    return jobs


def listed_jobs(src: Path, path: str, write: Callable) -> list[Job]:
    """List the clips of a csv file.

    Args:
        src: The folder of the tubs.
        path: The file. Its columns are ``clip`` (name of the file to make),
            ``source_folder`` (of the pictures, in ``src``), ``first_image``
            and ``last_image`` (their numbers) and, optionally, ``split``: the
            folder of the clip.
        write: Writes the frames of a clip to a path.

    Raises:
        InputError: The file cannot be read, or a line is wrong.
    """

    @cache
    def names_in(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    jobs = []
    for row in read_list(path):
        folder = src / row['source_folder']
        numbers = range(int(row['first_image']), int(row['last_image']) + 1)
        files = [f'{i}_cam_image_array_.jpg' for i in numbers]
        problem = f'no folder {folder}'
        if folder.is_dir():
            missing = [name for name in files if name not in names_in(folder)]
            problem = f'{len(missing)} of {len(files)} pictures are missing, '
            problem = f'{problem}such as {missing[0]}' if missing else ''
        name = (PurePosixPath(row.get('split') or '') / row['clip']).as_posix()
        jobs.append(
            _job(
                source=name,
                name=name,
                folder=folder,
                files=files,
                write=write,
                problem=problem,
            )
        )
    return jobs


def _job(
    source: str,
    name: str,
    folder: Path,
    files: Sequence[str],
    write: Callable,
    problem: str,
) -> Job:
    """Make the job of a clip: some pictures of a folder, in their order."""
    frames = FrameFolder(source, str(folder), files)
    return Job(
        source=source,
        name=name,
        num_items=len(files),
        items=partial(read_frames, frames, np.arange(len(files))),
        write=write,
        problem=problem,
    )


# Cutting.


def picture_changes(
    records: Sequence[Record], max_gap: float, title: str
) -> np.ndarray:
    """Compare each picture with the one before it.

    Records without a usable picture get their ``problem``.

    Args:
        records: The records of one tub, R of them.
        max_gap: Longest time from one record to the next, in milliseconds.
        title: Title of the progress bar.

    Returns:
        Mean absolute differences from the record before, in grey levels, [R];
        infinite where a clip cannot continue from that record.
    """
    changes = np.full(len(records), np.inf)
    frame = None
    progress = tqdm(records, title, unit='picture', disable=None)
    for i, record in enumerate(progress):
        before, frame = frame, None
        if record.problem:
            continue
        try:
            frame = one_picture(record.picture)
        except DamagedVideoError:
            is_there = record.picture.exists()
            record.problem = (
                f'its picture is {"damaged" if is_there else "missing"}'
            )
            continue
        if before is None or before.shape != frame.shape:
            continue
        last = records[i - 1]
        follows = record.number == last.number + 1
        if follows and 0 <= record.time - last.time <= max_gap:
            difference = np.subtract(frame, before, dtype=np.int16)
            changes[i] = np.abs(difference).mean()
    return changes


def one_picture(path: Path) -> np.ndarray:
    """Decode a picture, [H, W, 3], uint8, RGB."""
    return FrameFolder(path.name, str(path.parent), [path.name]).read([0])[0]


def mark_stillness(records: Sequence[Record], changes: np.ndarray) -> None:
    """Set the ``problem`` of repeated pictures and of a standing car.

    Args:
        records: The records of one tub, R of them.
        changes: [R], from :func:`picture_changes`.
    """
    for record, change in zip(records, changes):
        if change == 0:
            record.problem = 'its picture repeats the one before'
    # A throttle that is 0 everywhere was not recorded.
    stopped = np.array([record.stopped is True for record in records])
    if not any(record.stopped is False for record in records):
        stopped[:] = False
    # From the record before to this one.
    still = changes < STILL_CHANGE
    still[1:] |= np.isfinite(changes[1:]) & stopped[1:] & stopped[:-1]
    for is_still, run in groupby(range(len(records)), still.__getitem__):
        inds = list(run)
        stretch = records[max(inds[0] - 1, 0) : inds[-1] + 1]
        if is_still and stretch[-1].time - stretch[0].time >= STILL_TIME:
            for record in stretch:
                record.problem = 'the car stands still'


def split(
    records: Sequence[Record], changes: np.ndarray
) -> list[list[Record]]:
    """Split a tub into clips, and stretches of records with one problem."""
    stretches: list[list[Record]] = []
    for record, change in zip(records, changes):
        if (
            stretches
            and stretches[-1][-1].problem == record.problem
            and (record.problem or np.isfinite(change))
        ):
            stretches[-1].append(record)
        else:
            stretches.append([record])
    return stretches


# Lists of clips.


def read_list(path: str) -> list[dict[str, str]]:
    """Read a csv file of clips.

    Raises:
        InputError: If it cannot be read, a column is missing, or a line makes
            no sense.
    """
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    missing = [c for c in LIST_COLUMNS if c not in columns]
    if missing or not rows:
        raise InputError(
            f'{path}: expected a csv file with a line of columns '
            f'({", ".join(LIST_COLUMNS)}) and one for each clip'
            + f'; it lacks {", ".join(missing)}'
            * bool(missing)
        )
    for number, row in enumerate(rows, 2):
        if problem := problem_of_row(row):
            raise InputError(f'{path}, line {number}: {problem}')
    return rows


def problem_of_row(row: dict[str, str]) -> str:
    """Return what is wrong with a line of a list, '' if nothing is."""
    # A line may be too short, or too long.
    if None in row.values() or None in row:
        return 'it has not as many values as there are columns'
    clip, folder = row['clip'], PurePosixPath(row['source_folder'])
    if not is_plain(clip) or not clip.endswith('.mp4'):
        return f'clip={clip!r} must be a file name that ends in .mp4'
    if folder.is_absolute() or '..' in folder.parts:
        return f'source_folder={str(folder)!r} must be a path within SRC'
    if row.get('split') and not is_plain(row['split']):
        return f'split={row["split"]!r} must be the name of a folder'
    numbers = [row['first_image'], row['last_image']]
    if not all(re.fullmatch('[0-9]{1,7}', text) for text in numbers):
        return f'first_image and last_image must be numbers, got {numbers}'
    if int(numbers[0]) > int(numbers[1]):
        return f'first_image {numbers[0]} is after last_image {numbers[1]}'
    return ''


def is_plain(name: str) -> bool:
    """Return whether a text can name a file that is not hidden."""
    return not name.startswith('.') and PurePosixPath(name).name == name
