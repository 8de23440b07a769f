"""Where videos come from: video files, frame folders, zipped frame folders.

:func:`find_videos` lists the videos under a path; each is a source with

* ``name``: path relative to the data root, with forward slashes,
* ``len(source)``: number of frames that can be decoded,
* ``read(frame_inds)``: those frames, [T, H, W, 3], uint8, RGB,
* ``problem``: what is wrong with it, '' if nothing was found,
* ``signature()``: a text that changes when its content does.
"""

import hashlib
import io
import json
import os
import re
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import cv2
import numpy as np
from mmengine.logging import MMLogger
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..errors import InputError
from ..files import user_cache
from ..video_io import (
    MAX_FRAME_PIXELS,
    DamagedVideoError,
    VideoIndex,
    decode_frames,
    index_video,
    iter_frames,
)

# fmt: off
IMAGE_SUFFIXES = frozenset([
    '.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp',
])
VIDEO_SUFFIXES = frozenset([
    '.3gp', '.asf', '.avi', '.divx', '.flv', '.gif', '.h264', '.hevc',
    '.m2ts', '.m4v', '.mjpeg', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg',
    '.mts', '.mxf', '.ogv', '.rm', '.rmvb', '.ts', '.vob', '.webm', '.wmv',
    '.y4m',
])
# fmt: on
_IMAGE_FORMATS = ('BMP', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')

#: Bytes of an image file, and of a file of labels.
MAX_FILE = 2**28


def natural_key(name: str) -> tuple:
    """Sort key by which ``clip2`` comes before ``clip10``."""
    parts = re.split('([0-9]+)', name)
    # A name may be too long for an integer.
    numbers = [part.lstrip('0') for part in parts[1::2]]
    parts[1::2] = [(len(number), number) for number in numbers]
    return parts, name


@dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file.

    Attributes:
        name: Path relative to the data root.
        index: Its frames.
        size: Bytes.
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
        """Text that changes when the content does."""
        return f'{self.size} {self.mtime_ns} {len(self)}'


@dataclass(frozen=True, eq=False)
class FrameFolder:
    """A folder of images, one a frame.

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
            blobs = [_read_file(path) for path in paths]
        except OSError as error:
            raise DamagedVideoError(str(error)) from None
        return decode_images(blobs, paths)

    def signature(self) -> str:
        """Text that changes when the content does."""
        return ' '.join(map(self.frame_signature, range(len(self))))

    def frame_signature(self, i: int) -> str:
        """Text that changes when frame i does."""
        stat = os.stat(os.path.join(self.path, self.files[i]))
        return f'{self.files[i]} {stat.st_size} {stat.st_mtime_ns}'


@dataclass(frozen=True, eq=False)
class ZippedFrames:
    """A folder of images in a zip archive.

    The places of the images are kept instead of an open archive, so that
    many workers neither share a file position nor read the directory again.

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
            # No more than it says: a bomb unpacks to a thousand times as much.
            blob = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                blob, size + 1
            )
        if len(blob) != size or zlib.crc32(blob) != crc:
            raise zlib.error(f'{self.files[i]} is damaged')
        return blob

    def signature(self) -> str:
        """Text that changes when the content does."""
        return ' '.join(map(self.frame_signature, range(len(self))))

    def frame_signature(self, i: int) -> str:
        """Text that changes when frame i does."""
        size, crc = self.members[i, 3:]
        return f'{self.files[i]} {size} {crc}'


VideoSource = VideoFile | FrameFolder | ZippedFrames


def find_videos(data_root: str | os.PathLike) -> Sequence[VideoSource]:
    """List the videos under a path, in natural order of their names.

    The layout is recognised by what is there::

        data_root/                  data_root/         data_root.zip or
        ├── a.mp4                   ├── a/             data_root/any/depth/...
        ├── any/depth/b.avi         │   ├── 000000.jpg
        └── ...                     │   └── ...
                                    └── ...

    A single video file is a data set of one video. Hidden files and files of
    other kinds are passed over. A zip may have one folder at its top that
    holds all others; it is not part of the names.

    Args:
        data_root: Folder, zip archive or video file.

    Returns:
        The sources. A video file that cannot be decoded at all has length 0
        and a ``problem``.

    Raises:
        InputError: If there is no such path or there are no videos in it.
    """
    root = Path(data_root)
    if root.is_dir():
        sources = _scan_folder(root)
    elif not root.exists():
        raise InputError(f'{root}: no such file or folder')
    elif zipfile.is_zipfile(root):
        sources = _scan_zip(root)
    elif root.suffix.lower() in VIDEO_SUFFIXES:
        sources = _index_files(root.parent, [root.name])
    else:
        raise InputError(
            f'{root}: give a folder of videos, a folder or zip of frame '
            'folders, or a video file'
        )
    return sorted(sources, key=lambda source: natural_key(source.name))


