"""List the files in a folder or a zip, and those that are left out.

Every file that is not used goes into a list ``left_out``, by name and reason,
so that nothing is left out silently.
"""

import os
import re
import stat
import zipfile
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger

from ...errors import InputError
from .kinds import (
    DUPLICATE,
    ESCAPES,
    HIDDEN,
    IMAGE,
    KNOWN_SUFFIXES,
    MAX_FILE,
    MOVING,
    SYSTEM,
    TEXT,
    VIDEO,
    VIDEO_SUFFIXES,
    LeftOut,
    kind_of_content,
    kind_of_name,
    suffix_of,
)

# Thumbnails, trash and the like of network storage, Windows and Macs, in lower
# case; names that start with a dot are hidden anyway.
_SYSTEM_NAMES = frozenset(
    [
        '#recycle',
        '#snapshot',
        '$recycle.bin',
        '@__thumb',
        '@eadir',
        '@recently-snapshot',
        '@recycle',
        '__macosx',
        'desktop.ini',
        'ehthumbs.db',
        'ehthumbs_vista.db',
        'icon\r',
        'lost+found',
        'network trash folder',
        'system volume information',
        'temporary items',
        'thumbs.db',
    ]
)

# The dot of a suffix that starts with a digit is not a decimal point.
_DIGIT_SUFFIXES = '|'.join(s[1:] for s in VIDEO_SUFFIXES if s[1].isdigit())
_NUMBER = re.compile(
    r'((?:(?<![^/\s_=:,;(\[])-)?[0-9]+'
    rf'(?:\.(?!(?:{_DIGIT_SUFFIXES})$)[0-9]+)*)',
    re.IGNORECASE,
)


def natural_key(name: str) -> tuple:
    """Return a sort key by which ``clip2`` comes before ``clip10``.

    Numbers may have decimals: ``0.04`` comes before ``0.2``. If there are
    three parts or more, as in ``1.10.2``, each is a number of its own. A minus
    is a sign at the start of a name and after a space or one of ``_=:,;([``,
    where it does not separate words: ``t=-1`` comes before ``t=0``, and
    ``clip-1`` before ``clip-2``.
    """
    parts: list = _NUMBER.split(name)
    for i in range(1, len(parts), 2):
        # A name may be too long for an integer.
        number = parts[i]
        split = number.split('.') if number.count('.') > 1 else [number]
        parts[i] = tuple(map(Decimal, split))
    return parts, name


def join_some(names: Sequence[str], limit: int = 20) -> str:
    """Join names for a message, leaving out those beyond a limit."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return printable(', '.join(names[:limit]) + more)


def printable(text: str) -> str:
    """Escape bytes that are not valid text, which file names may contain."""
    return text.encode(errors='backslashreplace').decode()


def by_reason(left_out: LeftOut, limit: int = 20) -> list[tuple[str, str]]:
    """Group the files that are left out by reason.

    Returns:
        For each reason, a row ``reason, 'COUNT: NAMES'`` with at most
        ``limit`` names.
    """
    names = defaultdict(list)
    for name, reason in sorted(left_out, key=lambda x: natural_key(x[0])):
        names[reason].append(name)
    return [
        (reason, f'{len(names[reason])}: {join_some(names[reason], limit)}')
        for reason in sorted(names)
    ]


def log_left_out(root: str | os.PathLike, left_out: LeftOut) -> None:
    """Log the files that are left out in one line, and all names at DEBUG.

    The line is a warning, unless all files are hidden, system files or text.
    """
    if not left_out:
        return
    logger = MMLogger.get_current_instance()
    expected = all(r in (HIDDEN, SYSTEM, TEXT) for _, r in left_out)
    log = logger.info if expected else logger.warning
    log(printable(f'{root}: {describe_left_out(left_out)}'))
    everything = describe_left_out(left_out, len(left_out))
    logger.debug(printable(f'{root}: {everything}'))


def describe_left_out(left_out: LeftOut, limit: int = 3) -> str:
    """Describe the files that are left out in one line; '' if none are."""
    rows = by_reason(left_out, limit)
    return 'left out: ' * bool(rows) + '; '.join(
        f'{reason} ({names})' for reason, names in rows
    )


# Folders


def existing(path: str | os.PathLike) -> Path:
    """Check that a path exists, and return it as a ``Path``.

    Raises:
        InputError: It does not exist, or access is denied.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        raise InputError(f'{path}: no such file or folder') from None
    except (OSError, ValueError) as error:
        raise InputError(
            f'{path}: cannot be read: {getattr(error, "strerror", error)}'
        ) from None
    return Path(path)


