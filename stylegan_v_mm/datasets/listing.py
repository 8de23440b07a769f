"""What lies in a folder or a zip: kinds of files, and what is left out.

Whatever is not used has a name and a reason in a list ``left_out``: nothing
goes without a word.
"""

import os
import re
import stat
import zipfile
from collections import defaultdict, deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import IO

import numpy as np
from mmengine.logging import MMLogger

from ..errors import InputError
from ..video_io import DamagedVideoError
from .pictures import count_pictures, jpeg_end, open_picture, tiff_pages

# fmt: off
IMAGE_SUFFIXES = frozenset([
    '.bmp', '.dib', '.jfif', '.jif', '.jpe', '.jpeg', '.jpg', '.pbm', '.pgm',
    '.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp',
])
VIDEO_SUFFIXES = frozenset([
    '.264', '.265', '.3g2', '.3gp', '.3gpp', '.asf', '.avi', '.divx', '.f4v',
    '.flv', '.gif', '.h261', '.h263', '.h264', '.h265', '.hevc', '.ivf',
    '.m1v', '.m2ts', '.m2v', '.m4v', '.mjpeg', '.mjpg', '.mkv', '.mov',
    '.mp4', '.mpe', '.mpeg', '.mpg', '.mts', '.mxf', '.ogm', '.ogv', '.qt',
    '.rm', '.rmvb', '.ts', '.vob', '.webm', '.wmv', '.y4m',
])
_KNOWN_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
# Files called so can hold several pictures.
_MOVING_SUFFIXES = frozenset(['.png', '.tif', '.tiff', '.webp'])
# Thumbnails, trash and the like of network storage, Windows and Macs, in lower
# case; what starts with a dot is hidden anyway.
_SYSTEM_NAMES = frozenset([
    '#recycle', '#snapshot', '$recycle.bin', '@__thumb', '@eadir',
    '@recently-snapshot', '@recycle', '__macosx', 'desktop.ini', 'ehthumbs.db',
    'ehthumbs_vista.db', 'icon\r', 'lost+found', 'network trash folder',
    'system volume information', 'temporary items', 'thumbs.db',
])
# fmt: on

#: What is left out: names, those of folders with a slash behind, and reasons.
LeftOut = list[tuple[str, str]]
HIDDEN, SYSTEM, TEXT = 'hidden', "a system's own", 'text'
LEADS_OUT = 'a name that leads out'
AGAIN = 'a link to what counts already'
LMDB, OUTSIDE = 'an LMDB', 'images in no folder of frames'
#: Reasons by name alone: not what was to be packed or kept.
NOBODYS = (HIDDEN, SYSTEM, LEADS_OUT)

#: Kinds of files: a still image; several pictures, for Pillow; what FFmpeg is
#: to try. Any other kind is the reason why a file is left out.
IMAGE, MOVING, VIDEO = 'an image', 'a moving picture', 'a video'

# How files begin. FFmpeg takes whatever holds some JPEGs, such as a tar, for a
# video and reads it to its end: it only gets what begins as a video does.
_IMAGE_HEAD = re.compile(
    rb'\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|II[*+]\0|MM\0[*+]'
    rb'|BM....\0\0\0\0....[\x0c(48@l|]\0\0\0'
    rb'|P[1-6]\s(?:\s|#[^\n]*\n)*[0-9]+\s(?:\s|#[^\n]*\n)*[0-9]+\s',
    re.DOTALL,
)
_VIDEO_HEAD = re.compile(
    # mp4, mov; Matroska; AVI and its kin; Ogg; ASF; Flash;
    rb'....(ftyp|moov|mdat|moof|free|skip|wide|pnot|styp|sidx|uuid)'
    rb'|\x1aE\xdf\xa3|RIFF....(?!WAVE|WEBP)|OggS|0&\xb2u|FLV|[FCZ]WS'
    # MPEG-1, 2 and 4, H.264, HEVC, VC-1 and others; transport streams;
    rb'|\0\0\0?\x01|G.{187}G|....G.{191}G'
    # IVF, AV1, MXF, GXF, DV, GIF, y4m, RealMedia, NUT and old ones.
    rb'|DKIF|\x12\0\n|\x06\x0e\+4|\0\0\0\0\x01\xbc|\x1f\x07\0|GIF8|YUV4MPEG2'
    rb'|\.RMF|nut/|BBCD|NuppelVideo|MythTVVideo|NSV[fs]|BIK|KB2|SMK[24]|LPF '
    rb'|....[\x11\x12\x44]\xaf|\x84\x10\xff\xff',
    re.DOTALL,
)
_OTHER_HEADS = {
    'an archive': rb'PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf|Rar!|BZh'
    rb'|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar',
    LMDB: rb'.{16}\xde\xc0\xef\xbe',
    'a HEIF picture': rb'....ftyp(avif|hei[cxms]|mif1|miaf)',
}
_HEAD = 1024  # bytes
#: Bytes of an image file, and of a file of labels.
MAX_FILE = 2**28

