"""Decode image files upright, and count the frames of animated ones."""

import io
import re
import struct
from collections.abc import Sequence
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...video.reader import (
    MAX_FRAME_PIXELS,
    DamagedVideoError,
    exif_orientation,
    upright,
)

_FORMATS = ('BMP', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
_JPEG = ('JPEG', 'MPO')
# Markers of JPEG segments: any of them, the one that ends an image, the one
# before coded pixels, and those that may come between groups of pixels
# (tables, comments, application data).
_JPEG_MARKER = re.compile(b'\xff[^\0\xd0-\xd7\xff]')
_JPEG_END, _JPEG_PIXELS = 0xD9, 0xDA
_JPEG_BETWEEN = (
    0xC4,
    _JPEG_PIXELS,
    0xDB,
    0xDC,
    0xDD,
    *range(0xE0, 0xF0),
    0xFE,
)
# The TIFF tag of the kind of a page, two of its bits, and how many pages are
# counted at most.
_PAGE_KIND, _THUMBNAIL, _MASK = 254, 1, 4
_MAX_PAGES = 2**16


def decode_images(blobs: Sequence[bytes], names: Sequence) -> np.ndarray:
    """Decode still images of one size.

    Args:
        blobs: Contents of the image files.
        names: Names of the files, for messages.

    Returns:
        [T, H, W, 3], uint8, RGB, turned upright.

    Raises:
        DamagedVideoError: A file is not an image, damaged, too large, of
            another size, or animated.
    """
    frames = np.empty(0, np.uint8)
    for i, (blob, name) in enumerate(zip(blobs, names)):
        image = _decode(blob, name)
        if i == 0:
            frames = np.empty((len(blobs), *image.shape), np.uint8)
        if image.shape != frames.shape[1:]:
            raise DamagedVideoError(
                f'{name}: the frames of one video must have one size, got '
                f'{image.shape[1]}x{image.shape[0]} and '
                f'{frames.shape[2]}x{frames.shape[1]} ({names[0]})'
            )
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=frames[i])
    return frames


def _decode(blob: bytes, name: object) -> np.ndarray:
    """Decode an image, [H, W, 3], uint8, BGR."""
    file = io.BytesIO(blob)
    image = open_picture(file, name)
    count, _ = count_pictures(image, file)
    if count > 1:
        raise DamagedVideoError(
            f'{name}: an animated image of {count} frames, not a still one'
        )
    if image.format == 'TIFF':
        # OpenCV does not report damage in compressed data.
        return np.ascontiguousarray(to_rgb(image, name)[..., ::-1])
    is_jpeg = image.format in _JPEG
    if is_jpeg and not jpeg_end(blob):
        # Up to 4.10, OpenCV fills in missing pixels with grey.
        raise DamagedVideoError(f'{name}: damaged, the JPEG ends early')
    if image.format == 'PNG' and not png_is_whole(blob):
        # OpenCV allocates as much memory as a chunk states as its size.
        raise DamagedVideoError(f'{name}: damaged, the PNG ends early')
    # IMREAD_COLOR also converts grey, palette and alpha images to three
    # channels. All versions of OpenCV apply the orientation of a PNG, whose
    # EXIF may come last.
    flags, orientation = cv2.IMREAD_COLOR, 1
    if is_jpeg or image.format == 'WEBP':
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        orientation = exif_orientation(image)
    bgr = cv2.imdecode(np.frombuffer(blob, np.uint8), flags)
    if bgr is None:
        raise DamagedVideoError(f'{name}: the image is damaged')
    return np.ascontiguousarray(upright(bgr, orientation))


def open_picture(file: IO[bytes], name: object) -> Image.Image:
    """Read the header of an image and check its format and size.

    OpenCV allocates memory for pixels before it reads them, and supports
    formats that nobody needs here.

    Args:
        file: An image file; must stay open while the image is used.
        name: Name of the file, for messages.

    Raises:
        DamagedVideoError: It is not an image, or too large.
    """
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise DamagedVideoError(f'{name}: not an image') from None
    except Image.DecompressionBombError as error:
        raise DamagedVideoError(f'{name} is too large: {error}') from None
    except Exception as error:
        # Pillow raises a dozen types here.
        raise DamagedVideoError(f'{name}: not an image: {error}') from None
    _check_size(image, name)
    return image


def _check_size(image: Image.Image, name: object) -> None:
    width, height = image.size
    if width * height > MAX_FRAME_PIXELS:
        raise DamagedVideoError(
            f'{name}: an image of {width}x{height} pixels is too large, at '
            f'most {MAX_FRAME_PIXELS} are allowed'
        )


