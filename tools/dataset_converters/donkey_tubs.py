r"""Cut the recordings of Donkey Cars, called tubs, into clips.

A tub holds numbered pictures and a record of each: its time, the steering and
the throttle. Newer cars write catalogs and a manifest that marks deleted
records, older ones a ``record_N.json`` for each picture. SRC is a tub or a
folder of tubs at any depth; ``TUB/images/560_...jpg`` to ``698_...jpg`` become
``OUT/TUB/00560_00698.mp4``, of the pictures' own size.

A clip ends where a record was marked as deleted or is damaged, where its
picture is missing, repeats the one before or has another size, where more than
``--max-gap`` milliseconds lie between two records, and where the car stands
still: where for half a second its speed (if that is not recorded, its
throttle) is 0 or the picture changes by less than 2 of 255 grey levels. The
report names all that is left out. Damaged pictures are left out with
``--keep-damaged``, too.

``--list`` makes the clips of a csv file instead, whatever the rules above say.
Its columns are ``clip`` (name of the file), ``source_folder`` (of the
pictures, in SRC), ``first_image`` and ``last_image`` (their numbers), and, if
wanted, ``split``: the folder in OUT, such as train or held_out.

Examples, for a car of one's own, and for the driving of configs rc_track_*:
    python tools/dataset_converters/donkey_tubs.py mycar/data data/my_car
    python tools/dataset_converters/donkey_tubs.py donkeycar data/rc_track \
        --list configs/_lists/rc_track.csv
"""

import argparse
import csv
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
from conversion import make_parser, refuse_zip, run_jobs
from tqdm import tqdm

from stylegan_v_mm.cli import (
    frame_rate,
    positive_float,
    positive_int,
    real_number,
    run_tool,
)
from stylegan_v_mm.datasets.conversion.frames import read_frames, write_mp4
from stylegan_v_mm.datasets.conversion.jobs import Job
from stylegan_v_mm.datasets.sources.frame_folders import FrameFolder
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.reader import DamagedVideoError

PICTURE = 'cam/image_array'
# Real driving changes the picture by more, standing still by noise alone.
STILL_CHANGE = 2.0  # grey levels, the mean over a picture
STILL_TIME = 500  # ms; a car rolls on for less with the throttle released
STOPPED = 0.01  # speed or throttle, in size
LIST_COLUMNS = ('clip', 'source_folder', 'first_image', 'last_image')


@dataclass
class Record:
    """One picture of a tub.

    Attributes:
        number: Its number in the tub.
        time: In milliseconds, from any moment on.
        picture: The file.
        stopped: Whether speed or throttle is 0; None if neither is recorded.
        problem: Why it belongs to no clip, '' if nothing is known.
    """

    number: int
    time: float
    picture: Path
    stopped: bool | None
    problem: str = ''


# Reading tubs


def find_tubs(root: Path) -> list[tuple[str, Path]]:
    """List the tubs under a folder: paths relative to it, and folders.

    Links are followed, but none is followed to where one has been. What is
    hidden is passed over.
    """
    if not root.is_dir():
        raise InputError(f'{root}: no such folder')
    tubs, seen = [], set()
    for path, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [n for n in sorted(subfolders) if n[0] != '.']
        pattern = r'[^.].*\.catalog|record_\d+\.json'
        if any(re.fullmatch(pattern, name) for name in files):
            folder = Path(path)
            tubs.append((folder.relative_to(root).as_posix(), folder))
    if not tubs:
        raise InputError(
            f'{root}: no tubs found; expected folders with a manifest.json '
            'and catalogs (.catalog), or with record_N.json files'
        )
    return tubs


