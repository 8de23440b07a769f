"""Where videos come from: video files, moving pictures, folders of frames.

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
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

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
from .listing import (
    IMAGE,
    LMDB,
    MAX_FILE,
    MOVING,
    OUTSIDE,
    VIDEO,
    VIDEO_SUFFIXES,
    LeftOut,
    describe_left_out,
    existing,
    kinds_of_files,
    list_files,
    list_zip,
    log_left_out,
    name_in_zip,
    natural_key,
    opened_zip,
    place,
    suffix_of,
    zip_members,
)
from .pictures import (
    count_pictures,
    decode_images,
    open_picture,
    show_times,
    to_rgb,
)


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
        """Text that changes when the frames do, or how they are read."""
        return f'{self.size} {self.mtime_ns} {len(self)} v{_CACHE_VERSION}'


@dataclass(frozen=True, eq=False)
class MovingPicture:
    """A file that Pillow reads: an animated WebP, or a TIFF of several pages.

    Attributes:
        name: Path relative to the data root.
        path: The file.
        num_frames: How many pictures it holds.
        times: [num_frames], when each is shown, seconds from 0 on; None if
            the file does not tell.
        fps: Average frame rate, 0 if unknown.
        size: Bytes.
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
        image = open_picture(io.BytesIO(_read_picture(self.path)), self.path)
        for i in frame_inds:
            yield to_rgb(image, self.path, i)

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