def count_pictures(image: Image.Image, file: IO[bytes]) -> tuple[int, bool]:
    """Count the frames of an animation or the pages of a TIFF.

    Args:
        image: From :func:`open_picture`.
        file: The same file, whose position changes.

    Returns:
        The number of frames or pages that can be read, 1 for a still image
        even if it has a thumbnail or a mask; and whether the file is complete.
    """
    if image.format == 'TIFF':
        return tiff_pages(file)
    # A phone's JPEG may contain a second image, which no viewer shows.
    moves = image.format in ('PNG', 'WEBP')
    return getattr(image, 'n_frames', 1) if moves else 1, True


def tiff_pages(file: IO[bytes]) -> tuple[int, bool]:
    """Count the pages of a TIFF, see :func:`count_pictures`.

    Pillow treats a page beyond the end of the file as one without tags.
    """
    file.seek(0)
    head = file.read(4)
    order = '<' if head[:2] == b'II' else '>'
    # Types of an offset and of the number of tags, and bytes per tag.
    is_big = b'+' in head[2:]
    offset, count, tag_size = ('Q', 'Q', 20) if is_big else ('I', 'H', 12)
    value = 12 if is_big else 8  # offset in a tag

    def number(at: int, kind: str) -> int:
        file.seek(at)
        size = struct.calcsize(order + kind)
        return struct.unpack(order + kind, file.read(size))[0]

    def is_page(tags: range) -> bool:
        for tag in tags:
            if number(tag, 'H') == _PAGE_KIND:
                return not number(tag + value, 'I') & (_THUMBNAIL | _MASK)
        return True

    pages: set[int] = set()
    try:
        page = number(8 if is_big else 4, offset)
        # As in Pillow, a page that came before ends the list.
        while page and page not in pages and len(pages) < _MAX_PAGES:
            start = page + struct.calcsize(order + count)
            end = start + number(page, count) * tag_size
            following = number(end, offset)
            if len(pages) == 1 and not is_page(range(start, end, tag_size)):
                return 1, True
            pages.add(page)
            page = following
    except (struct.error, OverflowError, OSError):
        return len(pages), False
    return len(pages), True


def show_times(
    blob: bytes, num_frames: int
) -> tuple[np.ndarray | None, float]:
    """Read the presentation times of the frames in an animated WebP.

    Args:
        blob: Content of the file.
        num_frames: Number of frames.

    Returns:
        [num_frames], seconds from the start, and the average frame rate; None
        and 0 if they are unknown.
    """
    durations, at = [], 12
    while blob[:4] == b'RIFF' and at + 8 <= len(blob):
        size = int.from_bytes(blob[at + 4 : at + 8], 'little')
        if blob[at : at + 4] == b'ANMF':
            # After the position and the size of the frame.
            milliseconds = blob[at + 20 : at + 23]
            durations.append(int.from_bytes(milliseconds, 'little') / 1000)
        at += 8 + size + size % 2
    total = sum(durations)
    if len(durations) != num_frames or not total:
        return None, 0.0
    return np.cumsum([0.0, *durations[:-1]]), num_frames / total


def to_rgb(image: Image.Image, name: object, number: int = 0) -> np.ndarray:
    """Decode one of the images in a file with Pillow, and turn it upright.

    Args:
        image: From :func:`open_picture`.
        name: Name of the file, for messages.
        number: Index of the image in the file.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        DamagedVideoError: It is damaged, too large, or has 32 bits per
            channel.
    """
    try:
        image.seek(number)
    except Exception as error:
        # Pillow raises a dozen types here, and below.
        raise DamagedVideoError(f'{name}: damaged: {error}') from None
    _check_size(image, name)
    if image.mode in ('I', 'F'):
        raise DamagedVideoError(
            f'{name}: pixels of 32 bits; convert them to 8 or 16 bits'
        )
    try:
        # Pillow turns a TIFF upright when it loads it.
        image.load()
        turned = ImageOps.exif_transpose(image)
        if image.mode.startswith('I;16'):
            grey = (np.asarray(turned) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(turned.convert('RGB'))
    except Exception as error:
        raise DamagedVideoError(f'{name}: damaged: {error}') from None


def jpeg_end(blob: bytes) -> int:
    """Find the end of the first image in a JPEG file; 0 if it has none.

    The search goes from segment to segment, because one of them may contain
    a whole thumbnail. Coded pixels contain no bytes that look like the marker
    of a segment.
    """
    at, has_pixels = 2, False
    while found := _JPEG_MARKER.search(blob, at):
        at = found.end()
        marker = blob[at - 1]
        if marker == _JPEG_END:
            return at if has_pixels else 0
        if has_pixels and marker not in _JPEG_BETWEEN:
            return 0
        has_pixels = has_pixels or marker == _JPEG_PIXELS
        at += int.from_bytes(blob[at : at + 2], 'big')
    return 0


def png_is_whole(blob: bytes) -> bool:
    """Whether the chunks of a PNG reach its last one within the file."""
    at = 8
    while blob[at + 4 : at + 8] != b'IEND':
        at += 12 + int.from_bytes(blob[at : at + 4], 'big')
        if at > len(blob):
            return False
    return at + 12 <= len(blob)
