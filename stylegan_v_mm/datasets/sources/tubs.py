"""The recordings of Donkey Cars, called tubs.

A tub holds numbered pictures and a record of each: its time, the steering and
the throttle. Newer cars write catalogs and a manifest that marks deleted
records; older ones write a ``record_N.json`` for each picture.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError

PICTURE = 'cam/image_array'
STOPPED = 0.01  # absolute speed or throttle


@dataclass
class Record:
    """One picture of a tub.

    Attributes:
        number: Number of the record in the tub.
        time: Time in milliseconds since an arbitrary moment.
        picture: Path of the picture.
        stopped: Whether speed or throttle is 0; None if neither is recorded.
        problem: Why the record belongs to no clip, '' if it may.
    """

    number: int
    time: float
    picture: Path
    stopped: bool | None
    problem: str = ''


def find_tubs(root: Path) -> list[tuple[str, Path]]:
    """List the tubs under a folder: paths relative to it, and folders.

    Links are followed, but no folder is visited twice. Hidden folders are
    skipped.
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
    """Return the lines of all catalogs, and the numbers of deleted records."""
    # The fifth line is about the catalogs; the first four are not needed.
    manifest = folder / 'manifest.json'
    try:
        contents = json.loads(manifest.read_text().split('\n', 4)[4])
        catalogs = [folder / Path(name).name for name in contents['paths']]
        deleted = set(map(int, contents['deleted_indexes']))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f'{manifest}, which lists deleted records, is missing or damaged '
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
    """Read a tub with one file per record, see :func:`read_catalogs`."""
    exclude = folder / 'exclude.json'
    try:
        deleted = (
            set(map(int, json.loads(exclude.read_text())))
            if exclude.exists()
            else set()
        )
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f'{exclude}, which lists deleted records, is damaged ({error})'
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
    """Parse a record; ``number`` counts if the record has no number."""
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
        return Record(
            number=number,
            time=np.nan,
            picture=images,
            stopped=None,
            problem='its record is damaged',
        )


def is_stopped(entry: dict) -> bool | None:
    """Return whether the speed of a record, or else its throttle, is 0.

    The throttle is that of the driver, the user or the autopilot. The result
    is None if neither speed nor throttle is recorded.
    """
    by_user = entry.get('user/mode', 'user') in ('user', 'local_angle')
    throttle = 'user/throttle' if by_user else 'pilot/throttle'
    speeds = [key for key in entry if key.rpartition('/')[2] == 'speed']
    for value in map(entry.get, [*speeds, throttle]):
        if isinstance(value, int | float):
            return abs(value) < STOPPED
    return None
