"""Data that do not fit on one machine: tar files of videos, read in turn."""

import hashlib
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

import numpy as np
from torch.utils.data import Dataset

from ..errors import InputError, check_at_least
from ..files import atomic_write, file_lock, user_cache
from ..registry import DATASETS
from .clip_sampler import ClipKey
from .sources.listing import natural_key
from .video_dataset import VideoDataset

_LOOPBACK = {'localhost', '127.0.0.1', '::1'}
# Times that a shard is requested before it counts as missing.
_TRIES = 3
_TIMEOUT = 60  # seconds without an answer


@DATASETS.register_module()
class ShardDataset(Dataset):
    """Videos in tar files, of which a few are on this machine at a time.

    A shard is a tar file of videos or of folders of frames, as in the
    WebDataset convention, on disk, at an https address, or in an object store
    that fsspec knows (``s3://``, ``gs://``, ...; its package must be there).

    The stream of clips is divided into windows of ``clips_per_shard`` times
    ``shards_at_once`` clips. A window has ``shards_at_once`` shards, in an
    order that is shuffled for each pass over all of them, and each of its
    clips comes from a random video of a random one of them. Clip n depends on
    the list of shards, the seed and n alone: for any number of processes and
    workers, the stream is the same, and a run resumes exactly.

    Shards are unpacked in the user's cache, once for all processes on a
    machine, and removed two windows after theirs. The next window
    is fetched while the current one is read.

    Args:
        shards: Folder of tar files; an address with ranges in braces, such as
            ``https://host/clips-{0000..0127}.tar``; or a text file with an
            address a line.
        pipeline: See :class:`VideoDataset`.
        max_num_frames: See there.
        clips_per_shard: Clips that are drawn for each shard of a window.
            Defaults to 1000.
        shards_at_once: Shards in a window. Defaults to 4.
        cache: Folder for the shards; default: in the user's cache.

    Raises:
        InputError: There are no shards, or the first one cannot be read.
    """

    def __init__(
        self,
        shards: str | os.PathLike,
        pipeline: Sequence[dict | Callable] = (),
        max_num_frames: int = 1024,
        clips_per_shard: int = 1000,
        shards_at_once: int = 4,
        cache: str | os.PathLike | None = None,
    ) -> None:
        check_at_least(
            1,
            'ShardDataset',
            clips_per_shard=clips_per_shard,
            shards_at_once=shards_at_once,
        )
        self.addresses = list_shards(shards)
        self.shards_at_once = min(shards_at_once, len(self.addresses))
        self.window = clips_per_shard * self.shards_at_once
        self.cache = Path(cache or user_cache() / 'shards')
        self._arguments: dict[str, Any] = dict(
            pipeline=pipeline, max_num_frames=max_num_frames
        )
        self._open: dict[str, VideoDataset] = {}
        self._number = -1
        # Whether it can be read, and fits the pipeline, shows now.
        self._shard(self.addresses[0])

    def __len__(self) -> int:
        """Return the clips of a pass over all shards."""
        return len(self.addresses) * self.window // self.shards_at_once

    @property
    def c_dim(self) -> int:
        """Width of the labels: there are none."""
        return 0

    @property
    def metainfo(self) -> dict:
        """Names of the classes: there are none."""
        return {'classes': ()}

    @property
    def clip_list(self) -> dict[str, Any]:
        """What the stream of clips depends on: the shards in their order."""
        names = '\n'.join(
            address.rpartition('/')[2] for address in self.addresses
        )
        digest = hashlib.sha256(names.encode()).hexdigest()
        return {'number': len(self.addresses), 'digest': digest}

    def frame_size(self) -> tuple[int, int]:
        """Return height and width of the first video of the first shard."""
        return self._shard(self.addresses[0]).frame_size()

    def shards_of(self, number: int, seed: int) -> list[str]:
        """List the shards of a window.

        Args:
            number (int): Which window of the stream.
            seed (int): Of the run.
        """
        total, count = len(self.addresses), self.shards_at_once
        places = range(number * count, (number + 1) * count)
        shards = []
        for place in places:
            turn, i = divmod(place, total)
            order = np.random.default_rng([seed, turn]).permutation(total)
            shards.append(self.addresses[order[i]])
        return shards

    def __getitem__(self, key: ClipKey) -> dict:
        """Return the clip at a position of the stream.

        Raises:
            InputError: Its shard is missing or damaged; it is named.
        """
        seed, position = key.seed
        number = position // self.window
        if number != self._number:
            self._enter(number, seed)
        rng = np.random.default_rng([seed, position, 1])
        shards = self.shards_of(number, seed)
        videos = self._shard(shards[rng.integers(len(shards))])
        index = int(rng.integers(len(videos)))
        return videos[ClipKey(index, key.seed)]

    def _enter(self, number: int, seed: int) -> None:
        """Fetch the window after this one, and remove what is over."""
        self._number = number

        def window(i: int) -> set[str]:
            return set(self.shards_of(i, seed)) if i >= 0 else set()

        # Other processes may be a window behind or ahead.
        needed = window(number - 1) | window(number)
        coming = window(number + 1)
        over = window(number - 2) - needed - coming - window(number + 2)
        for address in over:
            self._open.pop(address, None)
            shutil.rmtree(self._folder(address), ignore_errors=True)

        def fetch_all() -> None:
            # What is wrong with one is an error where it is needed.
            for address in sorted(coming):
                with suppress(InputError):
                    self._fetch(address)

        threading.Thread(target=fetch_all, daemon=True).start()

    def _folder(self, address: str) -> Path:
        """Return where a shard is unpacked."""
        digest = hashlib.sha256(address.encode()).hexdigest()[:16]
        return self.cache / digest

    def _shard(self, address: str) -> VideoDataset:
        """Open a shard, which is fetched if it is not here."""
        if address not in self._open:
            folder = self._fetch(address)
            try:
                self._open[address] = VideoDataset(folder, **self._arguments)
            except InputError as error:
                raise InputError(f'the shard {address}: {error}') from error
        return self._open[address]

    def _fetch(self, address: str) -> Path:
        """Unpack a shard, once for all processes; return the folder."""
        folder = self._folder(address)
        with file_lock(folder.with_suffix('.lock'), wait=True):
            if not folder.is_dir():
                for attempt in range(1, _TRIES + 1):
                    try:
                        self._unpack(address, folder)
                        break
                    except (OSError, tarfile.TarError) as error:
                        if attempt == _TRIES:
                            raise InputError(
                                f'the shard {address} cannot be read: '
                                f'{error}; put it back, or take it off the '
                                'list, which makes another stream'
                            ) from error
                        time.sleep(0.2 * attempt)
        return folder

    @staticmethod
    def _unpack(address: str, folder: Path) -> None:
        with open_address(address) as file, atomic_write(folder) as temporary:
            temporary.mkdir()
            reader: Any = _Reading(file)
            with tarfile.open(fileobj=reader, mode='r|*') as archive:
                # Nothing outside of the folder, no devices.
                archive.extractall(temporary, filter='data')
            while reader.read(2**20):
                pass
            if address.endswith('.tar') and reader.tail.strip(b'\0'):
                # tarfile takes what is cut off for the end.
                raise tarfile.ReadError('its end is missing')


