"""Find the videos of a folder, a zip or a file."""

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from mmengine.logging import MMLogger

from ...errors import InputError
from ...video.decoding import iter_frames
from ...video.reader import DamagedVideoError
from .archives import ZippedFrames
from .frame_folders import FrameFolder, MovingPicture, open_moving, read_file
from .kinds import (
    IMAGE,
    LMDB,
    MAX_FILE,
    MOVING,
    OUTSIDE,
    VIDEO,
    VIDEO_SUFFIXES,
    LeftOut,
    kinds_of_files,
    suffix_of,
)
from .listing import (
    describe_left_out,
    existing,
    join_path,
    list_files,
    list_zip,
    log_left_out,
    name_in_zip,
    natural_key,
    opened_zip,
    zip_members,
)
from .video_files import VideoFile, index_files, index_or_problem

VideoSource = VideoFile | MovingPicture | FrameFolder | ZippedFrames


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a video, as a video of its own.

    Attributes:
        source: The whole video.
        start: The first frame.
        num_frames: Number of frames.
    """

    source: VideoSource
    start: int
    num_frames: int
    problem = ''

    def __len__(self) -> int:
        return self.num_frames

    @property
    def name(self) -> str:
        """Name of the video, and the range of its frames."""
        return f'{self.source.name}[{self.start}:{self.start + len(self)}]'

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames, [T, H, W, 3], uint8, RGB."""
        return self.source.read(np.asarray(frame_inds) + self.start)

    def signature(self) -> str:
        """Return a text that changes with the content."""
        if isinstance(self.source, FrameFolder | ZippedFrames):
            # The signature of all frames would be computed for each stretch.
            inds = range(self.start, self.start + len(self))
            return ' '.join(map(self.source.frame_signature, inds))
        return self.source.signature()


class VideoList(list[VideoSource]):
    """Videos, and the files that are not used.

    Args:
        sources: The videos.
        left_out: The other files, by name and reason; a name that ends with a
            slash is a folder.
    """

    def __init__(
        self, sources: Iterable[VideoSource], left_out: LeftOut
    ) -> None:
        super().__init__(sources)
        self.left_out = left_out


def find_videos(data_root: str | os.PathLike) -> VideoList:
    """List the videos under a path, in natural order of their names.

    Video files, animated images (GIF, APNG, WebP, TIFF of several pages) and
    folders of still images are videos, at any depth::

        data_root/                  data_root/         data_root.zip or
        ├── a.mp4                   ├── a/             data_root/any/depth/...
        ├── any/depth/b.avi         │   ├── 000000.jpg
        └── c.webp                  │   └── ...
                                    └── ...

    Files without a known suffix are recognised by their content. A single
    video file is a data set of one video. A zip holds folders of images; if
    one folder at its top holds all others, it is not part of the names.

    Files that are not used are logged in one line: hidden files, system files
    (thumbnails, trash), images in the data root itself or beside videos, and
    files of other kinds.

    Args:
        data_root: Folder, zip archive or video file.

    Returns:
        The sources. A video file that cannot be decoded at all has length 0
        and a ``problem``.

    Raises:
        InputError: If the path does not exist or holds no videos.
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
        InputError: If the path does not exist or is none of these.
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
    """Return the frames per second of a video, 0 if unknown."""
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
    """Decode all frames of a video to find the damaged ones.

    Returns:
        [D], int64, their indices, ascending.
    """
    if isinstance(source, VideoFile):
        index = source.index
        if index.num_checked < len(source):
            index = index_or_problem(index.path, thorough=True)
        cut_off = np.arange(index.num_frames, len(source))
        return np.union1d(index.damaged, cut_off)
    with suppress(DamagedVideoError):
        # In one pass, as an animated image is decoded from its start.
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
    """Read a text file beside the videos.

    Args:
        data_root: As for :func:`find_videos`.
        name: File name relative to the data root or, in a zip, to a folder at
            its top. If there is no such file, a path.

    Returns:
        The text, or None if there is no such file.
    """
    content = _side_file(Path(data_root), name)
    try:
        return None if content is None else content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise InputError(
            f'{name} ({data_root}): not a text file in UTF-8: {error}'
        ) from None


def _side_file(root: Path, name: str) -> bytes | None:
    if root.is_file() and zipfile.is_zipfile(root):
        with opened_zip(root) as archive:
            # If a file was packed twice, the last one counts.
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
                return read_file(path)
            except OSError as error:
                raise InputError(f'{name}: {error}') from None
    return None


def _scan_folder(root: Path, left_out: LeftOut) -> list[VideoSource]:
    folders = list_files(str(root), left_out)
    # On network disks, opening a file takes long but no processor time.
    with ThreadPoolExecutor() as pool:
        kinds = pool.map(
            lambda folder: kinds_of_files(root / folder, folders[folder]),
            folders,
        )
        files = [
            (join_path(folder, name), kind)
            for (folder, names), each in zip(folders.items(), kinds)
            for name, kind in zip(names, each)
        ]
    videos: list[VideoSource] = []
    for video in index_files(root, [n for n, kind in files if kind == VIDEO]):
        if len(video) or suffix_of(video.name) in VIDEO_SUFFIXES:
            videos.append(video)
        else:
            left_out.append((video.name, f'no video: {video.problem}'))
    videos += [
        open_moving(root, name) for name, kind in files if kind == MOVING
    ]
    images = defaultdict(list)
    for name, kind in files:
        folder, _, file = name.rpartition('/')
        if kind == IMAGE:
            images[folder].append(file)
        elif kind not in (MOVING, VIDEO):
            left_out.append((name, kind))
    # Images beside videos are covers, thumbnails or the videos' own frames.
    whole = [PurePosixPath(video.name) for video in videos if len(video)]
    beside = {str(name.parent).removeprefix('.') for name in whole}
    bare = {str(name.with_suffix('')) for name in whole}
    frame_folders: list[VideoSource] = []
    for folder, names in images.items():
        if folder in beside:
            reason = 'images beside a video'
            left_out += [(join_path(folder, name), reason) for name in names]
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
            'video: images=True makes each a video of one frame'
            * any(
                reason in (OUTSIDE, LMDB) or suffix_of(name) == '.mdb'
                for name, reason in left_out
            )
            + '; ' * bool(left_out)
            + describe_left_out(left_out)
        )
    return videos


def _single_file(path: Path, is_image_welcome: bool) -> VideoSource:
    kind = 'neither file nor folder'
    if path.is_file():
        (kind,) = kinds_of_files(str(path.parent), [path.name])
    if kind == IMAGE and is_image_welcome:
        return FrameFolder(path.name, str(path.parent), [path.name])
    if kind == MOVING:
        return open_moving(path.parent, path.name)
    if kind == VIDEO:
        (video,) = index_files(path.parent, [path.name])
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
