"""Where videos come from: video files, frame folders, zipped frame folders.

:func:`find_videos` lists the videos under a path; each is a source with

* ``name``: path relative to the data root, with forward slashes,
* ``len(source)``: number of frames that can be decoded,
* ``read(frame_inds)``: those frames, [T, H, W, 3], uint8, RGB,
* ``problem``: what is wrong with it, '' if nothing was found,
* ``signature()``: a text that changes when its content does.
"""

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from mmengine.logging import MMLogger
from tqdm import tqdm

from ..errors import InputError
from ..files import user_cache
from ..video_io import (
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


def natural_key(name: str) -> tuple:
    """Sort key by which ``clip2`` comes before ``clip10``."""
    parts = re.split('([0-9]+)', name)
    return [int(p) if i % 2 else p for i, p in enumerate(parts)], name


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

    def read(self, frame_inds: Sequence[int]) -> np.ndarray:
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
    files: Sequence[str]
    problem = ''

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frame_inds: Sequence[int]) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        paths = [Path(self.path, self.files[i]) for i in frame_inds]
        try:
            blobs = [path.read_bytes() for path in paths]
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
    files: Sequence[str]
    members: np.ndarray
    problem = ''

    def __len__(self) -> int:
        return len(self.files)

    def read(self, frame_inds: Sequence[int]) -> np.ndarray:
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

    def _extract(self, archive, i: int) -> bytes:
        offset, stored_size, method, _, crc = self.members[i].tolist()
        archive.seek(offset)
        header = archive.read(30)
        # The local header ends with the lengths of a name and of extra data.
        skip = int.from_bytes(header[26:28], 'little') + int.from_bytes(
            header[28:30], 'little'
        )
        archive.seek(skip, os.SEEK_CUR)
        blob = archive.read(stored_size)
        if method == zipfile.ZIP_DEFLATED:
            blob = zlib.decompress(blob, -zlib.MAX_WBITS)
        if zlib.crc32(blob) != crc:
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


def find_videos(data_root: str | os.PathLike) -> list[VideoSource]:
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
    root = Path(data_root)
    if root.is_file() and zipfile.is_zipfile(root):
        with zipfile.ZipFile(root) as archive:
            for entry in sorted(archive.namelist(), key=len):
                if entry == name or entry.partition('/')[2] == name:
                    return archive.read(entry).decode('utf-8-sig')
    for path in (root / name, Path(name)):
        if path.is_file():
            return path.read_text('utf-8-sig')
    return None


def decode_images(blobs: Sequence[bytes], names: Sequence) -> np.ndarray:
    """Decode images of one size.

    Args:
        blobs: What image files hold.
        names: Of these, for messages.

    Returns:
        [T, H, W, 3], uint8, RGB.

    Raises:
        DamagedVideoError: One is no image, or of another size.
    """
    frames = None
    for i, (blob, name) in enumerate(zip(blobs, names)):
        buffer = np.frombuffer(blob, np.uint8)
        # Also makes three channels of grey, palette and alpha images.
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if len(blob) else None
        if image is None:
            raise DamagedVideoError(f'{name}: not an image')
        if frames is None:
            frames = np.empty((len(blobs), *image.shape), np.uint8)
        if image.shape != frames.shape[1:]:
            raise DamagedVideoError(
                f'{name}: the frames of one video must have one size, got '
                f'{image.shape[1]}x{image.shape[0]} and '
                f'{frames.shape[2]}x{frames.shape[1]} ({names[0]})'
            )
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=frames[i])
    return frames


def _scan_folder(root: Path) -> list[VideoSource]:
    videos, folders, strays = [], [], []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [s for s in subfolders if not s.startswith('.')]
        relative = Path(folder).relative_to(root)
        images = []
        for file in files:
            if file.startswith('.'):
                continue
            suffix = os.path.splitext(file)[1].lower()
            if suffix in VIDEO_SUFFIXES and Path(folder, file).exists():
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


def _scan_zip(path: Path) -> list[VideoSource]:
    images, others = list_zip(path)
    folders = defaultdict(list)
    for entry in images:
        folder, _, file = entry.filename.rpartition('/')
        if folder:
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


def list_zip(path: Path) -> tuple[list[zipfile.ZipInfo], list[str]]:
    """List the images of a zip, and the names of its other files.

    Hidden files and those that a Mac adds are left out.
    """
    images, others = [], []
    with zipfile.ZipFile(path) as archive:
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
    return np.array(
        [
            (
                entry.header_offset,
                entry.compress_size,
                entry.compress_type,
                entry.file_size,
                entry.CRC,
            )
            for entry in entries
        ],
        np.int64,
    )


def join_some(names: list[str], limit: int = 20) -> str:
    """Join names for a message, leaving out those beyond a limit."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more


# Indices of video files, cached in the user's cache folder: one JSON file
# for each data root.

_CACHE_VERSION = 1


def _index_files(root: Path, names: list[str]) -> list[VideoFile]:
    """Index video files, reading from the cache what did not change."""
    paths = [os.path.abspath(root / name) for name in names]
    stats = [os.stat(path) for path in paths]
    cache_file = index_cache(root, '.json')

    def look_up() -> list[VideoFile | None]:
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
        content = json.loads(path.read_text())
        if content['version'] != _CACHE_VERSION:
            return {}
        cached = {}
        for size, mtime_ns, index in content['videos']:
            for key in ('pts', 'key_pts', 'key_inds'):
                index[key] = np.array(index[key], np.int64)
            cached[index['path'], size, mtime_ns] = VideoIndex(**index)
        return cached
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        MMLogger.get_current_instance().warning(
            f'{path}: damaged cache of video indices ({error}), '
            'building it again'
        )
        return {}


def _save_cache(path: Path, sources: list[VideoFile]) -> None:
    # A file that could not be read at all is tried again the next time.
    videos = [(s.size, s.mtime_ns, asdict(s.index)) for s in sources if len(s)]
    content = {'version': _CACHE_VERSION, 'videos': videos}
    temporary = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        temporary.write_text(json.dumps(content, default=np.ndarray.tolist))
        os.replace(temporary, path)
    except OSError as error:
        MMLogger.get_current_instance().warning(
            f'{path}: video indices cannot be cached: {error}'
        )


@contextmanager
def locked(path: Path):
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