class _Reading:
    """A file whose failures differ from those of the disk written to.

    Attributes:
        tail: The last bytes that were read, which end a tar file by zeros.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tail = b''

    def read(self, size: int) -> bytes:
        """Read up to so many bytes."""
        try:
            content = self._file.read(size)
        except OSError as error:
            raise tarfile.ReadError(str(error)) from error
        self.tail = (self.tail + content[-1024:])[-1024:]
        return content


def list_shards(shards: str | os.PathLike) -> list[str]:
    """List the addresses of shards; see :class:`ShardDataset`.

    Raises:
        InputError: There are none, or an address is of plain http, which only
            this machine may have.
    """
    text = os.fspath(shards)
    path = Path(text)
    if path.is_dir():
        names = sorted((x.name for x in path.glob('*.tar*')), key=natural_key)
        addresses = [str(path / name) for name in names]
    elif path.suffix == '.txt':
        try:
            lines = path.read_text('utf-8').splitlines()
        except OSError as error:
            raise InputError(f'{text}: {error.strerror}') from error
        addresses = [line.strip() for line in lines if line.strip()]
    else:
        addresses = expand_braces(text)
    if not addresses:
        raise InputError(f'{text} holds no shards (*.tar)')
    for address in addresses:
        _refuse_http(address)
    return addresses


def _refuse_http(address: str) -> None:
    """Refuse what others could change on its way.

    Raises:
        InputError: The address is of plain http, and not of this machine.
    """
    parts = urlsplit(address)
    if parts.scheme == 'http' and parts.hostname not in _LOOPBACK:
        raise InputError(
            f'{address}: plain http is for this machine only, use https'
        )


class _Redirects(HTTPRedirectHandler):
    """Follow redirections, but not to plain http."""

    def redirect_request(self, *args: Any) -> Any:
        _refuse_http(args[-1])
        return super().redirect_request(*args)


def expand_braces(text: str) -> list[str]:
    """Write out ranges of numbers, such as ``{000..127}``, in order.

    Examples:
        >>> expand_braces('a-{08..10}.tar')
        ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    parts = re.split(r'\{(\d+)\.\.(\d+)\}', text)
    ranges = [
        [f'{i:0{len(first)}}' for i in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3])
    ]
    return [
        ''.join(x + y for x, y in zip(parts[::3], [*numbers, '']))
        for numbers in product(*ranges)
    ]


def open_address(address: str) -> IO[bytes]:
    """Open a file by its path or address.

    Raises:
        OSError: It cannot be opened.
        InputError: A package is missing that reads such addresses.
    """
    scheme = urlsplit(address).scheme
    if scheme in ('http', 'https'):
        return build_opener(_Redirects).open(address, timeout=_TIMEOUT)
    if len(scheme) > 1:
        import fsspec

        try:
            return fsspec.open(address, 'rb').open()
        except (ImportError, ValueError) as error:
            raise InputError(f'{address}: {error}') from error
    return open(address, 'rb')