def read_tub(folder: Path, fps: float) -> list[Record]:
    """Read the records of a tub in the order of recording.

    Args:
        folder: The tub.
        fps: Pictures per second, where the records have no time.

    Raises:
        InputError: If the manifest or a catalog is missing or damaged.
    """
    if any(folder.glob('*.catalog')):
        lines, deleted = read_catalogs(folder)
        images = folder / 'images'
    else:
        lines, deleted = read_record_files(folder)
        images = folder
    records: list[Record] = []
    for number, line in lines:
        if number is None:
            number = records[-1].number + 1 if records else 0
        record = parse_record(line, number, images, fps)
        if record.number in deleted:
            record.problem = 'marked as deleted'
        records.append(record)
    return records


def read_catalogs(
    folder: Path,
) -> tuple[Iterator[tuple[int | None, str]], set[int]]:
    """Give the lines of all catalogs, and the numbers of deleted records."""
    # Its last line is about the catalogs; four on other things are before it.
    manifest = folder / 'manifest.json'
    try:
        contents = json.loads(manifest.read_text().split('\n', 4)[4])
        catalogs = [folder / Path(name).name for name in contents['paths']]
        deleted = set(map(int, contents['deleted_indexes']))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f'{manifest}, which says what was deleted, is missing or damaged '
            f'({error})'
        ) from None
    for catalog in catalogs:
        if not catalog.is_file():
            raise InputError(f'{catalog}, named in manifest.json, is missing')
    lines = (
        (None, line)
        for catalog in catalogs
        for line in catalog.read_text(errors='replace').split('\n')
        if line.strip()
    )
    return lines, deleted


def read_record_files(
    folder: Path,
) -> tuple[Iterator[tuple[int | None, str]], set[int]]:
    """Do as :func:`read_catalogs` for a tub of one file a record."""
    exclude = folder / 'exclude.json'
    try:
        deleted = (
            set(map(int, json.loads(exclude.read_text())))
            if exclude.exists()
            else set()
        )
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f'{exclude}, which says what was deleted, is damaged ({error})'
        ) from None
    files = {
        int(path.stem.removeprefix('record_')): path
        for path in folder.glob('record_*.json')
        if re.fullmatch(r'record_\d+', path.stem)
    }
    lines = (
        (number, path.read_text(errors='replace'))
        for number, path in sorted(files.items())
    )
    return lines, deleted


def parse_record(line: str, number: int, images: Path, fps: float) -> Record:
    """Read one record; ``number`` is what it has if it does not say."""
    try:
        entry = json.loads(line)
        number = int(entry.get('_index', number))
        time = entry.get('_timestamp_ms', entry.get('milliseconds'))
        return Record(
            number,
            1000 * number / fps if time is None else float(time),
            images / Path(entry[PICTURE]).name,
            is_stopped(entry),
        )
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError):
        # A car that is switched off leaves half a record.
        return Record(number, np.nan, images, None, 'its record is damaged')


def is_stopped(entry: dict) -> bool | None:
    """Tell whether a record's speed, or else its throttle, is 0.

    Throttle is that of the driver or the autopilot, whoever drives. None if
    there is neither.
    """
    by_user = entry.get('user/mode', 'user') in ('user', 'local_angle')
    throttle = 'user/throttle' if by_user else 'pilot/throttle'
    speeds = [key for key in entry if key.rpartition('/')[2] == 'speed']
    for value in map(entry.get, [*speeds, throttle]):
        if isinstance(value, int | float):
            return abs(value) < STOPPED
    return None


# Cutting


def picture_changes(
    records: Sequence[Record], max_gap: float, title: str
) -> np.ndarray:
    """Compare each picture with the one before it.

    Records without a usable picture get their ``problem``.

    Args:
        records: Of one tub.
        max_gap: Longest time from one record to the next, in milliseconds.
        title: Of the progress bar.

    Returns:
        [R], mean absolute differences in grey levels from the record before;
        infinite where no clip can go on from that one.
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
    """Give repeated pictures and those of a standing car their ``problem``.

    Args:
        records: Of one tub.
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


# Listing the clips