def read_each(
    source: VideoSource, frame_inds: Sequence[int] | np.ndarray
) -> Iterator[np.ndarray]:
    """Decode ascending frames one at a time, [H, W, 3], uint8, RGB."""
    if isinstance(source, VideoFile):
        return iter_frames(source.index, frame_inds)
    return (source.read([i])[0] for i in frame_inds)


def read_side_file(data_root: str | os.PathLike, name: str) -> str | None:
    """Read a text file that lies beside the videos.

    Args:
        data_root: As for :func:`find_videos`.
        name: File name relative to the data root; in a zip also to the one
            folder at its top. Failing that, any path.

    Returns:
        The text, or None if there is no such file.
    """
    content = _side_file(Path(data_root), name)
    try:
        return None if content is None else content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(
            f'{name} ({data_root}): not a text in UTF-8: {error}'
        ) from None


def _side_file(root: Path, name: str) -> bytes | None:
    if root.is_file() and zipfile.is_zipfile(root):
        with opened_zip(root) as archive:
            for entry in sorted(archive.infolist(), key=_name_length):
                if name in (entry.filename, entry.filename.partition('/')[2]):
                    if entry.file_size > MAX_FILE:
                        raise InputError(f'{root}/{name}: it is too large')
                    return archive.read(entry)
    for path in (root / name, Path(name)):
        if path.is_file():
            try:
                return _read_file(path)
            except OSError as error:
                raise InputError(f'{name}: {error}') from None
    return None


def _name_length(entry: zipfile.ZipInfo) -> int:
    return len(entry.filename)


