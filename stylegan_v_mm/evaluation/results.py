"""Results of measurements, for people and for programs."""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from ..errors import InputError
from ..version import __version__


def append_results(path: Path, results: Iterable[dict]) -> None:
    """Append results to a file of JSON lines, with date and version.

    All of them or, where the disk is full, none.

    Args:
        path (Path): The file; made if there is none.
        results (iterable): One dict a line.

    Raises:
        InputError: The file cannot be written.
    """
    about = dict(
        date=datetime.now().astimezone().isoformat(timespec='seconds'),
        version=__version__,
    )
    lines = [json.dumps({**result, **about}) + '\n' for result in results]
    try:
        end = path.stat().st_size if path.exists() else 0
        try:
            with path.open('a') as file:
                file.write(''.join(lines))
        except OSError:
            if path.exists():
                os.truncate(path, end)  # half a line would join the next one
            raise
    except OSError as error:
        raise InputError(
            f'{path} cannot be written: {error.strerror}'
        ) from error


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells, the first of which are the columns' heads.

    Args:
        rows (sequence): All of the same length.

    Returns:
        str: Lines; the first column is aligned left, others right.
    """
    first, *others = (max(map(len, column)) for column in zip(*rows))
    return '\n'.join(
        '  '.join(
            [
                row[0].ljust(first),
                *(cell.rjust(width) for cell, width in zip(row[1:], others)),
            ]
        )
        for row in rows
    )
