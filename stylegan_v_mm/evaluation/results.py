"""Results of measurements, for people and for programs."""

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from mmengine.evaluator import BaseMetric

from ..errors import InputError
from ..version import __version__

#: Suffix of the name of a standard deviation over several runs.
RUN_STD = '-run-std'


def append_results(path: Path, results: Iterable[dict]) -> None:
    """Append results to a file of JSON lines, with date and version.

    If the disk is full, none of them is appended.

    Args:
        path (Path): The file; it is created if it does not exist.
        results (iterable): One dict for each line.

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
    """Describe how results were measured, for ``compare_metrics.py``.

    Args:
        metrics (iterable): Metrics that gave the results. Those of other
            libraries have no protocol and are skipped.
        results (iterable): Names of the results.
        size (int): Number of generated videos.

    Returns:
        list: For each metric its protocol, with the names under ``results``.
    """
    found, results = [], list(results)
    for metric in metrics:
        if hasattr(metric, 'protocol'):
            known = {*metric.result_names}
            names = [n for n in results if n.removesuffix(RUN_STD) in known]
            found.append(dict(results=names, **metric.protocol(size)))
    return found


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as a table.

    Args:
        rows (sequence): Rows of equal length; the first one is the header.

    Returns:
        str: Lines, with the first column aligned left and the others right.
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