# The dot of a suffix that starts with a digit is no decimal point.
_DIGIT_SUFFIXES = '|'.join(s[1:] for s in VIDEO_SUFFIXES if s[1].isdigit())
_NUMBER = re.compile(
    r'((?:(?<![^/\s_=:,;(\[])-)?[0-9]+'
    rf'(?:\.(?!(?:{_DIGIT_SUFFIXES})$)[0-9]+)*)',
    re.IGNORECASE,
)


def natural_key(name: str) -> tuple:
    """Sort key by which ``clip2`` comes before ``clip10``.

    Numbers may have decimals: ``0.04`` comes before ``0.2``. Of three parts or
    more, as in ``1.10.2``, each counts by itself. A minus is a sign at the
    start of a name and behind a space or one of ``_=:,;([``, where it
    separates nothing: ``t=-1`` comes before ``t=0``, ``clip-1`` before
    ``clip-2``.
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
    """Write out bytes that are no text, as names of files may hold."""
    return text.encode(errors='backslashreplace').decode()


def by_reason(left_out: LeftOut, limit: int = 20) -> list[tuple[str, str]]:
    """Sum up what is left out.

    Returns:
        For each reason a row ``reason, 'COUNT: NAMES'``, at most ``limit``
        names.
    """
    names = defaultdict(list)
    for name, reason in sorted(left_out, key=lambda x: natural_key(x[0])):
        names[reason].append(name)
    return [
        (reason, f'{len(names[reason])}: {join_some(names[reason], limit)}')
        for reason in sorted(names)
    ]


def log_left_out(root: str | os.PathLike, left_out: LeftOut) -> None:
    """Log what is left out, in one line; all names at the level of debug.

    It is a warning, unless all of that is hidden, a system's own, or text.
    """
    if not left_out:
        return
    logger = MMLogger.get_current_instance()
    expected = all(r in (HIDDEN, SYSTEM, TEXT) for _, r in left_out)
    say = logger.info if expected else logger.warning
    say(printable(f'{root}: {describe_left_out(left_out)}'))
    everything = describe_left_out(left_out, len(left_out))
    logger.debug(printable(f'{root}: {everything}'))


def describe_left_out(left_out: LeftOut, limit: int = 3) -> str:
    """Sum up what is left out in a line; '' if nothing is."""
    rows = by_reason(left_out, limit)
    return 'left out: ' * bool(rows) + '; '.join(
        f'{reason} ({names})' for reason, names in rows
    )


# Folders


def existing(path: str | os.PathLike) -> Path:
    """Check that there is something at a path, and return it as such.

    Raises:
        InputError: There is none, or it may not be seen.
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

    Links are followed, but what has been listed already does not count again:
    neither a folder around the link, nor what two links lead to, nor what
    lies under the folder itself.

    Args:
        root: The folder.
        left_out: Gets hidden files and folders, those that belong to a
            system, links to nothing, and what may not be read or is no file.

    Returns:
        Folders, relative to ``root`` and with forward slashes ('' is the
        root), and the names of the files in each.

    Raises:
        InputError: If the folder itself cannot be read.
    """
    folders: dict[str, list[str]] = {}
    seen: set[str] = set()  # real paths of folders and of linked files
    linked_files = []
    todo, links = deque(['']), deque[str]()
    while todo or links:
        # What lies here by itself goes first, so that a link to it is the
        # second to show it.
        folder = todo.popleft() if todo else links.popleft()
        real = os.path.realpath(os.path.join(root, folder))
        if real in seen:
            left_out.append((f'{folder}/', AGAIN))
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
            name = place(folder, entry.name)
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
            left_out.append((place(folder, file), AGAIN))
        else:
            seen.add(real)
            folders[folder].append(file)
    return folders


def place(folder: str, name: str) -> str:
    """Join a relative folder, '' for the root, and a name."""
    return f'{folder}/{name}' if folder else name


def set_aside(name: str) -> str:
    """Return why no file or folder of this name counts; '' if it may."""
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


# Kinds of files


def kinds_of_files(
    folder: str, names: Sequence[str], still: bool = False
) -> list[str]:
    """Return the kinds of the files in a folder.

    Args:
        folder: Path of the folder.
        names: Of its files.
        still: Whether whatever is called an image is one, and need not be
            looked at.

    Returns:
        [len(names)], :data:`IMAGE`, :data:`MOVING`, :data:`VIDEO`, or why the
        file is left out.
    """
    known = {name for name in names if suffix_of(name) in _KNOWN_SUFFIXES}
    kinds = []
    for name in names:
        kind = kind_of_name(name, known, still)
        if not kind:
            path = os.path.join(folder, name)
            try:
                with open(path, 'rb') as file:
                    kind = kind_of_content(file, path)
            except OSError as error:
                kind = f'cannot be read: {error.strerror}'
            # Of what is called an image, reading it says what is wrong.
            if name in known and kind not in (MOVING, VIDEO):
                kind = IMAGE
        kinds.append(kind)
    return kinds


def kind_of_name(name: str, known: Container[str], still: bool = False) -> str:
    """Return the kind of a file by its name, '' if its content decides.

    Args:
        name: Of the file.
        known: Names of the files beside it that have a known suffix.
        still: See :func:`kinds_of_files`.
    """
    suffix = suffix_of(name)
    if suffix in VIDEO_SUFFIXES:
        return VIDEO
    if suffix in IMAGE_SUFFIXES:
        return '' if suffix in _MOVING_SUFFIXES and not still else IMAGE
    if any(name[:i] in known for i in range(1, len(name))):
        # a.mp4_original, 0.jpg~, 0.png.bak
        return 'named like a copy of a file beside it'
    return ''


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name, in lower case."""
    return os.path.splitext(name)[1].lower()


