"""The user's cache, checksums and locks."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError


def user_cache() -> Path:
    """Folder of this package in the user's cache; may not exist yet."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache, 'stylegan_v_mm')


def sha256_of(file: Path) -> str:
    """Checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, where the file system can lock.

    Raises:
        InputError: Another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f'another process is at work in {folder}'
                ) from None
        yield
    finally:
        os.close(descriptor)
