"""Files that are complete or absent, locks, checksums, the user's cache."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex

from .errors import InputError


def user_cache() -> Path:
    """Return this package's folder in the user's cache; it may not exist."""
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache, 'stylegan_v_mm')


def sha256_of(file: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open('rb') as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Write a file or a folder that appears only when it is complete.

    If the block ends early, by an error or by SIGTERM in one of our tools,
    what it has written is removed. After a kill or a power cut, a hidden
    file is left, see :func:`remove_unfinished`.

    Args:
        path (Path): File to write or replace, or folder to create. The
            folders above it are created.
        folder (Path, optional): Where the unfinished file lies, on the same
            disk. Defaults to None, beside ``path``.

    Yields:
        Path: A hidden path for the block to write to. Nothing exists there
        yet.

    Raises:
        InputError: ``path`` cannot be written, for instance because the disk
            is full.

    Examples:
        >>> with atomic_write(Path('report.json')) as temporary:
        ...     temporary.write_text('{}')
    """
    # Random, as threads, processes and machines may write the same file, and
    # short, as the name of ``path`` may be as long as the system allows.
    temporary = (folder or path.parent) / f'.{token_hex(4)}.tmp'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f'{path} cannot be written: {error.strerror or error}'
        ) from error
    finally:
        _remove(temporary)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that :func:`atomic_write` left in killed processes.

    The caller must know that no other process writes to the folder.
    """
    for path in folder.glob('.*.tmp'):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_writable(folder: Path) -> None:
    """Create a folder, and check that files can be written to it.

    Raises:
        InputError: The folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f'the folder {folder} is not writable: {error.strerror}'
        ) from error


def check_parent(path: Path) -> None:
    """Check that the folder of a file to write exists.

    Raises:
        InputError: It does not.
    """
    if not path.absolute().parent.is_dir():
        raise InputError(f'{path}: there is no folder {path.parent}')


@contextmanager
def file_lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock that only one process at a time can hold.

    The operating system releases it when the process ends, however it ends;
    forked data workers do not inherit it. If the file system cannot lock or
    the file cannot be created, the block runs without a lock.

    Args:
        path (Path): The lock file. It is created if needed, names the process
            that holds the lock, and is removed when the lock is released.
        wait (bool): Whether to wait until the lock is free. Defaults to
            False.

    Raises:
        InputError: Another process holds the lock, and ``wait`` is False.
    """
    file = None
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, wait)
        file.truncate(0)
        name = f'process {os.getpid()} on {os.uname().nodename}'
        file.write(name.encode())
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                # The block may have removed it, and others made a new one.
                if _is_at(file, path):
                    path.unlink()
            file.close()


def _lock(path: Path, wait: bool) -> FileIO:
    """Open and lock a file that no other process has removed meanwhile."""
    # Not flock(): forked processes would share that lock.
    mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        file = path.open('a+b', buffering=0)
        try:
            fcntl.lockf(file, mode)
            if _is_at(file, path):
                return file
        except FileNotFoundError:
            pass
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().decode() or 'another process'
            raise InputError(
                f'{path.parent} is in use by {holder}: wait for its end or '
                'stop it, or choose another folder'
            ) from None
        file.close()


def _is_at(file: FileIO, path: Path) -> bool:
    return os.path.samestat(os.stat(path), os.stat(file.fileno()))