VideoSource = VideoFile | MovingPicture | FrameFolder | ZippedFrames


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a video, as a video of its own.

    Attributes:
        source: The whole video.
        start: The first frame.
        num_frames: How many.
    """

    source: VideoSource
    start: int
    num_frames: int
    problem = ''

    def __len__(self) -> int:
        return self.num_frames

    @property
    def name(self) -> str:
        """Name of the video, and which frames of it."""
        return f'{self.source.name}[{self.start}:{self.start + len(self)}]'

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        return self.source.read(np.asarray(frame_inds) + self.start)

    def signature(self) -> str:
        """Text that changes when the content does."""
        if isinstance(self.source, FrameFolder | ZippedFrames):
            # Not that of all frames, once for each stretch of them.
            inds = range(self.start, self.start + len(self))
            return ' '.join(map(self.source.frame_signature, inds))
        return self.source.signature()


class VideoList(list[VideoSource]):
    """Videos, and what was not used.

    Args:
        sources: The videos.
        left_out: What else lies there: names, those of folders with a slash
            behind, and reasons.
    """

    def __init__(
        self, sources: Iterable[VideoSource], left_out: LeftOut
    ) -> None:
        super().__init__(sources)
        self.left_out = left_out


def find_videos(data_root: str | os.PathLike) -> VideoList:
    """List the videos under a path, in natural order of their names.

    Video files, moving pictures (GIF, APNG, animated WebP, TIFF of several
    pages) and folders of still images are videos, wherever they lie::

        data_root/                  data_root/         data_root.zip or
        ├── a.mp4                   ├── a/             data_root/any/depth/...
        ├── any/depth/b.avi         │   ├── 000000.jpg
        └── c.webp                  │   └── ...
                                    └── ...

    Files with a suffix that is not known are looked into. A single video file
    is a data set of one video. A zip holds folders of images; it may have one
    folder at its top that holds all others, which is not part of the names.

    What is not used is logged in one line: hidden files and those of a system
    (thumbnails, trash), images that lie directly in the data root or beside
    videos, and what is no video.

    Args:
        data_root: Folder, zip archive or video file.

    Returns:
        The sources. A video file that cannot be decoded at all has length 0
        and a ``problem``.

    Raises:
        InputError: If there is no such path or there are no videos in it.
    """
    root = existing(data_root)
    left_out: LeftOut = []
    if root.is_dir():
        sources = _scan_folder(root, left_out)
    elif root.is_file() and zipfile.is_zipfile(root):
        sources = _scan_zip(root, left_out)
    else:
        sources = [_single_file(root, is_image_welcome=False)]
    left_out.sort(key=lambda entry: natural_key(entry[0]))
    log_left_out(root, left_out)
    return VideoList(
        sorted(sources, key=lambda source: natural_key(source.name)), left_out
    )


def open_video(path: str | os.PathLike) -> VideoSource:
    """Open a single video: a file, an image, or a folder of images.

    Raises:
        InputError: If there is no such path, or it is nothing of these.
    """
    path = existing(path)
    if not path.is_dir():
        return _single_file(path, is_image_welcome=True)
    left_out: LeftOut = []
    folders = list_files(str(path), left_out)
    names = folders.pop('')
    kinds = kinds_of_files(str(path), names)
    files = [name for name, kind in zip(names, kinds) if kind == IMAGE]
    left_out += [(n, kind) for n, kind in zip(names, kinds) if kind != IMAGE]
    left_out += [(f'{folder}/', 'a folder') for folder in folders]
    log_left_out(path, left_out)
    return FrameFolder(path.name, str(path), sorted(files, key=natural_key))


def frame_rate(source: VideoSource) -> float:
    """Frames a second of a video, 0 if unknown."""
    if isinstance(source, VideoFile):
        return source.index.fps
    return source.fps if isinstance(source, MovingPicture) else 0.0


def read_each(
    source: VideoSource, frame_inds: Sequence[int] | np.ndarray
) -> Iterator[np.ndarray]:
    """Decode ascending frames one at a time, [H, W, 3], uint8, RGB."""
    if isinstance(source, VideoFile):
        return iter_frames(source.index, frame_inds)
    if isinstance(source, MovingPicture):
        return source.iterate(frame_inds)
    return (source.read([i])[0] for i in frame_inds)


def find_damage(source: VideoSource) -> np.ndarray:
    """Decode all frames of a video, to know which are damaged.

    Returns:
        [D], int64, their numbers, ascending.
    """
    if isinstance(source, VideoFile):
        index = source.index
        if index.num_checked < len(source):
            index = _index_or_problem(index.path, thorough=True)
        cut_off = np.arange(index.num_frames, len(source))
        return np.union1d(index.damaged, cut_off)
    with suppress(DamagedVideoError):
        # In one pass, as a moving picture is decoded from its start.
        for _ in read_each(source, range(len(source))):
            pass
        return np.zeros(0, np.int64)
    damaged = []
    for i in range(len(source)):
        try:
            source.read([i])
        except DamagedVideoError:
            damaged.append(i)
    return np.array(damaged, np.int64)


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
            # Of what was packed twice, the last counts.
            entries = reversed(archive.infolist())
            for entry in sorted(entries, key=lambda e: len(name_in_zip(e))):
                file = name_in_zip(entry)
                if name in (file, file.partition('/')[2]):
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


def _read_picture(path: str) -> bytes:
    try:
        return _read_file(Path(path))
    except OSError as error:
        raise DamagedVideoError(f'{path}: {error}') from None


def _read_file(path: Path) -> bytes:
    """Read a file, but wait for no pipe, and not for a device to end."""

    def open_at_once(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, 'rb', opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise OSError(f'{path} is no file, or too large')
        return file.read()


def _scan_folder(root: Path, left_out: LeftOut) -> list[VideoSource]:
    folders = list_files(str(root), left_out)
    # On the disks of a network, opening a file takes long, and no processor.
    with ThreadPoolExecutor() as pool:
        kinds = pool.map(
            lambda folder: kinds_of_files(root / folder, folders[folder]),
            folders,
        )
        files = [
            (place(folder, name), kind)
            for (folder, names), each in zip(folders.items(), kinds)
            for name, kind in zip(names, each)
        ]
    videos: list[VideoSource] = []
    for video in _index_files(root, [n for n, kind in files if kind == VIDEO]):
        if len(video) or suffix_of(video.name) in VIDEO_SUFFIXES:
            videos.append(video)
        else:
            left_out.append((video.name, f'no video: {video.problem}'))
    videos += [
        _open_moving(root, name) for name, kind in files if kind == MOVING
    ]
    images = defaultdict(list)
    for name, kind in files:
        folder, _, file = name.rpartition('/')
        if kind == IMAGE:
            images[folder].append(file)
        elif kind not in (MOVING, VIDEO):
            left_out.append((name, kind))
    # Covers and thumbnails lie beside videos, and so do their own frames.
    whole = [PurePosixPath(video.name) for video in videos if len(video)]
    beside = {str(name.parent).removeprefix('.') for name in whole}
    bare = {str(name.with_suffix('')) for name in whole}
    frame_folders: list[VideoSource] = []
    for folder, names in images.items():
        if folder in beside:
            reason = 'images beside a video'
            left_out += [(place(folder, name), reason) for name in names]
        elif folder in bare:
            left_out.append((f'{folder}/', 'frames named like a video file'))
        elif not folder:
            left_out += [(name, OUTSIDE) for name in names]
        else:
            ordered = np.array(sorted(names, key=natural_key))
            frame_folders.append(
                FrameFolder(folder, str(root / folder), ordered)
            )
    if videos and frame_folders:
        MMLogger.get_current_instance().info(
            f'{root}: {len(videos)} video files and {len(frame_folders)} '
            'folders of frames: each is a video'
        )
    videos += frame_folders
    if not videos:
        raise InputError(
            f'{root}: no videos found; expected video files '
            '(ROOT/.../VIDEO.mp4, .avi, .mkv, ...) or folders of frames '
            '(ROOT/VIDEO/FRAME.jpg, .png, ...)'
            + '; images directly in the folder or in an LMDB belong to no '
            'video: images=True takes each for a video of one frame'
            * any(
                reason in (OUTSIDE, LMDB) or suffix_of(name) == '.mdb'
                for name, reason in left_out
            )
            + '; ' * bool(left_out)
            + describe_left_out(left_out)
        )
    return videos


def _open_moving(root: Path, name: str) -> MovingPicture:
    path = str(root / name)
    count, times, fps, problem = 0, None, 0.0, ''
    try:
        blob = _read_picture(path)
        file = io.BytesIO(blob)
        count, is_whole = count_pictures(open_picture(file, path), file)
        times, fps = show_times(blob, count)
        problem = '' if is_whole else f'it ends early, after {count} pages'
    except DamagedVideoError as error:
        problem = str(error).removeprefix(f'{path}: ')
    stat = os.stat(path)
    size, mtime_ns = stat.st_size, stat.st_mtime_ns
    return MovingPicture(
        name, path, count, times, fps, size, mtime_ns, problem
    )


def _single_file(path: Path, is_image_welcome: bool) -> VideoSource:
    kind = 'neither file nor folder'
    if path.is_file():
        (kind,) = kinds_of_files(str(path.parent), [path.name])
    if kind == IMAGE and is_image_welcome:
        return FrameFolder(path.name, str(path.parent), [path.name])
    if kind == MOVING:
        return _open_moving(path.parent, path.name)
    if kind == VIDEO:
        (video,) = _index_files(path.parent, [path.name])
        return video
    raise InputError(
        f'{path}: give a folder of videos, a folder or zip of frame folders, '
        f'or a video file; this is {kind}'
    )


def _scan_zip(path: Path, left_out: LeftOut) -> list[VideoSource]:
    folders = defaultdict(list)
    for entry in list_zip(path, left_out):
        folder, _, file = entry.filename.rpartition('/')
        if folder:
            folders[folder].append(entry)
        else:
            left_out.append((file, OUTSIDE))
    if not folders:
        raise InputError(
            f'{path}: the zip holds no folders of frames '
            '(VIDEO/FRAME.jpg, .png, ...); unpack it if it holds video files, '
            'set images=True if it holds images'
            + '; ' * bool(left_out)
            + describe_left_out(left_out)
        )
    tops = {folder.partition('/')[0] for folder in folders}
    has_root = len(tops) == 1 and all('/' in folder for folder in folders)
    for members in folders.values():
        members.sort(key=lambda entry: natural_key(entry.filename))
    return [
        ZippedFrames(
            name=folder.partition('/')[2] if has_root else folder,
            path=str(path),
            files=np.array([entry.filename for entry in members]),
            members=zip_members(path, members),
        )
        for folder, members in folders.items()
    ]


# Indices of video files, cached in the user's cache folder: one JSON file
# for each data root.

# Also changes with what is read from the same file.
_CACHE_VERSION = '3'


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


def _index_or_problem(path: str, thorough: bool = False) -> VideoIndex:
    try:
        return index_video(path, thorough)
    except DamagedVideoError as error:
        none = np.zeros(0, np.int64)
        return VideoIndex(
            path=path,
            codec='',
            width=0,
            height=0,
            orientation=1,
            pixel_aspect=1.0,
            fps=0.0,
            time_base=0.0,
            pts=none,
            key_pts=none,
            key_inds=none,
            regular=False,
            damaged=none,
            num_checked=0,
            problem=str(error).removeprefix(f'{path}: '),
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
            for key in ('pts', 'key_pts', 'key_inds', 'damaged'):
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
