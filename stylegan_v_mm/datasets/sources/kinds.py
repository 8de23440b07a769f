"""Kinds of files, by name and first bytes, and why a file is left out."""

import os
import re
from collections.abc import Container, Sequence
from typing import IO

from ...video.reader import DamagedVideoError
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
KNOWN_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
# Files with these suffixes can hold several images.
_MOVING_SUFFIXES = frozenset(['.png', '.tif', '.tiff', '.webp'])

# fmt: on

#: Names and reasons of files that are left out; a name that ends with a slash
#: is a folder.
LeftOut = list[tuple[str, str]]
HIDDEN, SYSTEM, TEXT = 'hidden', 'a system file', 'text'
ESCAPES = 'a name that points outside the zip'
DUPLICATE = 'a link to something listed already'
LMDB, OUTSIDE = 'an LMDB', 'images in no folder of frames'
#: Reasons that follow from the name, of files that nobody packs on purpose.
UNWANTED = (HIDDEN, SYSTEM, ESCAPES)

#: Kinds of files: a still image; several images, for Pillow; what FFmpeg
#: tries. Any other kind is the reason why a file is left out.
IMAGE, MOVING, VIDEO = 'an image', 'an animated image', 'a video'

# First bytes of files. FFmpeg takes any file with JPEGs in it, such as a tar,
# for a video and reads it to its end, so it only gets files that begin like a
# video.
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
#: Largest image file or label file, in bytes.
MAX_FILE = 2**28


def kinds_of_files(
    folder: str, names: Sequence[str], still: bool = False
) -> list[str]:
    """Return the kinds of the files in a folder.

    Args:
        folder: Path of the folder.
        names: Names of its files.
        still: Whether every file with the suffix of an image is a still image,
            so that its content need not be read.

    Returns:
        [len(names)], :data:`IMAGE`, :data:`MOVING`, :data:`VIDEO`, or the
        reason why the file is left out.
    """
    known = {name for name in names if suffix_of(name) in KNOWN_SUFFIXES}
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
            # For other files with the suffix of an image, decoding reports
            # what is wrong.
            if name in known and kind not in (MOVING, VIDEO):
                kind = IMAGE
        kinds.append(kind)
    return kinds


def kind_of_name(name: str, known: Container[str], still: bool = False) -> str:
    """Return the kind of a file by its name, '' if its content decides.

    Args:
        name: Name of the file.
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
        name: Name of the file, for messages.

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
    # WebP's extended format has a flag for animations.
    if head[12:16] != b'VP8X' or not sum(head[20:21]) & 2:
        return IMAGE
    if file.seek(0, os.SEEK_END) > MAX_FILE:
        return MOVING
    file.seek(0)
    try:
        count, _ = count_pictures(open_picture(file, name), file)
    except DamagedVideoError:
        return MOVING  # its reader reports what is wrong
    return MOVING if count > 1 else IMAGE


def _is_jpeg_stream(file: IO[bytes]) -> bool:
    """Whether one JPEG follows another, except for one that a phone adds."""
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