def clip_job(
    args: argparse.Namespace,
    source: str,
    name: str,
    folder: Path,
    files: Sequence[str],
    problem: str,
) -> Job:
    """Make the job of a clip: some pictures of a folder, in their order."""
    frames = FrameFolder(source, str(folder), files)
    return Job(
        source,
        name,
        len(files),
        partial(read_frames, frames, np.arange(len(files))),
        partial(write_mp4, fps=args.fps, crf=args.crf, gop=args.gop),
        problem,
    )


def plan_tub(args: argparse.Namespace, tub: str, folder: Path) -> list[Job]:
    """List the clips of a tub, and what of it belongs to none."""
    title = folder.resolve().name if tub == '.' else tub
    try:
        records = read_tub(folder, args.fps)
    except InputError as error:
        return [clip_job(args, title, f'{tub}/*', folder, [], str(error))]
    changes = picture_changes(records, args.max_gap, title)
    mark_stillness(records, changes)
    jobs = []
    for stretch in split(records, changes):
        first, last = stretch[0], stretch[-1]
        which = f'record {first.number}'
        if len(stretch) > 1:
            which = f'records {first.number} to {last.number}'
        problem = first.problem
        if not problem and len(stretch) < args.min_frames:
            problem = f'only {len(stretch)} frames without a cut'
        name = f'{first.number:05d}_{last.number:05d}.mp4'
        jobs.append(
            clip_job(
                args,
                f'{title}, {which}',
                (PurePosixPath(tub) / name).as_posix(),
                first.picture.parent,
                [record.picture.name for record in stretch],
                problem,
            )
        )
    return jobs


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
    """Tell what is wrong with a line of a list, '' if nothing is."""
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
    """Tell whether a text can name a file that is not hidden."""
    return not name.startswith('.') and PurePosixPath(name).name == name


def plan_list(args: argparse.Namespace) -> list[Job]:
    """List the clips that a csv file lists."""

    @cache
    def names_in(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    jobs = []
    for row in read_list(args.list):
        folder = args.src / row['source_folder']
        numbers = range(int(row['first_image']), int(row['last_image']) + 1)
        files = [f'{i}_cam_image_array_.jpg' for i in numbers]
        problem = f'no folder {folder}'
        if folder.is_dir():
            missing = [name for name in files if name not in names_in(folder)]
            problem = f'{len(missing)} of {len(files)} pictures are missing, '
            problem = f'{problem}such as {missing[0]}' if missing else ''
        name = (PurePosixPath(row.get('split') or '') / row['clip']).as_posix()
        jobs.append(clip_job(args, name, name, folder, files, problem))
    return jobs


def plan(args: argparse.Namespace) -> list[Job]:
    """List the clips to be made."""
    refuse_zip(args.out)
    if args.list is not None:
        return plan_list(args)
    tubs = find_tubs(args.src)
    return [job for tub in tubs for job in plan_tub(args, *tub)]


def main() -> None:
    """Read the command line and cut."""
    parser = make_parser(
        __doc__, 'a tub, or a folder of tubs', 'folder to make'
    )
    parser.add_argument('--list', help='csv file of the clips to make')
    parser.add_argument(
        '--min-frames',
        type=positive_int,
        default=32,
        help='shorter clips are left out; default: 32, what a training clip '
        'spans',
    )
    parser.add_argument(
        '--max-gap',
        type=positive_float,
        default=130,
        metavar='MS',
        help='longest time between two frames of a clip; default: 130',
    )
    parser.add_argument(
        '--fps',
        type=frame_rate,
        default=20,
        help='frames per second, what the car records; default: 20',
    )
    parser.add_argument(
        '--gop',
        type=positive_int,
        default=12,
        help='frames from one key frame to the next, at most; default: 12',
    )
    parser.add_argument(
        '--crf',
        type=real_number(0, 51),
        default=21,
        help='quality of x264, from 0 (best) to 51; default: 21',
    )
    run_jobs(parser.parse_args(), plan)


if __name__ == '__main__':
    run_tool(main)
