"""Images in LMDBs."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from tqdm import tqdm

from ...errors import InputError
from ...files import atomic_write
from ...video.reader import DamagedVideoError
from .pictures import decode_images


class Names(Sequence):
    """Many names in one block of memory.

    A list of a million strings takes three times as much memory, and each
    worker process would copy it by counting references.

    Args:
        names: Names as bytes, encoded as in the file system.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        ends, block = [], bytearray()
        for name in names:
            block += name
            ends.append(len(block))
        self._block = bytes(block)
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        i = range(len(self))[i]
        start = self._ends[i - 1] if i else 0
        return os.fsdecode(self._block[start : self._ends[i]])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arguments of :meth:`from_arrays`, to save in a file."""
        block = np.frombuffer(self._block, np.uint8)
        return {'block': block, 'ends': self._ends}

    @classmethod
    def from_arrays(cls, block: np.ndarray, ends: np.ndarray) -> 'Names':
        """Restore names from the result of :meth:`to_arrays`."""
        names = cls([])
        names._block, names._ends = block.tobytes(), ends
        return names


@dataclass(frozen=True, eq=False)
class LmdbFrames:
    """Encoded images in an LMDB.

    Attributes:
        path: Folder of the ``data.mdb``.
        files: The keys.
        version: A text that changes with the ``data.mdb``.
    """

    path: str
    files: Names
    version: str

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        files = [self.files[i] for i in frame_inds]
        names = [f'{self.path}/{file}' for file in files]
        try:
            with _environment(self.path).begin() as transaction:
                blobs = [transaction.get(os.fsencode(f), b'') for f in files]
        except _lmdb().Error as error:
            raise DamagedVideoError(str(error)) from None
        return decode_images(blobs, names)

    def frame_signature(self, i: int) -> str:
        """Return a text that changes with frame i."""
        return f'{self.files[i]} {self.version}'


# The keys of LMDBs are cached in the user's cache folder, because listing a
# million of them reads as many pages.

_environments: dict = {}


def list_keys(folder: Path) -> Names:
    lmdb = _lmdb()
    try:
        environment = _environment(str(folder))
        with environment.begin() as transaction:
            return Names(
                tqdm(
                    transaction.cursor().iternext(keys=True, values=False),
                    f'Listing {folder}',
                    total=environment.stat()['entries'],
                    unit='image',
                    disable=None,
                )
            )
    except lmdb.Error as error:
        raise InputError(
            f'{folder}: the LMDB cannot be read: {error}'
        ) from None


def load_keys(path: Path, version: str) -> Names | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as content:
            if damaged := content.zip.testzip():
                raise ValueError(f'{damaged} is damaged')
            if str(content['version']) != version:
                return None
            return Names.from_arrays(content['block'], content['ends'])
    except Exception as error:
        # numpy and zipfile raise a dozen types here.
        MMLogger.get_current_instance().warning(
            f'{path}: damaged cache of LMDB keys ({error}), building it again'
        )
        return None


def save_keys(path: Path, version: str, keys: Names) -> None:
    try:
        with atomic_write(path) as temporary, temporary.open('wb') as file:
            np.savez(file, version=version, **keys.to_arrays())
    except InputError as error:
        MMLogger.get_current_instance().warning(
            f'LMDB keys cannot be cached: {error}'
        )


def _lmdb() -> ModuleType:
    try:
        import lmdb
    except ImportError:
        raise InputError(
            'reading an LMDB needs a package: pip install lmdb'
        ) from None
    return lmdb


def _environment(folder: str) -> Any:
    """Open an LMDB, or return it if this process has opened it before.

    LMDB forbids opening one twice in a process.
    """
    path = os.path.realpath(folder)
    if path not in _environments:
        # Without a lock file, the data can be on a read-only disk. Images are
        # read in random order, so reading ahead would fetch the wrong ones.
        _environments[path] = _lmdb().open(
            path, readonly=True, create=False, lock=False, readahead=False
        )
    return _environments[path]


def _close_environments() -> None:
    while _environments:
        _environments.popitem()[1].close()


# A worker process opens its own.
os.register_at_fork(after_in_child=_close_environments)