def _read_file(path: Path) -> bytes:
    """Read a file, but wait for no pipe, and not for a device to end."""

    def open_at_once(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, 'rb', opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise OSError(f'{path} is no file, or too large')
        return file.read()


def decode_images(blobs: Sequence[bytes], names: Sequence) -> np.ndarray:
    """Decode images of one size.

    Args:
        blobs: What image files hold.
        names: Of these, for messages.

    Returns:
        [T, H, W, 3], uint8, RGB.

    Raises:
        DamagedVideoError: One is no image, too large, or of another size.
    """
    frames = np.empty(0, np.uint8)
    for i, (blob, name) in enumerate(zip(blobs, names)):
        _check_header(blob, name)
        buffer = np.frombuffer(blob, np.uint8)
        # Also makes three channels of grey, palette and alpha images.
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None:
            raise DamagedVideoError(f'{name}: not an image')
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


def _check_header(blob: bytes, name: object) -> None:
    """Look at an image's format and size: OpenCV makes room before it reads.

    It also knows formats that nobody needs here.
    """
    try:
        width, height = Image.open(
            io.BytesIO(blob), formats=_IMAGE_FORMATS
        ).size
    except UnidentifiedImageError:
        raise DamagedVideoError(f'{name}: not an image') from None
    except Image.DecompressionBombError as error:
        raise DamagedVideoError(f'{name} is too large: {error}') from None
    except Exception as error:
        # Pillow raises a dozen types here.
        raise DamagedVideoError(f'{name}: not an image: {error}') from None
    if width * height > MAX_FRAME_PIXELS:
        raise DamagedVideoError(
            f'{name}: an image of {width}x{height} pixels is too large, '
            f'{MAX_FRAME_PIXELS} are allowed'
        )


def walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each folder under a path and the names of its files, none hidden.

    Links are followed, but not back to a folder that they lie in.
    """
    todo: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    while todo:
        folder, around = todo.pop()
        real = os.path.realpath(folder)
        if real in around:
            continue
        for _, subfolders, files in os.walk(folder):
            yield folder, [file for file in files if not file.startswith('.')]
            todo += (
                (os.path.join(folder, name), (*around, real))
                for name in subfolders
                if not name.startswith('.')
            )
            break


def _scan_folder(root: Path) -> Sequence[VideoSource]:
    videos, folders, strays = [], [], []
    for folder, files in walk(root):
        relative = Path(folder).relative_to(root)
        images = []
        for file in files:
            suffix = os.path.splitext(file)[1].lower()
            if suffix in VIDEO_SUFFIXES and Path(folder, file).is_file():
                videos.append((relative / file).as_posix())
            elif suffix in IMAGE_SUFFIXES:
                images.append(file)
            else:
                strays.append((relative / file).as_posix())
        if images and relative.parts:
            files = np.array(sorted(images, key=natural_key))
            folders.append(FrameFolder(relative.as_posix(), folder, files))
        else:
            strays += images
    if not videos and not folders:
        raise InputError(
            f'{root}: no videos found; expected video files '
            f'(ROOT/.../VIDEO.mp4, .avi, .mkv, ...) or folders of frames '
            '(ROOT/VIDEO/FRAME.jpg, .png, ...)'
            + (
                '; images directly in the folder or in an LMDB belong to no '
                'video: images=True takes each for a video of one frame'
                if any(
                    Path(s).suffix.lower() in IMAGE_SUFFIXES | {'.mdb'}
                    for s in strays
                )
                else ''
            )
        )
    logger = MMLogger.get_current_instance()
    if strays:
        logger.debug(f'{root}: {join_some(strays)} are no videos: ignored')
    if videos and folders:
        kinds = ['video files', 'frame folders']
        if len(folders) > len(videos):
            kinds.reverse()
        logger.warning(
            f'{root}: {len(videos)} video files and {len(folders)} frame '
            f'folders: using the {kinds[0]}, ignoring the {kinds[1]}'
        )
    if len(videos) >= len(folders):
        return _index_files(root, videos)
    return folders


def _scan_zip(path: Path) -> Sequence[VideoSource]:
    images, others = list_zip(path)
    folders = defaultdict(list)
    for entry in images:
        folder, _, file = entry.filename.rpartition('/')
        # An absolute name means the same as a relative one, as for unzip.
        if folder := folder.lstrip('/'):
            folders[PurePosixPath(folder).parts].append(entry)
        else:
            others.append(file)
    if not folders:
        raise InputError(
            f'{path}: the zip holds no folders of frames '
            '(VIDEO/FRAME.jpg, .png, ...); unpack it if it holds video files, '
            'set images=True if it holds images'
        )
    if others:
        MMLogger.get_current_instance().debug(
            f'{path}: {join_some(others)} are no frames: ignored'
        )
    has_root = len({f[0] for f in folders}) == 1 and all(
        len(f) > 1 for f in folders
    )
    for members in folders.values():
        members.sort(key=lambda entry: natural_key(entry.filename))
    return [
        ZippedFrames(
            name='/'.join(folder[has_root:]),
            path=str(path),
            files=np.array([entry.filename for entry in members]),
            members=zip_members(path, members),
        )
        for folder, members in folders.items()
    ]


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


def list_zip(path: Path) -> tuple[list[zipfile.ZipInfo], list[str]]:
    """List the images of a zip, and the names of its other files.

    Hidden files, those that a Mac adds, and names with ``..`` are left out.

    Raises:
        InputError: The zip is damaged.
    """
    images, others = [], []
    with opened_zip(path) as archive:
        entries = [e for e in archive.infolist() if not e.is_dir()]
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if any(p.startswith(('.', '__MACOSX')) for p in name.parts):
            continue
        if name.suffix.lower() in IMAGE_SUFFIXES:
            images.append(entry)
        else:
            others.append(entry.filename)
    return images, others


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


def join_some(names: list[str], limit: int = 20) -> str:
    """Join names for a message, leaving out those beyond a limit."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more


# Indices of video files, cached in the user's cache folder: one JSON file
# for each data root.

_CACHE_VERSION = '2'


def _index_files(root: Path, names: list[str]) -> list[VideoFile]:
    """Index video files, reading from the cache what did not change."""
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
    # Of several processes on a machine one indexes and the others read.
    with locked(cache_file):
        sources = look_up()
        todo = [i for i, source in enumerate(sources) if source is None]
        # FFmpeg works outside of Python's lock: threads are enough.
        pool = ThreadPoolExecutor(os.cpu_count())
        indices = pool.map(_index_or_problem, [paths[i] for i in todo])
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


def _index_or_problem(path: str) -> VideoIndex:
    try:
        return index_video(path)
    except DamagedVideoError as error:
        none = np.zeros(0, np.int64)
        problem = str(error).removeprefix(f'{path}: ')
        return VideoIndex(
            path, '', 0, 0, 0, 0.0, none, none, none, False, problem
        )


def index_cache(root: Path, suffix: str) -> Path:
    """Name of the file that keeps what was found under a data root."""
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return user_cache() / 'index' / f'{digest}{suffix}'


def _load_cache(path: Path) -> dict[tuple[str, int, int], VideoIndex]:
    try:
        head, _, text = path.read_text().partition('\n')
        if head != _cache_head(text):
            raise ValueError('another checksum or version')
        cached = {}
        for size, mtime_ns, index in json.loads(text):
            for key in ('pts', 'key_pts', 'key_inds'):
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
    return f'{_CACHE_VERSION} {hashlib.sha256(text.encode()).hexdigest()}'


def _save_cache(path: Path, sources: list[VideoFile]) -> None:
    # A file that could not be read at all is tried again the next time.
    videos = [(s.size, s.mtime_ns, asdict(s.index)) for s in sources if len(s)]
    text = json.dumps(videos, default=np.ndarray.tolist)
    temporary = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        temporary.write_text(f'{_cache_head(text)}\n{text}')
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        MMLogger.get_current_instance().warning(
            f'{path}: video indices cannot be cached: {error}'
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock beside a file, where the file system can lock."""
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix('.lock').open('w')
        fcntl.flock(lock, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield
        return
    with lock:
        yield
