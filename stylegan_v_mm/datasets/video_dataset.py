"""The data set of videos."""

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from torch.utils.data import Dataset

from ..errors import InputError, check_at_least
from ..registry import DATASETS, TRANSFORMS
from ..video.reader import DamagedVideoError
from .clip_sampler import ClipKey
from .labels import load_labels
from .sources.finding import Stretch, find_videos
from .sources.images import find_images
from .sources.listing import join_some, printable

# Increase this with every change of the decoded frames or pixels.
_READING_VERSION = b'2'
# After so many failures in a row, the videos or their disk must be gone.
_MOST_FAILURES = 100


@DATASETS.register_module()
class VideoDataset(Dataset):
    """Videos in a folder or a zip; each item is the pipeline's result.

    The layout is detected. Videos may be in one folder per class, as in
    UCF-101::

        data_root/                 data_root/             data_root.zip
        ├── dataset.json (labels)  ├── archery/           └── archery/
        ├── clip_1.mp4             │   ├── clip_1.avi         └── clip_1/
        └── clip_2.mkv             │   └── clip_2.avi             ├── 0.jpg
                                   └── bowling/...                └── 1.jpg

    Video files, animated images (GIF, APNG, WebP, TIFF of several pages) and
    folders of still images are videos. All other files are logged in one
    line, see :func:`~stylegan_v_mm.datasets.sources.finding.find_videos`.

    With ``images=True``, each image in the folder, in the zip or in an LMDB,
    such as LSUN's, is a video of one frame::

        data_root/                 data_root/             data_root/
        ├── 000000.jpg             ├── cat/               └── data.mdb
        └── 000001.jpg             │   └── 000000.png
                                   └── dog/...

    Of a video longer than ``max_num_frames``, each clip is in a random window
    of this length. Videos too short for the pipeline and files that cannot be
    decoded are left out and named in one warning. If a clip is damaged, or its
    video is gone, the video is named once, and another video replaces it, or
    another clip if there is only one video. 100 failures in a row are an
    error.

    The first transform of the pipeline gets these keys:

    - ``source``: the video, with ``name``, ``len()`` and ``read(inds)``
    - ``video_len`` (int): its length, at most ``max_num_frames``
    - ``c`` [c_dim], float32: its label
    - ``rng`` (numpy.random.Generator): seeded by the index if it is a
      ``ClipKey``, else by ``seed`` and the index, or by numpy's global state
    - ``video_lens`` [V], int64, ``labels`` [V, c_dim], float32: lengths and
      labels of all videos, including those of other data sets in the same
      wrapper (``ConcatDataset``, ...)

    Args:
        data_root: Folder of video files, folder or zip of frame folders, or
            a video file; for images a folder, a zip or an LMDB.
        pipeline: Transforms or their configs.
        labels: None, ``'folder'``, a json or a csv file; see
            :func:`~stylegan_v_mm.datasets.labels.load_labels`.
        min_num_frames: Videos with fewer frames are left out. Default: the
            largest ``min_num_frames`` of the transforms in the pipeline.
        max_num_frames: Length of the window of a video that clips come from.
        images: Whether each image is a video of its own, instead of a frame
            in its folder's video.
        seed: If given, item i is the same every time.
        stretch: If given, each video is cut into consecutive stretches of this
            many frames, each of which is a video of its own. The remaining
            frames are left out. Default: whole videos.

    Raises:
        InputError: If two arguments contradict each other, no video is long
            enough, or the labels do not fit the videos.

    Examples:
        >>> dataset = VideoDataset('data/clips', pipeline=[
        ...     dict(type='SampleClip', num_frames=3),
        ...     dict(type='LoadClip'),
        ...     dict(type='ResizeCrop', resolution=64),
        ...     dict(type='PackClip')])
        >>> dataset[0]['video'].shape
        torch.Size([3, 3, 64, 64])
    """

    def __init__(
        self,
        data_root: str | os.PathLike,
        pipeline: Sequence[dict | Callable] = (),
        labels: str | None = None,
        min_num_frames: int | None = None,
        max_num_frames: int = 1024,
        images: bool = False,
        seed: int | None = None,
        stretch: int | None = None,
    ) -> None:
        check_at_least(1, 'VideoDataset', stretch=stretch)
        transforms = [
            TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline
        ]
        if min_num_frames is None:
            needs = [getattr(t, 'min_num_frames', 1) for t in transforms]
            min_num_frames = max(needs, default=1)
        if max_num_frames < min_num_frames:
            raise InputError(
                f'max_num_frames={max_num_frames}, but a clip needs '
                f'{min_num_frames} frames'
            )
        if images and min_num_frames > 1:
            raise InputError(
                f'{data_root}: with images=True a video has one frame, but a '
                f'clip needs {min_num_frames}: set num_frames=1'
            )
        if stretch is not None:
            if images:
                raise InputError(
                    f'{data_root}: with images=True a video has one frame, '
                    f'which stretch={stretch} cannot cut'
                )
            if stretch < min_num_frames:
                raise InputError(
                    f'stretch={stretch}, but a clip needs {min_num_frames} '
                    'frames'
                )
            min_num_frames = stretch
        self.data_root = str(data_root)
        self.seed = seed
        self.pipeline = Compose(transforms)
        sources: Any
        if images:
            # There may be millions, so no objects are created here.
            sources = find_images(data_root)
            names, lens = sources.names, np.ones(len(sources), np.int64)
        else:
            sources = find_videos(data_root)
            names = [source.name for source in sources]
            lens = np.array([len(source) for source in sources])
        all_labels, self._classes = load_labels(data_root, names, labels)
        kept = np.flatnonzero(lens >= max(min_num_frames, 1))
        if not images:
            self._summarize(sources, kept, min_num_frames)
            sources = [sources[i] for i in kept]
        if stretch is not None:
            sources = [
                Stretch(source, start, stretch)
                for source in sources
                for start in range(0, len(source) - stretch + 1, stretch)
            ]
            kept = kept.repeat(lens[kept] // stretch)
            lens[kept] = stretch
        self.sources = sources
        #: [V, c_dim], float32, label of each video.
        self.labels = all_labels[kept]
        #: [V], int64, length of each video, at most ``max_num_frames``.
        self.video_lens = np.minimum(lens[kept], max_num_frames)
        #: Lengths and labels of the videos that clips to be generated imitate;
        #: if this data set is in a wrapper, those of all its videos.
        self.imitated = self.video_lens, self.labels
        # [V], whether a warning has named the video as damaged. Forked data
        # workers share this memory, which is not in /dev/shm, because that is
        # tiny in some containers.
        self._damaged = np.frombuffer(mmap.mmap(-1, len(kept) or 1), bool)

    def _summarize(
        self, sources: list, kept: np.ndarray, min_num_frames: int
    ) -> None:
        short = [
            f'{s.name} ({len(s)})'
            for s in sources
            if 0 < len(s) < min_num_frames
        ]
        damaged = [f'{s.name} ({s.problem})' for s in sources if s.problem]
        notes = []
        if short:
            notes.append(
                f'shorter than {min_num_frames} frames: {join_some(short)}'
            )
        if damaged:
            notes.append(f'damaged: {join_some(damaged)}')
        text = '; '.join(notes)
        if not len(kept):
            raise InputError(
                f'{self.data_root}: none of {len(sources)} videos can be '
                f'used; {text}'
            )
        if notes:
            MMLogger.get_current_instance().warning(
                f'{self.data_root}: using {len(kept)} of {len(sources)} '
                f'videos; {text}'
            )

    def full_init(self) -> None:
        """Do nothing, as all is read already; mmengine's wrappers call it."""

    def get_cat_ids(self, index: int) -> list[int]:
        """Return the class of a video, for mmengine's ClassBalancedDataset.

        Args:
            index (int): Index of the video.

        Returns:
            list: The index of its class.

        Raises:
            InputError: The videos have no classes.
        """
        label = self.labels[index]
        classes = np.flatnonzero(label)
        if len(classes) != 1 or label[classes[0]] != 1:
            raise InputError(
                f'{self.data_root}: classes cannot be balanced, as the labels '
                "are not classes: set labels to 'folder' or a file of classes"
            )
        return classes.tolist()

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without labels."""
        return self.labels.shape[1]

    def frame_size(self) -> tuple[int, int]:
        """Return height and width of the first video that can be decoded."""
        for source in self.sources:
            try:
                # The last frame is none of those known to be damaged.
                return source.read([len(source) - 1]).shape[1:3]
            except DamagedVideoError:
                continue
        raise InputError(f'{self.data_root}: no video can be decoded')

    @property
    def metainfo(self) -> dict:
        """Names of the classes (``classes``), empty if they have none."""
        return {'classes': tuple(self._classes)}

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of names, sizes, times and lengths.

        It changes when the videos or the way they are read change, and is a
        cache key for what is computed from them.
        """
        digest = hashlib.sha256(_READING_VERSION)
        for source, video_len in zip(self.sources, self.video_lens):
            line = f'{source.name}\n{source.signature()}\n{video_len}\n'
            digest.update(line.encode(errors='surrogateescape'))
        return digest.hexdigest()

    @cached_property
    def clip_list(self) -> dict[str, Any]:
        """What the stream of clips depends on: the videos in their order.

        ``number`` (int) is the number of videos, and ``digest`` (str) that of
        their names, lengths and, for video files, sizes. A copy of the videos
        in another folder has the same digest.
        """
        digest = hashlib.sha256()
        for source, video_len in zip(self.sources, self.video_lens):
            size = getattr(source, 'size', '')
            line = f'{source.name}\n{size}\n{video_len}\n'
            digest.update(line.encode(errors='surrogateescape'))
        return {'number': len(self), 'digest': digest.hexdigest()}

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, index: int, inds: Sequence[int]) -> dict:
        """Pass given frames through the pipeline after its first transform.

        Args:
            index (int): Index of the video.
            inds (sequence): Indices of the frames.

        Returns:
            dict: The pipeline's result.

        Raises:
            DamagedVideoError: The frames cannot be decoded.
        """
        results = {
            'source': self.sources[index],
            'frame_inds': inds,
            'c': self.labels[index],
        }
        for transform in self.pipeline.transforms[1:]:
            results = transform(results)
        return results

    def __getitem__(self, index: int | ClipKey) -> dict:
        seed: Any
        if isinstance(index, ClipKey):
            seed = index.seed
        elif self.seed is not None:
            seed = [self.seed, index]
        else:
            # numpy's global state differs between workers and is seeded.
            seed = np.random.randint(2**31, size=4)
        rng = np.random.default_rng(seed)
        # Empty for each item: with a seed, what replaces a damaged video must
        # not depend on the items that were read before.
        failed: set[int] = set()
        attempts = 0
        video_lens, labels = self.imitated
        while True:
            attempts += 1
            results = {
                'source': self.sources[index],
                'video_len': int(self.video_lens[index]),
                'c': self.labels[index],
                'rng': rng,
                'video_lens': video_lens,
                'labels': labels,
            }
            try:
                return self.pipeline(results)
            except DamagedVideoError as error:
                self._warn_once(int(index), error)
                if attempts == _MOST_FAILURES:
                    number = min(len(self), attempts)
                    raise InputError(
                        f'{self.data_root}: none of {number} videos can be '
                        f'decoded; the last error: {error}'
                    ) from error
                failed.add(int(index))
                if len(failed) == len(self):
                    # Another clip of a damaged video may be intact.
                    failed.clear()
                intact = np.delete(np.arange(len(self)), list(failed))
                index = intact[rng.integers(len(intact))]

    def _warn_once(self, index: int, error: Exception) -> None:
        if not self._damaged[index]:
            self._damaged[index] = True
            MMLogger.get_current_instance().warning(
                f'{printable(str(error))}; using other videos instead'
            )
