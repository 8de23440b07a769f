"""Metrics of generated videos, for mmengine's test and validation loops."""

import hashlib
import json
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    is_main_process,
)
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import InputError
from ..files import user_cache
from ..registry import METRICS, MODELS
from .frechet import FeatureStats, frechet_distance
from .real_clips import own_share, real_clips

# To be raised with every change that moves the statistics of real clips.
_CACHE_VERSION = 1


@METRICS.register_module()
class FrechetVideoDistance(BaseMetric):
    """Frechet distance of generated and real clips (Unterthiner et al. 2018).

    Generated clips come from the loop. Of the real videos, at most
    ``num_real`` count, spread evenly over the data set in its order (the
    published protocol takes the first ones). Each gives one clip, at an
    offset that a fixed seed draws, without flips. Their statistics are kept
    in the user's cache folder until the videos, the protocol or the detector
    change.

    The result's name is ``FVD16`` for 16 frames, ``FVD16x8`` for 16 frames
    at a stride of 8, ``FID`` for one frame, images (Heusel et al. 2017), and
    ``FVD-random`` with an untrained detector.

    Args:
        num_frames (int): Frames in a clip; the first ones of a generated
            video.
        num_real (int): The most real clips.
        resolution (int): Height and width of the clips in pixels.
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``.
        detector (dict): Config of a detector.
        frame_stride (int): Take every so many frames. Defaults to 1.
        batch_size (int): Real clips at a time. Defaults to 8.
        num_workers (int): Processes that decode real clips, for each GPU.
            Defaults to 0, none.

    Raises:
        InputError: A number is out of range, the real videos cannot be read
            or are fewer than 2, or the detector is missing or needs longer
            clips.
    """

    # Empty, so that mmengine neither puts one before names nor misses it.
    default_prefix = ''

    def __init__(
        self,
        num_frames: int,
        num_real: int,
        resolution: int,
        real_data: dict,
        detector: dict,
        frame_stride: int = 1,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if num_real < 2 or min(frame_stride, batch_size) < 1:
            raise InputError(
                f'FrechetVideoDistance: num_real={num_real} must be at least '
                f'2, frame_stride={frame_stride} and batch_size={batch_size} '
                'at least 1'
            )
        self.detector = MODELS.build(detector)
        if num_frames < self.detector.min_num_frames:
            raise InputError(
                f'FrechetVideoDistance: num_frames={num_frames}, but '
                f'{detector["type"]} needs at least '
                f'{self.detector.min_num_frames}'
            )
        self.detector.to(get_device())
        self.num_frames = num_frames
        self.frame_stride = frame_stride
        self.resolution = resolution
        self.num_real = num_real
        self.batch_size = batch_size
        self.num_workers = num_workers
        #: Frames from the first to the last of a clip, both included.
        self.span = (num_frames - 1) * frame_stride + 1
        self.name = f'FVD{num_frames}' if num_frames > 1 else 'FID'
        if frame_stride > 1:
            self.name += f'x{frame_stride}'
        if self.detector.is_random:
            self.name = 'FVD-random'

        self.real_videos = real_clips(
            real_data, num_frames, resolution, frame_stride
        )
        available = len(self.real_videos)
        if available < 2:
            raise InputError(
                f'{real_data["data_root"]}: {self.name} needs at least 2 '
                f'videos of {self.span} frames or more, there is one'
            )
        if available < num_real:
            MMLogger.get_current_instance().info(
                f'{self.name}: {available} real clips, as there are no more '
                f'videos of {self.span} frames or more'
            )
        self._fake = FeatureStats(self.detector.num_features)
        self._real: FeatureStats | None = None

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Take in generated clips.

        Args:
            data_batch (dict): Not used; mmengine's signature.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W],
                from time 0 on.

        Raises:
            InputError: The clips are too short or of another resolution.
        """
        for sample in data_samples:
            length, _, *size = sample['video'].shape
            if length < self.span:
                raise InputError(
                    f'{self.name} takes {self.span} frames, but the generated '
                    f'clips have {length}: set '
                    f'test_dataloader.dataset.num_frames={self.span}'
                )
            if size != [self.resolution] * 2:
                raise InputError(
                    f'{self.name} has resolution={self.resolution}, but the '
                    f'generated clips are {size[1]} x {size[0]} pixels'
                )
        clips = [
            sample['video'][: self.span : self.frame_stride]
            for sample in data_samples
        ]
        self._fake.append(self.detector.features(torch.stack(clips)))

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the distance from the clips of all processes.

        mmengine's own would gather results one by one; here they are sums.

        Args:
            size (int): How many clips there are.

        Returns:
            dict: The distance by its name, on each process.
        """
        fake = self._fake
        self._fake = FeatureStats(self.detector.num_features)
        fake.all_reduce()
        if fake.num != size:
            MMLogger.get_current_instance().warning(
                f'{self.name}: {fake.num} clips of {size} seeds, some count '
                'twice: set test_dataloader.sampler.round_up=False'
            )
        return self.compute_metrics([fake])

    def compute_metrics(self, results: list[FeatureStats]) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): The statistics of all generated clips, alone.
        """
        if self._real is None:
            self._real = self._real_stats()
        return {self.name: frechet_distance(*results, self._real)}

    def _real_stats(self) -> FeatureStats:
        """Read the statistics of real clips from the cache, or compute them.

        The main process looks for all, as machines may have caches of their
        own.
        """
        file = self._cache_file()
        stats = [self._load(file) if is_main_process() else None]
        broadcast_object_list(stats)
        if stats[0] is not None:
            return stats[0]
        stats = self._compute_real_stats()
        if is_main_process():
            try:
                stats.save(file)
            except OSError as error:
                MMLogger.get_current_instance().warning(
                    f'{file}: statistics cannot be cached: {error}'
                )
        return stats

    def _cache_file(self) -> Path:
        key = dict(
            version=_CACHE_VERSION,
            videos=self.real_videos.fingerprint,
            num_real=self.num_real,
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            resolution=self.resolution,
            detector=self.detector.digest,
        )
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return user_cache() / 'statistics' / f'{digest[:32]}.npz'

    @staticmethod
    def _load(file: Path) -> FeatureStats | None:
        if not file.exists():
            return None
        try:
            return FeatureStats.load(file)
        except InputError as error:
            MMLogger.get_current_instance().warning(
                f'{error}; computing them again'
            )
            return None

    def _compute_real_stats(self) -> FeatureStats:
        """Sum over this process's share of the real clips, then over all."""
        loader = DataLoader(
            own_share(self.real_videos, self.num_real),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            # Its own, as a loader draws from torch's global one, which a
            # training run goes on with.
            generator=torch.Generator(),
        )
        stats = FeatureStats(self.detector.num_features)
        with tqdm(
            desc=f'{self.name}: real clips',
            total=len(loader.dataset),
            unit='clip',
            # None: only where someone watches.
            disable=None if is_main_process() else True,
        ) as progress:
            for batch in loader:
                stats.append(self.detector.features(batch['video']))
                progress.update(len(batch['video']))
        stats.all_reduce()
        return stats
