"""Search videos for flaws once, and keep what was found."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from tqdm import tqdm

from ...files import atomic_write
from ..sources.finding import VideoSource
from ..sources.video_files import VideoFile
from ..survey.copies import Prints
from ..survey.findings import Finding, look_at_video, name_copies
from ..survey.windows import Box


def analyse(
    sources: Sequence[VideoSource], folder: Path, num_workers: int
) -> list[list[Finding]]:
    """Search all frames of videos for flaws.

    Args:
        sources: The videos.
        folder: Where results are kept. A video that has not changed since is
            not searched again.
        num_workers: Videos at a time.

    Returns:
        The findings of each video.

    Raises:
        InputError: The folder cannot be written.
    """
    with ThreadPoolExecutor(num_workers) as pool:
        found = list(
            tqdm(
                pool.map(partial(_look_once, folder=folder), sources),
                'Searching for flaws',
                total=len(sources),
                unit='video',
                disable=None,
            )
        )
    findings = [list(each) for each, _ in found]
    number = {source.name: i for i, source in enumerate(sources)}
    copies = name_copies([*number], [prints for _, prints in found])
    for copy in copies:
        findings[number[copy.video]].append(copy)
    return findings


def _look_once(
    source: VideoSource, folder: Path
) -> tuple[list[Finding], Prints]:
    """Search a video, or read what was found before."""
    state = [source.name, len(source)]
    if isinstance(source, VideoFile):
        stat = Path(source.index.path).stat()
        state += [stat.st_size, stat.st_mtime_ns]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]
    path = folder / f'{key}.npz'
    try:
        with np.load(path) as kept:
            prints = Prints()
            prints.frames = kept['frames'].tolist()
            prints.hashes = kept['hashes'].tolist()
            prints.small = [*kept['small']]
            lines = json.loads(str(kept['findings']))
        return [_finding(line) for line in lines], prints
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        pass  # None yet, or one that was cut off.
    findings, prints = look_at_video(source)
    with atomic_write(path) as temporary, temporary.open('wb') as file:
        np.savez_compressed(
            file,
            frames=np.array(prints.frames, np.int64),
            hashes=np.array(prints.hashes, np.uint64),
            small=np.array(prints.small, np.uint8).reshape(-1, 16, 16),
            findings=json.dumps(findings),
        )
    return findings, prints


def _finding(line: list) -> Finding:
    """Read a finding from JSON, which has no tuples."""
    finding = Finding(*line)
    return finding._replace(
        region=finding.region and cast('Box', tuple(finding.region)),
        repeats=tuple(finding.repeats),
    )
