"""Folders of frames and animated images as sources of frames."""

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...video.reader import DamagedVideoError
from .kinds import MAX_FILE
from .pictures import (
    count_pictures,
    decode_images,
    open_picture,
    show_times,
    to_rgb,
)


@dataclass(frozen=True, eq=False)
class MovingPicture:
    """A file that Pillow reads: an animated WebP, or a TIFF of several pages.

    Attributes:
        name: Path relative to the data root.
        path: The file.
        num_frames: Number of frames or pages.
        times: [num_frames], presentation times in seconds from 0 on; None if
            unknown.
        fps: Average frame rate, 0 if unknown.
        size: Size in bytes.
        mtime_ns: Time of the last change, in nanoseconds.
        problem: What is wrong with the file, '' if nothing was found.
    """

    name: str
    path: str
    num_frames: int
    times: np.ndarray | None
    fps: float
    size: int
    mtime_ns: int
    problem: str = ''

    def __len__(self) -> int:
        return self.num_frames

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        wanted = np.unique(frame_inds).tolist()
        frames = dict(zip(wanted, self.iterate(wanted)))
        if len({frame.shape for frame in frames.values()}) > 1:
            raise DamagedVideoError(f'{self.path}: frames differ in size')
        return np.stack([frames[int(i)] for i in frame_inds])

    def iterate(self, frame_inds: Iterable[int]) -> Iterator[np.ndarray]:
        """Decode ascending frames one at a time, [H, W, 3], uint8, RGB."""
        image = open_picture(io.BytesIO(read_picture(self.path)), self.path)
        for i in frame_inds:
            yield to_rgb(image, self.path, i)

    def signature(self) -> str:
        """Return a text that changes with the content."""
        return f'{self.size} {self.mtime_ns} {len(self)}'


@dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder of images, one for each frame.

    Attributes:
        name: Path relative to the data root.
        path: The folder.
        files: [num_frames], names of the images in natural order.
    """

    name: str
    path: str
    files: Sequence[str] | np.ndarray
    problem = ''

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        paths = [Path(self.path, self.files[i]) for i in frame_inds]
        try:
            blobs = [read_file(path) for path in paths]
        except OSError as error:
            raise DamagedVideoError(str(error)) from None
        return decode_images(blobs, paths)

    def signature(self) -> str:
        """Return a text that changes with the content."""
        return ' '.join(map(self.frame_signature, range(len(self))))

    def frame_signature(self, i: int) -> str:
        """Return a text that changes with frame i."""
        stat = os.stat(os.path.join(self.path, self.files[i]))
        return f'{self.files[i]} {stat.st_size} {stat.st_mtime_ns}'


def read_picture(path: str) -> bytes:
    try:
        return read_file(Path(path))
    except OSError as error:
        raise DamagedVideoError(f'{path}: {error}') from None


def read_file(path: Path) -> bytes:
    """Read a regular file; never block on a pipe or an endless device."""

    def open_at_once(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, 'rb', opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise OSError(f'{path} is not a regular file or is too large')
        return file.read()


def open_moving(root: Path, name: str) -> MovingPicture:
    path = str(root / name)
    count, times, fps, problem = 0, None, 0.0, ''
    try:
        blob = read_picture(path)
        file = io.BytesIO(blob)
        count, is_whole = count_pictures(open_picture(file, path), file)
        times, fps = show_times(blob, count)
        problem = '' if is_whole else f'it ends early, after {count} pages'
    except DamagedVideoError as error:
        problem = str(error).removeprefix(f'{path}: ')
    stat = os.stat(path)
    size, mtime_ns = stat.st_size, stat.st_mtime_ns
    return MovingPicture(
        name=name,
        path=path,
        num_frames=count,
        times=times,
        fps=fps,
        size=size,
        mtime_ns=mtime_ns,
        problem=problem,
    )
