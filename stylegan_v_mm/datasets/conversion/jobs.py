"""Jobs of a conversion, which a later run resumes.

A conversion lists jobs, one for each video that it makes, and
:func:`do_jobs` does those that are not done yet. A video appears in OUT when
it is complete, so that the process may be killed at any time. The settings
are written to ``OUT/conversion.json``, and a later run must have the same.

If OUT ends in ``.zip``, the videos are collected in the hidden folder
``.OUT.parts`` beside it. When all are complete, they are packed, and the
folder is removed.
"""

import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write, file_lock, remove_unfinished
from ...video.reader import DamagedVideoError
from ..sources.listing import join_some, printable

SETTINGS = 'conversion.json'
REPORT = 'report.json'
LOCK = '.lock'


@dataclass(frozen=True)
class Job:
    """A video to be made.

    Attributes:
        source: Name of its source in the report.
        name: Path of the mp4 file or frame folder in the output, with forward
            slashes.
        num_items: Number of items.
        items: Starts the work and returns what is written: frames [H, W, 3],
            uint8, RGB, or whatever ``write`` takes.
        write: Writes the items to a path, which appears when it is complete.
        problem: Why it cannot be made, '' if nothing is known.
    """

    source: str
    name: str
    num_items: int
    items: Callable[[], Iterator]
    write: Callable[[Iterator, Path], None]
    problem: str = ''


class Report(NamedTuple):
    """Results of the jobs.

    Attributes:
        file: The JSON file to which the report is written.
        made: Names of the videos that were made.
        there: Names of the videos that existed already.
        skipped: Why other videos were not made, keyed by source.
    """

    file: Path
    made: list[str]
    there: list[str]
    skipped: dict[str, str]


def do_jobs(
    src: Path,
    out: Path,
    plan: Callable[[], list[Job]],
    settings: dict,
    num_workers: int,
) -> Report:
    """Do the jobs that are not done yet.

    Args:
        src: The data to convert.
        out: Folder or ``.zip`` file to write.
        plan: Returns the jobs.
        settings: ``tool``, the name of the converter, and all options that
            change the videos, as JSON values.
        num_workers: How many videos are converted at a time.

    Returns:
        The results.

    Raises:
        InputError: OUT was made with other settings or by something else,
            cannot be written, is in SRC, or is used by another process; two
            jobs have one name, or a name is impossible in a zip; or no job
            can be done.
    """
    if out.resolve().is_relative_to(src.resolve()):
        raise InputError(f'{out}: OUT must not lie in SRC, {src}')
    zipped = out.suffix == '.zip'
    folder = out.with_name(f'.{out.name}.parts') if zipped else out
    file = out.with_suffix('.report.json') if zipped else out / REPORT
    _check_settings(out, folder, settings)

    jobs = plan()
    _check_names(jobs, zipped)
    skipped = {job.source: job.problem for job in jobs if job.problem}
    jobs = [job for job in jobs if not job.problem]
    if not jobs:
        raise InputError(f'{src}: {_none_usable(skipped)}')
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
            problems = _do(todo, folder, num_workers)
            if zipped:
                _pack(folder, [j for j in jobs if j.name not in packed], out)
            skipped |= problems
            made = [j.name for j in todo if j.source not in problems]
            begun = {job.name for job in todo}
            there = [job.name for job in jobs if job.name not in begun]
            content = {'made': made, 'there already': there}
            _write_json(file, content | {'skipped': skipped}, folder)
            if zipped:
                (folder / SETTINGS).unlink()  # the rest is no output any more
                shutil.rmtree(folder)
    except OSError as error:
        raise InputError(f'{out} cannot be written: {error}') from error
    if not made and not there:
        raise InputError(f'{src}: {_none_usable(skipped)}')
    return Report(file, made, there, skipped)


def _none_usable(skipped: dict[str, str]) -> str:
    reasons = [f'{source} ({problem})' for source, problem in skipped.items()]
    return (
        f'none of {len(skipped)} videos can be used: {join_some(reasons, 5)}'
    )


def _check_settings(out: Path, folder: Path, settings: dict) -> None:
    """Check that existing output was made with the same settings."""
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
    # If the tool is another one, only its name matters.
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
    """Check that no job overwrites another and that a zip allows all names."""
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
    """Clean up after a killed run, and write the settings to a file."""
    if zipped and not (folder / SETTINGS).exists():
        for path in folder.iterdir():  # it was about to be removed
            shutil.rmtree(path, ignore_errors=True)
    for parent in {folder, *((folder / job.name).parent for job in jobs)}:
        remove_unfinished(parent)
    if not (folder / SETTINGS).exists():
        _write_json(folder / SETTINGS, settings, folder)


def _do(jobs: list[Job], folder: Path, num_workers: int) -> dict[str, str]:
    """Do jobs, several at a time; return the problems, keyed by source.

    Decoding, resizing and encoding release Python's global lock, so threads
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
    with atomic_write(out, folder) as temporary:
        if out.exists():
            shutil.copyfile(out, temporary)
        with zipfile.ZipFile(temporary, 'a') as archive:
            if not out.exists():
                archive.write(folder / SETTINGS, SETTINGS)
            progress = tqdm(names, 'Packing', unit='video', disable=None)
            for name in progress:
                for file in sorted((folder / name).iterdir()):
                    archive.write(file, f'{name}/{file.name}')


def _write_json(path: Path, content: dict, folder: Path) -> None:
    with atomic_write(path, folder) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
