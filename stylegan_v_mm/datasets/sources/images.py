"""Sources of images, each a video of one frame: folders, zips, LMDBs.

:func:`find_images` lists the images under a path, as
:func:`~stylegan_v_mm.datasets.sources.finding.find_videos` lists videos. There
may be millions, so their names are in one block of memory, and the object of
an image is created on access.
"""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files import file_lock
from .archives import ZippedFrames
from .frame_folders import FrameFolder
from .kinds import IMAGE, UNWANTED, LeftOut, kinds_of_files
from .listing import (
    describe_left_out,
    existing,
    join_path,
    list_files,
    list_zip,
    log_left_out,
    natural_key,
    zip_members,
)
from .lmdb import LmdbFrames, Names, list_keys, load_keys, save_keys
from .video_files import index_cache


@dataclass(frozen=True, eq=False)
class Image:
    """An image as a video of one frame.

    Attributes:
        name: Path relative to the data root, or key of an LMDB.
        frames: The source that holds the image.
        index: Index of the image in this source.
    """

    name: str
    frames: FrameFolder | ZippedFrames | LmdbFrames
    index: int
    problem = ''

    def __len__(self) -> int:
        return 1

    def read(self, frame_inds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode the image for each of the indices, [T, H, W, 3], uint8."""
        return self.frames.read([self.index] * len(frame_inds))

    def signature(self) -> str:
        """Return a text that changes with the content."""
        return self.frames.frame_signature(self.index)


class ImageSet(Sequence):
    """Images, whose objects are created on access.

    Args:
        frames: The source that holds the images.
        left_out: The other files, see
            :class:`~stylegan_v_mm.datasets.sources.finding.VideoList`.
        names: Names of the images, if they are not ``frames.files``.
    """

    def __init__(
        self,
        frames: FrameFolder | ZippedFrames | LmdbFrames,
        left_out: LeftOut,
        names: Names | None = None,
    ) -> None:
        self.frames = frames
        self.left_out = left_out
        self.names = frames.files if names is None else names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Image:  # type: ignore[override]
        return Image(self.names[i], self.frames, range(len(self))[i])


def find_images(data_root: str | os.PathLike) -> ImageSet:
    """List the images under a path, in the order of their names.

    The layout is detected::

        data_root/              data_root.zip or        data_root/
        ├── a.jpg               data_root/any/depth/    ├── data.mdb
        ├── any/depth/b.png                             └── ...
        └── ...

    The values of an LMDB are image files (JPEG, WebP, ...), as in those of
    LSUN. If one folder at the top of a zip holds everything, it is not part of
    the names. Files without a known suffix are recognised by their content.
    Hidden files, system files and files of other kinds are logged in one line.

    Args:
        data_root: Folder, zip archive or folder of an LMDB.

    Returns:
        The images, which take about 100 bytes each.

    Raises:
        InputError: If the path does not exist or holds no images, or an LMDB
            cannot be read.
    """
    root = existing(data_root)
    left_out: LeftOut = []
    if os.path.isfile(root / 'data.mdb'):
        images = _scan_lmdb(root, left_out)
    elif root.is_dir():
        images = _scan_folder(root, left_out)
    else:
        images = _scan_zip(root, left_out)
    left_out.sort(key=lambda entry: natural_key(entry[0]))
    log_left_out(root, left_out)
    return images


def _no_images(root: Path, left_out: LeftOut) -> InputError:
    return InputError(
        f'{root}: no images found (images=True); expected image files '
        '(ROOT/IMAGE.jpg, ROOT/CLASS/IMAGE.png, ...), a zip of these or the '
        'folder of an LMDB (ROOT/data.mdb)'
        + '; ' * bool(left_out)
        + describe_left_out(left_out)
    )


def _scan_folder(root: Path, left_out: LeftOut) -> ImageSet:
    names: list[str] = []
    for folder, files in list_files(str(root), left_out).items():
        kinds = kinds_of_files(str(root / folder), files, still=True)
        for file, kind in zip(files, kinds):
            name = join_path(folder, file)
            if kind == IMAGE:
                names.append(name)
            else:
                left_out.append((name, kind))
    if not names:
        raise _no_images(root, left_out)
    names.sort()
    files = Names(map(os.fsencode, names))
    return ImageSet(FrameFolder('', str(root), files), left_out)


def _scan_zip(path: Path, left_out: LeftOut) -> ImageSet:
    if not (path.is_file() and zipfile.is_zipfile(path)):
        raise _no_images(path, left_out)
    entries = list_zip(path, left_out, still=True)
    if not entries:
        raise _no_images(path, left_out)
    entries.sort(key=lambda entry: entry.filename)
    names = [entry.filename for entry in entries]
    others = [n for n, reason in left_out if reason not in UNWANTED]
    tops = {name.partition('/')[0] for name in [*names, *others]}
    files = Names(map(os.fsencode, names))
    frames = ZippedFrames('', str(path), files, zip_members(path, entries))
    if len(tops) > 1 or '/' not in names[0]:
        return ImageSet(frames, left_out)
    inner = (os.fsencode(name.partition('/')[2]) for name in names)
    return ImageSet(frames, left_out, Names(inner))


def _scan_lmdb(folder: Path, left_out: LeftOut) -> ImageSet:
    stat = (folder / 'data.mdb').stat()
    version = f'{stat.st_size} {stat.st_mtime_ns}'
    cache_file = index_cache(folder, '.npz')
    keys = load_keys(cache_file, version)
    if keys is None:
        # One process on a machine lists the keys, and the others read them.
        with file_lock(cache_file.with_suffix('.lock'), wait=True):
            keys = load_keys(cache_file, version)
            if keys is None:
                keys = list_keys(folder)
                save_keys(cache_file, version, keys)
    if not len(keys):
        raise InputError(f'{folder}: the LMDB is empty')
    left_out += [
        (join_path(within, name), 'beside an LMDB')
        for within, names in list_files(str(folder), left_out).items()
        for name in names
        if within or name not in ('data.mdb', 'lock.mdb')
    ]
    return ImageSet(LmdbFrames(str(folder), keys, version), left_out)
