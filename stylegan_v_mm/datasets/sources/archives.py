"""Frames in zip archives."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from ...video.reader import DamagedVideoError
from .kinds import MAX_FILE
from .pictures import decode_images


@dataclass(frozen=True, eq=False)
class ZippedFrames:
    """A folder of images in a zip archive.

    The offsets of the images are kept instead of an open archive, so that
    workers neither share a file position nor read the directory again.

    Attributes:
        name: Path relative to the root inside the archive.
        path: The archive.
        files: [num_frames], full names of the images, natural order.
        members: [num_frames, 5], int64: offset of the local header, size in
            the archive, compression method, size, CRC-32.
    """

    name: str
    path: str
    files: Sequence[str] | np.ndarray
    members: np.ndarray
    problem = ''

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        names = [f'{self.path}/{self.files[i]}' for i in frame_inds]
        try:
            with open(self.path, 'rb') as archive:
                blobs = [self._extract(archive, i) for i in frame_inds]
        except (OSError, zlib.error) as error:
            raise DamagedVideoError(
                f'{self.path}/{self.name}: {error}'
            ) from None
        return decode_images(blobs, names)

    def _extract(self, archive: BinaryIO, i: int) -> bytes:
        offset, stored_size, method, size, crc = self.members[i].tolist()
        if max(stored_size, size) > MAX_FILE:
            raise zlib.error(f'{self.files[i]} is too large')
        archive.seek(offset)
        header = archive.read(30)
        # The local header ends with the lengths of a name and of extra data.
        skip = int.from_bytes(header[26:28], 'little') + int.from_bytes(
            header[28:30], 'little'
        )
        archive.seek(skip, os.SEEK_CUR)
        blob = archive.read(stored_size)
        if method == zipfile.ZIP_DEFLATED:
            # Stop at the stated size: a bomb unpacks to a thousand times more.
            blob = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                blob, size + 1
            )
        if len(blob) != size or zlib.crc32(blob) != crc:
            raise zlib.error(f'{self.files[i]} is damaged')
        return blob

    def signature(self) -> str:
        """Return a text that changes with the content."""
        return ' '.join(map(self.frame_signature, range(len(self))))

    def frame_signature(self, i: int) -> str:
        """Return a text that changes with frame i."""
        size, crc = self.members[i, 3:]
        return f'{self.files[i]} {size} {crc}'
