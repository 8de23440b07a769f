"""Video files as sources of frames, and their cached indexes."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write, file_lock, user_cache
from ...video.decoding import decode_frames
from ...video.index import VideoIndex, index_video
from ...video.reader import DamagedVideoError


@dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file.

    Attributes:
        name: Path relative to the data root.
        index: Its frames.
        size: Size in bytes.
        mtime_ns: Time of the last change, in nanoseconds.
    """

    name: str
    index: VideoIndex
    size: int
    mtime_ns: int

    def __len__(self) -> int:
        return self.index.num_frames

    @property
    def problem(self) -> str:
        """What is wrong with the file, '' if nothing was found."""
        return self.index.problem

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        return decode_frames(self.index, frame_inds)

    def signature(self) -> str:
        """Return a text that changes with the frames and how they are read."""
        return f'{self.size} {self.mtime_ns} {len(self)} v{CACHE_VERSION}'


# Indices of video files are cached in the user's cache folder, in one JSON
# file for each data root. Increase the version if an index changes.
CACHE_VERSION = '3'


def index_files(root: Path, names: list[str]) -> list[VideoFile]:
    """Index video files, using the cache for files that did not change."""
    paths = [os.path.abspath(root / name) for name in names]
    stats = [os.stat(path) for path in paths]
    cache_file = index_cache(root, '.json')

    def look_up() -> list[Any]:
        cached = _load_cache(cache_file)
        return [
            VideoFile(name, cached[key], stat.st_size, stat.st_mtime_ns)
            if (key := (path, stat.st_size, stat.st_mtime_ns)) in cached
            else None
            for name, path, stat in zip(names, paths, stats)
        ]

    sources = look_up()
    if None not in sources:
        return sources
    # One process on a machine indexes files, and the others read its cache.
    with file_lock(cache_file.with_suffix('.lock'), wait=True):
        sources = look_up()
        todo = [i for i, source in enumerate(sources) if source is None]
        # FFmpeg releases Python's global lock, so threads are enough.
        pool = ThreadPoolExecutor(os.cpu_count())
        indices = pool.map(index_or_problem, [paths[i] for i in todo])
        progress = tqdm(
            zip(todo, indices),
            f'Indexing {root}',
            total=len(todo),
            unit='video',
            disable=None,
        )
        try:
            for i, index in progress:
                sources[i] = VideoFile(
                    names[i], index, stats[i].st_size, stats[i].st_mtime_ns
                )
        finally:
            pool.shutdown(cancel_futures=True)
        _save_cache(cache_file, sources)
    return sources


def index_or_problem(path: str, thorough: bool = False) -> VideoIndex:
    try:
        return index_video(path, thorough)
    except DamagedVideoError as error:
        none = np.zeros(0, np.int64)
        return VideoIndex(
            path=path,
            codec='',
            width=0,
            height=0,
            orientation=1,
            pixel_aspect=1.0,
            fps=0.0,
            time_base=0.0,
            pts=none,
            key_pts=none,
            key_inds=none,
            regular=False,
            damaged=none,
            num_checked=0,
            problem=str(error).removeprefix(f'{path}: '),
        )


def index_cache(root: Path, suffix: str) -> Path:
    """Return the cache file of a data root."""
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return user_cache() / 'index' / f'{digest}{suffix}'


def _load_cache(path: Path) -> dict[tuple[str, int, int], VideoIndex]:
    try:
        head, _, text = path.read_text().partition('\n')
        if head != _cache_head(text):
            raise ValueError('another checksum or version')
        cached = {}
        for size, mtime_ns, index in json.loads(text):
            for key in ('pts', 'key_pts', 'key_inds', 'damaged'):
                index[key] = np.array(index[key], np.int64)
            cached[index['path'], size, mtime_ns] = VideoIndex(**index)
        return cached
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        MMLogger.get_current_instance().warning(
            f'{path}: damaged cache of video indices ({error}), '
            'building it again'
        )
        return {}


def _cache_head(text: str) -> str:
    """First line of a cache: version, and checksum of what follows."""
    return f'{CACHE_VERSION} {hashlib.sha256(text.encode()).hexdigest()}'


def _save_cache(path: Path, sources: list[VideoFile]) -> None:
    # A file that cannot be read at all is tried again the next time.
    videos = [(s.size, s.mtime_ns, asdict(s.index)) for s in sources if len(s)]
    text = json.dumps(videos, default=np.ndarray.tolist)
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(f'{_cache_head(text)}\n{text}')
    except InputError as error:
        MMLogger.get_current_instance().warning(
            f'video indices cannot be cached: {error}'
        )
