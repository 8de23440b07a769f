"""The curves of training runs, read from their logs."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..files import atomic_write
from ..zoo import FOLDER

# Entries of validation lines, and of lines of metrics.jsonl, besides metrics.
NO_METRICS = {
    'step', 'time', 'data_time', 'memory', 'iter', 'kimg', 'num_runs',
}  # fmt: skip
#: Quantities of training that are drawn, by the titles of their panels, with
#: a label for each curve where there are several.
PANELS = {
    'Losses': {'loss_g': 'generator', 'loss_d': 'discriminator'},
    'Signs of logits': {'signs_real': 'real', 'signs_fake': 'fake'},
    'Logits': {'logits_real': 'real', 'logits_fake': 'fake'},
    'R1 penalty': {'r1_penalty': ''},
    'Path length': {'pl_mean': ''},
    'Path length penalty': {'pl_penalty': ''},
    'Augmentation p': {'augment_p': ''},
    'Frames a second': {'frames_per_sec': ''},
}
NUM_SAVED = 200  # points of a curve in a file, at most


class Run(NamedTuple):
    """The curves of a work dir, over kimg: thousands of frames.

    Attributes:
        name: The work dir.
        curves: x and y of each quantity, [2, n].
        metrics: Which quantities are metrics.
        restarts: Where the run was resumed, in kimg.
        end: Where it ends, in kimg.
    """

    name: str
    curves: dict[str, np.ndarray]
    metrics: list[str]
    restarts: list[float]
    end: float


def read_run(work_dir: str) -> Run:
    """Read all logs of a work dir as one run.

    A resumed run repeats what was trained after the checkpoint: its lines
    replace those of the earlier run from its first iteration on.

    Args:
        work_dir: Work dir of ``tools/train.py``.

    Returns:
        The run, with iterations translated to kimg, and with the metrics that
        only ``tools/test.py`` has measured.

    Raises:
        InputError: There is no log, or it is damaged.
    """
    lines: list[dict] = []
    starts: list[int] = []
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        later = read_lines(path)
        # tools/test.py writes such files, too, without training.
        if any('kimg' in line for line in later):
            start = later[0]['step']
            lines = [line for line in lines if line['step'] < start] + later
            starts = [other for other in starts if other < start] + [start]
    training = [line for line in lines if 'kimg' in line]
    if not training:
        raise InputError(
            f'{work_dir} has no training log (DATE/vis_data/scalars.json): '
            'give a work dir of tools/train.py; the first line comes after '
            'log_interval iterations'
        )
    steps = np.array([0, *(line['step'] for line in training)])
    kimgs = np.array([0, *(line['kimg'] for line in training)])

    def kimg(step: int) -> float:
        if step > steps[-1]:
            slope = (kimgs[-1] - kimgs[-2]) / (steps[-1] - steps[-2])
            return float(kimgs[-1] + (step - steps[-1]) * slope)
        return float(np.interp(step, steps, kimgs))

    points, metrics = defaultdict(list), {}
    for line in lines:
        for key, value in line.items():
            if 'kimg' not in line:
                if key in NO_METRICS:
                    continue
                metrics[key] = None
            points[key].append((kimg(line['step']), value))
    measured = measured_later(Path(work_dir, 'metrics.jsonl'))
    for key in [key for key in measured if key not in points]:
        points[key] = sorted(measured[key].items())
    metrics |= dict.fromkeys(key for key in measured if key not in metrics)
    return Run(
        name=os.path.normpath(work_dir),
        curves={key: np.array(pairs).T for key, pairs in points.items()},
        metrics=list(metrics),
        restarts=[kimg(start) for start in starts[1:]],
        end=kimgs[-1],
    )


def measured_later(path: Path) -> dict[str, dict[float, float]]:
    """Read the metrics of ``tools/test.py``: metric -> kimg -> value.

    Raises:
        InputError: A line is damaged.
    """
    points: dict[str, dict[float, float]] = defaultdict(dict)
    lines = read_lines(path) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or 'kimg' not in line:
            raise InputError(f'{path}, line {number} has no kimg: remove it')
        for key, value in line.items():
            if isinstance(value, int | float) and key not in NO_METRICS:
                points[key][line['kimg']] = value  # the last one counts
    return points


def read_lines(path: Path) -> list[dict]:
    """Read a log file; a killed run may have left half a line at its end.

    Raises:
        InputError: Another line is damaged.
    """
    texts = path.read_text(errors='replace').splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            if number < len(texts):
                raise InputError(
                    f'{path}, line {number} is damaged: remove it'
                ) from None
    return lines


def save_curves(run: Run, path: Path) -> None:
    """Write the curves of a run to a small file, as a reference for others.

    Long curves are averaged to 200 points. The speed depends on the machine
    and is left out.

    Raises:
        InputError: The file cannot be written.
    """
    quantities = {key for keys in PANELS.values() for key in keys}
    quantities |= set(run.metrics)
    curves = {}
    for key in sorted(quantities & run.curves.keys() - {'frames_per_sec'}):
        points = run.curves[key].T
        points = points[np.isfinite(points).all(1)]
        if len(points):
            parts = np.array_split(points, min(len(points), NUM_SAVED))
            means = np.array([part.mean(0) for part in parts]).T
            curves[key] = [[float(f'{v:.5g}') for v in row] for row in means]
    content = dict(end=float(run.end), metrics=run.metrics, curves=curves)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content) + '\n')


def read_reference(name: str) -> Run:
    """Read a run to compare with.

    Args:
        name: A work dir; a file of :func:`save_curves`; or the name of a
            model that comes with the package.

    Raises:
        InputError: It is none of these, or damaged.
    """
    if os.path.isdir(name):
        return read_run(name)
    known = {
        path.name.removesuffix('.curves.json'): path
        for path in sorted(FOLDER.glob('*.curves.json'))
    }
    path = Path(name) if os.path.isfile(name) else known.get(name)
    if path is None:
        raise InputError(
            f'--reference {name}: there is no such work dir or file of '
            '--save-curves, and no model of that name comes with its curves; '
            f'known are {", ".join(known) or "none"}'
        )
    try:
        content = json.loads(path.read_text())
        return Run(
            name=path.name.removesuffix('.json').removesuffix('.curves'),
            curves={
                key: np.array(points, float).reshape(2, -1)
                for key, points in content['curves'].items()
            },
            metrics=list(content['metrics']),
            restarts=[],
            end=float(content['end']),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f'{path} does not hold curves as --save-curves writes them'
        ) from None
