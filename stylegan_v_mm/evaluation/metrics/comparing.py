"""The base class of metrics that compare with real clips, and their cache."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    broadcast_object_list,
    is_main_process,
)
from mmengine.logging import MMLogger
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from tqdm import tqdm

from ...datasets.workers import check_workers
from ...errors import InputError, check_at_least
from ...files import user_cache
from ..frechet import (
    FeatureRows,
    FeatureStats,
)
from ..real_clips import RealFrames, describe, own_share, real_clips
from .base import DetectorMetric, cut

# Raise this with every change that affects the statistics of real clips.
_CACHE_VERSION = 2


def _join(items: list[dict], num_frames: int) -> tuple[Tensor, Tensor]:
    """Cut videos into clips; return the clips and their labels [N, c_dim]."""
    clips = [cut(item['video'], num_frames) for item in items]
    labels = [
        item['c'].expand(len(part), -1) for item, part in zip(items, clips)
    ]
    batch = torch.cat(clips), torch.cat(labels)
    if get_worker_info() is not None:
        # If this failed later, in the thread that sends a worker's batches,
        # the main process would wait forever.
        for tensor in batch:
            tensor.share_memory_()
    return batch


class ComparingMetric(DetectorMetric):
    """Base class of the metrics that compare with real clips.

    Each video that is long enough contributes one unflipped clip, at an offset
    that a fixed seed draws. At most ``num_real`` videos count, spread evenly
    over the data set in its order. With ``disjoint`` in ``real_data``, each
    video contributes all its consecutive clips. For images, all frames of all
    videos are available, and ``num_real`` are spread evenly over these. The
    features of real clips are kept in the user's cache folder until the
    videos, the protocol or the detector change.

    Args:
        num_frames (int): See :class:`DetectorMetric`, also for the arguments
            that are not listed here.
        num_real (int, optional): Most real clips. None: all.
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``; or the config of another data
            set, see :func:`~stylegan_v_mm.evaluation.real_clips.real_clips`.
            If that has no ``fingerprint``, nothing is cached.
        first_real (bool): Whether to use the first real videos or frames
            instead of spreading them. Defaults to False.
        published (bool): Whether to follow the published protocols, which use
            the first real videos and, instead of ``num_real``, all frames of
            them for FID and the first million for KID. Defaults to False.
        batch_size (int): Real clips at a time. Defaults to 8.
        num_workers (int): Processes that decode real clips, per GPU. Defaults
            to 0, none.
        cache (bool): Whether to read and write the cache. Defaults to True.

    Raises:
        InputError: See :class:`DetectorMetric`; or the real videos cannot be
            read or are too few.
    """

    #: The most real images of the published protocol; None: all.
    published_images: int | None = None

    def __init__(
        self,
        num_frames: int,
        num_real: int | None,
        resolution: int,
        real_data: dict,
        detector: dict,
        frame_stride: int = 1,
        batch_size: int = 8,
        num_workers: int = 0,
        num_fake: int | None = None,
        clips_per_video: int = 1,
        first_real: bool = False,
        cache: bool = True,
        published: bool = False,
    ) -> None:
        super().__init__(
            num_frames=num_frames,
            resolution=resolution,
            detector=detector,
            num_fake=num_fake,
            frame_stride=frame_stride,
            clips_per_video=clips_per_video,
        )
        if published:
            first_real = True
            num_real = num_real if num_frames > 1 else self.published_images
        least = self.min_clips
        if (num_real is not None and num_real < least) or batch_size < 1:
            raise InputError(
                f'{type(self).__name__}: num_real={num_real} must be at least '
                f'{least}, batch_size={batch_size} at least 1'
            )
        check_at_least(0, type(self).__name__, num_workers=num_workers)
        check_workers(num_workers)
        self.num_real = num_real
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.first_real = first_real
        self.cache = cache
        self.real_videos: Any
        try:
            if num_frames == 1:
                self.real_videos = RealFrames(
                    real_data, resolution, num_real, first_real
                )
                available = self.real_videos.total
            else:
                self.real_videos = real_clips(
                    real_data, num_frames, resolution, frame_stride
                )
                available = len(self.real_videos)
        except InputError as error:
            raise InputError(f'{self.name}: {error}') from error
        span = (num_frames - 1) * frame_stride + 1
        if available < least:
            where = real_data.get('data_root') or real_data['type']
            raise InputError(
                f'{where}: {self.name} needs at least {least} videos of '
                f'{span} frames or more, found {available}'
            )
        if available < (num_real or 0):
            MMLogger.get_current_instance().info(
                f'{self.name}: {available} real clips, because there are no '
                f'more videos of {span} frames or more'
            )
        #: Number of real clips that count.
        self.num_used = min(num_real or available, available)
        self._real: FeatureRows | FeatureStats | None = None

    def protocol(self, size: int) -> dict:
        """Describe the real clips as well; see :class:`DetectorMetric`."""
        return super().protocol(size) | dict(
            **describe(self.real_videos),
            num_real=self.num_used,
            first_real=self.first_real,
        )

    def _new_real(self) -> FeatureRows | FeatureStats:
        return FeatureRows()

    @property
    def real(self) -> Any:
        """Features of real clips; all processes must read this together."""
        if self._real is None:
            self._real = self._load_or_compute()
        return self._real

    def _cache_key(self) -> dict:
        return dict(
            version=_CACHE_VERSION,
            videos=self.real_videos.fingerprint,
            num_real=self.num_real,
            first_real=self.first_real,
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            resolution=self.resolution,
            detector=self.detector.digest,
            kept=type(self._new_real()).__name__,
        )

    def _cache_file(self) -> Path:
        key = json.dumps(self._cache_key())
        digest = hashlib.sha256(key.encode()).hexdigest()
        return user_cache() / 'statistics' / f'{digest[:32]}.npz'

    def _load_or_compute(self) -> FeatureRows | FeatureStats:
        """Read the features of real clips from the cache, or compute them.

        Only the main process reads, because each machine may have its own
        cache.
        """
        if not (self.cache and hasattr(self.real_videos, 'fingerprint')):
            return self._compute_real()
        file = self._cache_file()
        found = [self._load(file) if is_main_process() else None]
        broadcast_object_list(found)
        if found[0] is not None:
            return found[0]
        real = self._compute_real()
        if is_main_process():
            try:
                real.save(file)
            except InputError as error:
                MMLogger.get_current_instance().warning(
                    f'statistics of real videos cannot be cached: {error}'
                )
        return real

    def _load(self, file: Path) -> FeatureRows | FeatureStats | None:
        if not file.exists():
            return None
        try:
            return type(self._new_real()).load(file)
        except InputError as error:
            MMLogger.get_current_instance().warning(
                f'{error}; computing them again'
            )
            return None

    def _compute_real(self) -> FeatureRows | FeatureStats:
        """Compute this process's share of the real clips, then join all."""
        real = self._new_real()
        if self.num_frames == 1:
            share = own_share(self.real_videos)
        else:
            share = own_share(self.real_videos, self.num_real, self.first_real)
        loader = DataLoader(
            share,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=partial(_join, num_frames=self.num_frames),
            # A loader would otherwise draw from torch's global generator and
            # change a training run.
            generator=torch.Generator(),
        )
        progress = tqdm(
            loader,
            desc=f'{self.name}: real clips',
            unit='batch',
            # None: show it in a terminal only.
            disable=None if is_main_process() else True,
        )
        keys = share.indices[:: self.batch_size]
        for (clips, c), key in zip(progress, keys):
            if len(clips):
                real.append(self._row(self._detect(clips), c), int(key))
        real.all_reduce()
        return real