def list_files(root: str, left_out: LeftOut) -> dict[str, list[str]]:
    """List the files under a folder.

    Links are followed, unless the target is listed already: a folder that
    contains the link, the target of another link, or anything else under
    ``root``.

    Args:
        root: The folder.
        left_out: Hidden files, system files, links to nothing and entries that
            cannot be read are added to it.

    Returns:
        For each folder, relative to ``root`` and with forward slashes ('' is
        ``root`` itself), the names of its files.

    Raises:
        InputError: If the folder itself cannot be read.
    """
    folders: dict[str, list[str]] = {}
    seen: set[str] = set()  # real paths of folders and of linked files
    linked_files = []
    todo, links = deque(['']), deque[str]()
    while todo or links:
        # Real folders go first, so that a link to one is the duplicate.
        folder = todo.popleft() if todo else links.popleft()
        real = os.path.realpath(os.path.join(root, folder))
        if real in seen:
            left_out.append((f'{folder}/', DUPLICATE))
            continue
        seen.add(real)
        try:
            with os.scandir(real) as entries:
                found = list(entries)
        except OSError as error:
            if not folder:
                raise InputError(
                    f'{root}: cannot be read: {error.strerror}'
                ) from None
            left_out.append(
                (f'{folder}/', f'cannot be read: {error.strerror}')
            )
            continue
        folders[folder] = []
        for entry in found:
            name = join_path(folder, entry.name)
            is_folder, reason = _look_at(entry)
            if reason:
                left_out.append((f'{name}/' if is_folder else name, reason))
            elif is_folder:
                (links if entry.is_symlink() else todo).append(name)
            elif entry.is_symlink():
                linked_files.append((folder, entry.name))
            else:
                folders[folder].append(entry.name)
    for folder, file in linked_files:
        real = os.path.realpath(os.path.join(root, folder, file))
        parent, base = os.path.split(real)
        if real in seen or (parent in seen and not set_aside(base)):
            left_out.append((join_path(folder, file), DUPLICATE))
        else:
            seen.add(real)
            folders[folder].append(file)
    return folders


def join_path(folder: str, name: str) -> str:
    """Join a relative folder, '' for the root, and a name."""
    return f'{folder}/{name}' if folder else name


def set_aside(name: str) -> str:
    """Return why files of this name are left out; '' if they are not."""
    if name.startswith('.'):
        return HIDDEN
    return SYSTEM if name.lower() in _SYSTEM_NAMES else ''


def _look_at(entry: os.DirEntry) -> tuple[bool, str]:
    """Return whether an entry is a folder, and why it is left out."""
    try:
        is_folder = entry.is_dir()
        if is_folder or entry.is_file():
            return is_folder, set_aside(entry.name)
        gone = entry.is_symlink() and not os.path.exists(entry.path)
        reason = 'a link to nothing' if gone else 'neither file nor folder'
    except OSError as error:
        reason = f'cannot be read: {error.strerror}'
    return False, set_aside(entry.name) or reason


# Zips


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip.

    Raises:
        InputError: It is damaged, here or where the caller reads it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except Exception as error:
        # zipfile raises a dozen types here.
        raise InputError(
            f'{path}: the zip is damaged ({type(error).__name__}: {error})'
        ) from error


def name_in_zip(entry: zipfile.ZipInfo) -> str:
    """Return the name that unpacking programs give to an entry.

    In a name without slashes, backslashes separate folders. An absolute name
    is treated as a relative one. A name that is not marked as UTF-8 is read as
    UTF-8 if it is valid, as Macs and Linux write it, else as code page 437.
    """
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode('cp437').decode()
    if '/' not in name:
        name = name.replace('\\', '/')
    parts = [part for part in name.split('/') if part not in ('', '.')]
    return '/'.join(parts) + '/' * name.endswith('/')


def list_zip(
    path: Path, left_out: LeftOut, still: bool = False
) -> list[zipfile.ZipInfo]:
    """List the images of a zip, their ``filename`` as in :func:`name_in_zip`.

    Args:
        path: The zip.
        left_out: All other files are added to it: those that
            :func:`list_files` leaves out, names with ``..``, links, videos,
            and files that were packed again later.
        still: See :func:`kinds_of_files`.

    Raises:
        InputError: The zip is damaged.
    """
    with opened_zip(path) as archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = name_in_zip(entry)
            if name.endswith('/') or not name:
                continue  # a folder
            parts = name.split('/')
            reason = next(filter(None, map(set_aside, parts)), '')
            if '..' in parts:
                reason = ESCAPES
            elif not reason and stat.S_ISLNK(entry.external_attr >> 16):
                reason = 'a link'
            if reason:
                left_out.append((name, reason))
                continue
            if name in entries:
                left_out.append((name, 'packed again, the last one counts'))
            entries[name] = entry
        known = {name for name in entries if suffix_of(name) in KNOWN_SUFFIXES}
        images = []
        for name, entry in entries.items():
            entry.filename = name
            kind = kind_of_name(name, known, still)
            if not kind:
                kind = _kind_in_zip(archive, entry, name in known)
            if kind == IMAGE:
                images.append(entry)
            else:
                in_zip = ' in a zip: unpack it' * (kind in (MOVING, VIDEO))
                left_out.append((name, kind + in_zip))
    return images


def _kind_in_zip(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, is_known: bool
) -> str:
    if entry.file_size > MAX_FILE:
        return IMAGE if is_known else 'too large'
    try:
        with archive.open(entry) as file:
            kind = kind_of_content(file, entry.filename)
    except Exception as error:
        # zipfile raises a dozen types here.
        kind = f'cannot be read: {error}'
    return IMAGE if is_known and kind not in (MOVING, VIDEO) else kind


def zip_members(path: Path, entries: list[zipfile.ZipInfo]) -> np.ndarray:
    """Return ``ZippedFrames.members`` of entries.

    Raises:
        InputError: One is encrypted or compressed in an uncommon way.
    """
    for entry in entries:
        if entry.flag_bits & 1 or entry.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise InputError(
                f'{path}: {entry.filename} is encrypted or not compressed '
                'with "deflate"; pack the zip again'
            )
    members = [
        (
            entry.header_offset,
            entry.compress_size,
            entry.compress_type,
            entry.file_size,
            entry.CRC,
        )
        for entry in entries
    ]
    # A number that does not fit in an int64 is damaged; it stays too large.
    return np.array(
        [[min(number, 2**62) for number in member] for member in members],
        np.int64,
    )