def kind_of_content(file: IO[bytes], name: object) -> str:
    """Return the kind of a file by its content, reading no more than needed.

    Args:
        file: The file, at its start.
        name: Of the file, for messages.

    Returns:
        See :func:`kinds_of_files`.
    """
    head = file.read(_HEAD)
    if not head:
        return 'empty'
    if _IMAGE_HEAD.match(head):
        return _kind_of_image(head, file, name)
    for kind, pattern in _OTHER_HEADS.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    if _is_text(head) and not head.startswith(b'YUV4MPEG2'):
        return TEXT
    return VIDEO if _VIDEO_HEAD.match(head) else 'neither video nor image'


def _is_text(head: bytes) -> bool:
    if head.startswith((b'\xff\xfe', b'\xfe\xff')):  # UTF-16
        return True
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()  # the last character is cut off
    return all(c >= ' ' or c in '\t\n\r\f\x1b' for c in text)


def _kind_of_image(head: bytes, file: IO[bytes], name: object) -> str:
    if head[:2] == b'\xff\xd8':
        return VIDEO if _is_jpeg_stream(file) else IMAGE
    if head[:4] == b'\x89PNG':
        return VIDEO if _is_apng(head, file) else IMAGE
    if head[:2] in (b'II', b'MM'):
        count, is_whole = tiff_pages(file)
        return MOVING if count > 1 or (count and not is_whole) else IMAGE
    # The extended format has a flag for animations.
    if head[12:16] != b'VP8X' or not sum(head[20:21]) & 2:
        return IMAGE
    if file.seek(0, os.SEEK_END) > MAX_FILE:
        return MOVING
    file.seek(0)
    try:
        count, _ = count_pictures(open_picture(file, name), file)
    except DamagedVideoError:
        return MOVING  # its reader says what is wrong
    return MOVING if count > 1 else IMAGE


def _is_jpeg_stream(file: IO[bytes]) -> bool:
    """Whether one JPEG follows another, and not as a phone adds one."""
    file.seek(0)
    blob = file.read(2**22)
    end = jpeg_end(blob)
    follows = end > 0 and blob[end : end + 3] == b'\xff\xd8\xff'
    return follows and b'MPF\0' not in blob[:end]


def _is_apng(head: bytes, file: IO[bytes]) -> bool:
    at = 8
    while True:
        chunk = head[at : at + 12]
        if len(chunk) < 12:
            file.seek(at)
            chunk = file.read(12)
        name = chunk[4:8]
        if name == b'acTL':
            return int.from_bytes(chunk[8:12], 'big') > 1
        if len(chunk) < 12 or name in (b'IDAT', b'IEND'):
            return False
        at += 12 + int.from_bytes(chunk[:4], 'big')


# Zips


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip.

    Raises:
        InputError: It is damaged, there or where the caller reads.
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
    """Return the name that programs that unpack zips give to an entry.

    Without a slash, backslashes part folders. An absolute name means the same
    as a relative one. What is not said to be UTF-8 is so if it can be, as
    where a Mac or Linux has packed, else it is in DOS's characters.
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
        left_out: Gets all else: what :func:`list_files` leaves out, names
            with ``..``, links, videos, and what was packed again later.
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
                reason = LEADS_OUT
            elif not reason and stat.S_ISLNK(entry.external_attr >> 16):
                reason = 'a link'
            if reason:
                left_out.append((name, reason))
                continue
            if name in entries:
                left_out.append((name, 'packed again, the last one counts'))
            entries[name] = entry
        known = {
            name for name in entries if suffix_of(name) in _KNOWN_SUFFIXES
        }
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
    """Make ``ZippedFrames.members`` of entries.

    Raises:
        InputError: One is encrypted or compressed in an uncommon way.
    """
    for entry in entries:
        if entry.flag_bits & 1 or entry.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise InputError(
                f'{path}: {entry.filename} is encrypted or compressed '
                'otherwise than by "deflate"; pack the zip again'
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
    # What does not fit in an int64 is damaged, and too large as well.
    return np.array(
        [[min(number, 2**62) for number in member] for member in members],
        np.int64,
    )
