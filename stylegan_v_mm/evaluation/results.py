"""Results of measurements, for people and for programs."""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from mmengine.evaluator import BaseMetric

from ..errors import InputError
from ..version import __version__

#: Ends the name of a standard deviation over several runs.
RUN_STD = '-run-std'


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


def protocols(
    metrics: Iterable[BaseMetric], results: Iterable[str], size: int
) -> list[dict]:
    """Say how results were measured, for ``compare_metrics.py``.

    Args:
        metrics (iterable): Those that gave the results; another library's do
            not say it.
        results (iterable): Names of the results.
        size (int): How many generated videos there were.

    Returns:
        list: For each metric its protocol, and as ``results`` the names.
    """
    found, results = [], list(results)
    for metric in metrics:
        if hasattr(metric, 'protocol'):
            known = {*metric.result_names}
            names = [n for n in results if n.removesuffix(RUN_STD) in known]
            found.append(dict(results=names, **metric.protocol(size)))
    return found


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
