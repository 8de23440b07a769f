"""The data set of videos."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from torch.utils.data import Dataset

from ..errors import InputError
from ..registry import DATASETS, TRANSFORMS
from ..video_io import DamagedVideoError
from .clip_sampler import ClipKey
from .image_sources import find_images
from .labels import load_labels
from .video_sources import find_videos, join_some

# So many in a row are no bad luck: a disk is gone, or the videos are.
_MOST_FAILURES = 100


@DATASETS.register_module()
class VideoDataset(Dataset):
    """Videos of a folder or of a zip; an item is what the pipeline makes.

    The layout is recognised by what is there; one folder per class may be
    above the videos, as in UCF-101::

        data_root/                 data_root/             data_root.zip
        ├── dataset.json (labels)  ├── archery/           └── archery/
        ├── clip_1.mp4             │   ├── clip_1.avi         └── clip_1/
        └── clip_2.mkv             │   └── clip_2.avi             ├── 0.jpg
                                   └── bowling/...                └── 1.jpg

    With ``images=True`` each image is a video of one frame, wherever it lies
    under the folder or in the zip; or in an LMDB, such as LSUN's::

        data_root/                 data_root/             data_root/
        ├── 000000.jpg             ├── cat/               └── data.mdb
        └── 000001.jpg             │   └── 000000.png
                                   └── dog/...

    Of a video longer than ``max_num_frames`` only a random window counts.
    Videos too short for the pipeline and files that cannot be decoded are
    left out and named in one warning. A video that turns out to be damaged
    later, or is gone, is named once, and another one takes its place; 100 of
    them in a row are an error.

    Required by the first transform of the pipeline, added here:

    - ``source``: the video, with ``name``, ``len()`` and ``read(inds)``
    - ``video_len`` (int): its length, at most ``max_num_frames``
    - ``c`` [c_dim], float32: its label
    - ``rng`` (numpy.random.Generator): seeded by the ``ClipKey`` in place of
      an index; else from ``seed`` and the index, or numpy's global state
    - ``video_lens`` [V], int64, ``labels`` [V, c_dim], float32: lengths and
      labels of all videos

    Args:
        data_root: Folder of video files, folder or zip of frame folders, or
            a video file; for images a folder, a zip or an LMDB.
        pipeline: Transforms or their configs.
        labels: None, ``'folder'``, a json or a csv file; see
            :func:`~stylegan_v_mm.datasets.labels.load_labels`.
        min_num_frames: Shorter videos are left out. Default: what the
            transforms of the pipeline need (their ``min_num_frames``).
        max_num_frames: The longest stretch of a video that counts.
        images: Whether each image is a video of its own, rather than a frame
            of the video that its folder is.
        seed: If given, item i is the same every time.

    Raises:
        InputError: If there are no (long enough) videos, or the labels do
            not fit them.

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
    ) -> None:
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
        self.data_root = str(data_root)
        self.seed = seed
        self.pipeline = Compose(transforms)
        sources: Any
        if images:
            # There may be millions: none becomes an object now.
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
        self.sources = sources
        #: [V, c_dim], float32, label of each video.
        self.labels = all_labels[kept]
        #: [V], int64, length of each video, at most ``max_num_frames``.
        self.video_lens = np.minimum(lens[kept], max_num_frames)
        # [V], whether named as damaged; data workers share it.
        self._damaged = torch.zeros(len(kept), dtype=torch.bool)
        self._damaged.share_memory_()

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

    @property
    def c_dim(self) -> int:
        """Width of the labels, 0 without labels."""
        return self.labels.shape[1]

    def frame_size(self) -> tuple[int, int]:
        """Height and width of the first video that can be decoded."""
        for source in self.sources:
            try:
                return source.read([0]).shape[1:3]
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

        It changes when the videos do, and serves as key of what is computed
        from them.
        """
        digest = hashlib.sha256()
        for source, video_len in zip(self.sources, self.video_lens):
            line = f'{source.name}\n{source.signature()}\n{video_len}\n'
            digest.update(line.encode(errors='surrogateescape'))
        return digest.hexdigest()

    @property
    def identity(self) -> str:
        """Hexadecimal digest of names, lengths and, of video files, sizes.

        A copy of the videos has the same one, wherever it lies.
        """
        digest = hashlib.sha256()
        for source, video_len in zip(self.sources, self.video_lens):
            size = getattr(source, 'size', '')
            line = f'{source.name}\n{size}\n{video_len}\n'
            digest.update(line.encode(errors='surrogateescape'))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int | ClipKey) -> dict:
        if isinstance(index, ClipKey):
            index, seed = index
        elif self.seed is not None:
            seed = [self.seed, index]
        else:
            # numpy's global state differs in each worker and follows the run.
            seed = np.random.randint(2**31, size=4)
        rng = np.random.default_rng(seed)
        # Kept for each item: with a seed, what takes a damaged video's place
        # must not depend on the items that were read before.
        failed: set[int] = set()
        while True:
            results = {
                'source': self.sources[index],
                'video_len': int(self.video_lens[index]),
                'c': self.labels[index],
                'rng': rng,
                'video_lens': self.video_lens,
                'labels': self.labels,
            }
            try:
                return self.pipeline(results)
            except DamagedVideoError as error:
                failed.add(int(index))
                self._warn_once(int(index), error)
                if len(failed) >= min(len(self), _MOST_FAILURES):
                    raise InputError(
                        f'{self.data_root}: none of {len(failed)} videos can '
                        f'be decoded; the last error: {error}'
                    ) from error
                intact = np.delete(np.arange(len(self)), list(failed))
                index = intact[rng.integers(len(intact))]

    def _warn_once(self, index: int, error: Exception) -> None:
        if not self._damaged[index]:
            self._damaged[index] = True
            MMLogger.get_current_instance().warning(
                f'{error}; using other videos instead'
            )
