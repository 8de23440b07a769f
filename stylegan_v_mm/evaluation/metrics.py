"""Metrics of generated videos, for mmengine's test and validation loops."""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, get_worker_info
from tqdm import tqdm

from ..errors import InputError, check_at_least
from ..files import user_cache
from ..registry import METRICS, MODELS
from ..workers import check_workers
from .frechet import (
    NUM_GROUPS,
    FeatureRows,
    FeatureStats,
    GroupedStats,
    frechet_distance,
    frechet_distances,
)
from .measures import (
    density_coverage,
    inception_score,
    jackknife_error,
    kernel_distance,
    precision_recall,
)
from .real_clips import RealFrames, describe, own_share, real_clips

# To be raised with every change that moves the statistics of real clips.
_CACHE_VERSION = 2

# Frames that a detector gets at a time, unless a clip has more: what bounds
# its memory.
_MAX_FRAMES = 64

# Those in use, by their configs.
_detectors: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()


def _shared_detector(config: dict) -> nn.Module:
    key = json.dumps(config, sort_keys=True, default=str)
    detector = _detectors.get(key)
    if detector is None:
        detector = _detectors[key] = MODELS.build(config)
    return detector.to(get_device())


class DetectorMetric(BaseMetric):
    """What the metrics that rest on a detector have in common.

    Of each generated video, ``clips_per_video`` clips count, one after
    another from its first frame on. Their features go from one metric to the
    next with the video's data sample, so that metrics of the same clips and
    detector compute them once.

    Names of results end in the frames of a clip and their stride, as in
    ``FVD16`` and ``FVD16x8``; those of single frames, images, do not. With
    an untrained detector they end in ``-random`` (and do not tell 16 frames
    or fewer in a row: ``FVD-random``), with one that has a name in that, as
    in ``FD-VGG16``: ``FID`` and ``KID`` are those of Inception alone. A
    standard error ends in ``-se``.

    Args:
        num_frames (int): Frames in a clip, T. 1: images.
        resolution (int): Height and width of the clips in pixels.
        detector (dict): Config of a detector; equal ones are shared.
        num_fake (int, optional): The most generated clips; the first ones.
            Defaults to None, all.
        frame_stride (int): Take every so many frames. Defaults to 1.
        clips_per_video (int): Clips of each generated video. Defaults to 1.

    Raises:
        InputError: A number is out of range, or the detector is missing, of
            another kind, or needs longer or shorter clips.
    """

    # Empty, so that mmengine neither puts one before names nor misses it.
    default_prefix = ''
    #: Names for videos, for images, and for images by a detector of a name.
    names = ('', '', '')
    #: The method of the detector.
    output = 'features'
    #: The fewest clips, generated and real.
    min_clips = 2

    def __init__(
        self,
        num_frames: int,
        resolution: int,
        detector: dict,
        num_fake: int | None = None,
        frame_stride: int = 1,
        clips_per_video: int = 1,
    ) -> None:
        super().__init__()
        metric = type(self).__name__
        if min(num_frames, frame_stride, clips_per_video) < 1:
            raise InputError(
                f'{metric}: num_frames={num_frames}, frame_stride='
                f'{frame_stride} and clips_per_video={clips_per_video} must '
                'be at least 1'
            )
        if num_fake is not None and num_fake < self.min_clips:
            raise InputError(
                f'{metric}: num_fake={num_fake} must be at least '
                f'{self.min_clips}: set num_test_images for images, '
                'num_test_videos for videos'
            )
        self.detector = _shared_detector(detector)
        if not hasattr(self.detector, self.output):
            raise InputError(
                f'{metric} needs {self.output}, which {detector["type"]} does '
                'not give: docs/metrics.md says which detector to take'
            )
        if num_frames < self.detector.min_num_frames:
            raise InputError(
                f'{metric}: num_frames={num_frames}, but {detector["type"]} '
                f'needs at least {self.detector.min_num_frames}'
            )
        most = getattr(self.detector, 'max_num_frames', num_frames)
        if num_frames > most:
            raise InputError(
                f'{metric}: num_frames={num_frames}, but {detector["type"]} '
                f'takes at most {most}'
            )
        self.num_frames = num_frames
        self.resolution = resolution
        self.num_fake = sys.maxsize if num_fake is None else num_fake
        self.frame_stride = frame_stride
        self.clips_per_video = clips_per_video
        #: Frames from the first to the last that counts, both included.
        self.span = (num_frames * clips_per_video - 1) * frame_stride + 1
        kind = 0 if num_frames > 1 else 2 if self._ending else 1
        self.name = self._named(self.names[kind])
        self._fake = self._new_fake()
        self._num_seen = 0

    @property
    def _ending(self) -> str:
        """What the names of results tell about the detector."""
        if self.detector.is_random:
            return 'random'
        return getattr(self.detector, 'name', '')

    def _named(self, name: str) -> str:
        untrained = self.detector.is_random
        usual = self.num_frames <= 16 and self.frame_stride == 1
        if self.num_frames > 1 and not (untrained and usual):
            name += str(self.num_frames)
        if self.frame_stride > 1:
            name += f'x{self.frame_stride}'
        return f'{name}-{self._ending}' if self._ending else name

    def _new_fake(self) -> FeatureRows | GroupedStats:
        return FeatureRows()

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Take in generated clips.

        Args:
            data_batch (dict): With ``index`` [N]: which of all clips these
                are. Without it, they count in the order they come.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W],
                from time 0 on; features are added to them.

        Raises:
            InputError: The clips are too short or of another resolution.
        """
        inds = (data_batch or {}).get('index')
        if inds is None:
            inds = torch.arange(len(data_samples)) + self._num_seen
            inds = inds * get_world_size() + get_rank()
        self._num_seen += len(data_samples)
        chosen = [
            (index, sample)
            for index, sample in zip(map(int, inds), data_samples)
            if index * self.clips_per_video < self.num_fake
        ]
        for _, sample in chosen:
            self.check_size(sample['video'])
        self._add_features([sample for _, sample in chosen])
        for index, sample in chosen:
            most = self.num_fake - index * self.clips_per_video
            features = sample[self._feature_key][:most]
            self._fake.append(self._row(features, sample.get('c')), index)

    def _row(self, features: Tensor, c: Tensor | None) -> Tensor:
        """Say what is kept of features [N, F] of clips with labels c."""
        return features

    @property
    def result_names(self) -> list[str]:
        """What results are called; some are missing for few clips."""
        return [self.name, f'{self.name}-se']

    def protocol(self, size: int) -> dict:
        """Say how the results are measured: what compares has equal ones.

        Args:
            size (int): How many generated videos there are.

        Returns:
            dict: Texts and numbers. Of ``data``, the folder of the real
            videos, ``data_digest`` is what counts.
        """
        return dict(
            type=type(self).__name__,
            detector=type(self.detector).__name__,
            checksum=self.detector.digest,
            precision=getattr(self.detector, 'precision', 'float32'),
            resolution=self.resolution,
            num_frames=self.num_frames,
            frame_stride=self.frame_stride,
            clips_per_video=self.clips_per_video,
            num_fake=min(size * self.clips_per_video, self.num_fake),
        )

    def check_size(self, video: Tensor) -> None:
        """Refuse a generated clip [T, 3, H, W] of another size.

        Raises:
            InputError: It is too short or of another resolution.
        """
        length, _, *size = video.shape
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

    @property
    def _feature_key(self) -> tuple:
        return (
            self.output,
            self.detector.digest,
            self.num_frames,
            self.frame_stride,
            self.clips_per_video,
        )

    def _add_features(self, samples: list[dict]) -> None:
        """Compute the features that no other metric has computed."""
        key = self._feature_key
        samples = [sample for sample in samples if key not in sample]
        if samples:
            clips = torch.cat(
                [
                    _cut(
                        sample['video'][: self.span : self.frame_stride],
                        self.num_frames,
                    )
                    for sample in samples
                ]
            )
            features = self._detect(clips).split(self.clips_per_video)
            for sample, part in zip(samples, features):
                sample[key] = part

    def _detect(self, clips: Tensor) -> Tensor:
        detect = getattr(self.detector, self.output)
        parts = clips.split(max(_MAX_FRAMES // self.num_frames, 1))
        return torch.cat([detect(part) for part in parts])

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the results from the clips of all processes.

        mmengine's own would gather results one by one.

        Args:
            size (int): How many generated videos there are.

        Returns:
            dict: The results by their names, on each process.
        """
        fake, self._fake, self._num_seen = self._fake, self._new_fake(), 0
        fake.all_reduce()
        expected = min(size * self.clips_per_video, self.num_fake)
        logger = MMLogger.get_current_instance()
        if fake.num > expected:
            logger.warning(
                f'{self.name}: {fake.num} clips of {size} seeds, some count '
                'twice: set test_dataloader.sampler.round_up=False'
            )
        elif fake.num < self.num_fake < sys.maxsize:
            logger.info(
                f'{self.name}: {fake.num} generated clips, {self.num_fake} '
                'are asked for'
            )
        return self.compute_metrics([fake])


def _is_one_hot(c: Tensor) -> bool:
    """Say whether labels [N, c_dim] are those of classes."""
    return bool(((c == 1).sum(1) == 1).all() and ((c != 0).sum(1) == 1).all())


def _cut(video: Tensor, num_frames: int) -> Tensor:
    """Cut [N * T, 3, H, W] into clips [N, T, 3, H, W]."""
    num = len(video) // num_frames
    return video.reshape(num, num_frames, *video.shape[1:])


def _join(items: list[dict], num_frames: int) -> tuple[Tensor, Tensor]:
    """Cut videos into clips; return these and their labels [N, c_dim]."""
    clips = [_cut(item['video'], num_frames) for item in items]
    labels = [
        item['c'].expand(len(part), -1) for item, part in zip(items, clips)
    ]
    batch = torch.cat(clips), torch.cat(labels)
    if get_worker_info() is not None:
        # The main process would wait for ever if this failed later, in the
        # thread that sends a worker's batches.
        for tensor in batch:
            tensor.share_memory_()
    return batch


class ComparingMetric(DetectorMetric):
    """What the metrics that compare with real clips have in common.

    Each long enough video gives one clip, at an offset that a fixed seed
    draws, without flips; at most ``num_real`` videos count, spread evenly
    over the data set in its order. With ``disjoint`` in ``real_data`` it
    gives all clips that follow one another in it. Of images, all frames of
    all videos can count, and ``num_real`` are spread evenly over these. Their
    features are kept in the user's cache folder until the videos, the
    protocol or the detector change.

    Args:
        num_frames (int): See :class:`DetectorMetric`, as the other arguments
            that are not named here.
        num_real (int, optional): The most real clips. None: all.
        real_data (dict): ``data_root`` and, optionally, ``labels`` and
            ``images`` of a ``VideoDataset``; or the config of another data
            set, see :func:`~stylegan_v_mm.evaluation.real_clips.real_clips`.
            Without a ``fingerprint`` of it, nothing is cached.
        first_real (bool): Whether to take the first real videos or frames,
            instead of spreading them: the published protocols. Defaults to
            False.
        batch_size (int): Real clips at a time. Defaults to 8.
        num_workers (int): Processes that decode real clips, for each GPU.
            Defaults to 0, none.
        cache (bool): Whether to read and write the cache. Defaults to True.

    Raises:
        InputError: See :class:`DetectorMetric`; or the real videos cannot be
            read or are too few.
    """

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
    ) -> None:
        super().__init__(
            num_frames,
            resolution,
            detector,
            num_fake,
            frame_stride,
            clips_per_video,
        )
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
                f'{self.name}: {available} real clips, as there are no more '
                f'videos of {span} frames or more'
            )
        #: Real clips that count.
        self.num_used = min(num_real or available, available)
        self._real: FeatureRows | FeatureStats | None = None

    def protocol(self, size: int) -> dict:
        """Name the real clips, too; see :class:`DetectorMetric`."""
        return super().protocol(size) | dict(
            **describe(self.real_videos),
            num_real=self.num_used,
            first_real=self.first_real,
        )

    def _new_real(self) -> FeatureRows | FeatureStats:
        return FeatureRows()

    @property
    def real(self) -> Any:
        """What is known of real clips; all processes ask at once."""
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

        The main process looks for all, as machines may have caches of their
        own.
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
            except OSError as error:
                MMLogger.get_current_instance().warning(
                    f'{file}: statistics cannot be cached: {error}'
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
        """Take in this process's share of the real clips, then join all."""
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
            # Its own, as a loader draws from torch's global one, which a
            # training run goes on with.
            generator=torch.Generator(),
        )
        progress = tqdm(
            loader,
            desc=f'{self.name}: real clips',
            unit='batch',
            # None: only where someone watches.
            disable=None if is_main_process() else True,
        )
        keys = share.indices[:: self.batch_size]
        for (clips, c), key in zip(progress, keys):
            if len(clips):
                real.append(self._row(self._detect(clips), c), int(key))
        real.all_reduce()
        return real


@METRICS.register_module()
class FrechetVideoDistance(ComparingMetric):
    """Frechet distance of generated and real clips (Unterthiner et al. 2018).

    ``FVD16``; ``FID`` of images (Heusel et al. 2017). Of generated clips sums
    are kept, of real ones the features, or sums if ``num_real`` is None. The
    standard error is a jackknife over ten groups of generated clips, which
    takes ten more distances; it is given for 3 generated videos or more.

    With classes, ``FVD16/archery`` is the distance of the generated and the
    real clips of one class, by its name or else its number, where there are
    2 or more of either; ``FVD16-class-mean`` is their mean. All features are
    kept then.

    Args:
        per_class (bool): Whether to tell the classes apart, too. Needs
            ``labels`` in ``real_data``, and ``c`` in batches of generated
            clips: one-hot labels, of the same classes. Defaults to False.
        **kwargs: See :class:`ComparingMetric`.

    Raises:
        InputError: See :class:`ComparingMetric`; or the labels are no
            classes.
    """

    names = ('FVD', 'FID', 'FD')
    _real_stats: FeatureStats | None = None

    def __init__(
        self, *args: Any, per_class: bool = False, **kwargs: Any
    ) -> None:
        self.per_class = per_class
        super().__init__(*args, **kwargs)
        if per_class:
            # Of images: those of the videos that they are frames of.
            videos = getattr(self.real_videos, 'videos', self.real_videos)
            self._labels = labels = getattr(
                videos, 'labels', np.zeros((len(videos), 0), np.float32)
            )
            if not _is_one_hot(torch.from_numpy(labels)):
                raise InputError(
                    f'{type(self).__name__}: per_class=True needs real videos '
                    'with classes, but these have '
                    + ('other labels' if labels.shape[1] else 'no labels')
                    + ': set labels of real_data'
                )
            names = getattr(videos, 'metainfo', {}).get('classes')
            self._classes = names or range(labels.shape[1])

    @property
    def result_names(self) -> list[str]:
        """Also those of classes."""
        names = super().result_names
        if self.per_class:
            names.append(f'{self.name}-class-mean')
            names += [f'{self.name}/{each}' for each in self._classes]
        return names

    def _new_fake(self) -> FeatureRows | GroupedStats:
        if self.per_class:
            return FeatureRows()
        return GroupedStats(self.detector.num_features)

    def _new_real(self) -> FeatureRows | FeatureStats:
        if self.num_real is None and not self.per_class:
            return FeatureStats(self.detector.num_features)
        return FeatureRows()

    def _cache_key(self) -> dict:
        key = super()._cache_key()
        if self.per_class:
            # The fingerprint of the videos does not know them.
            labels = self._labels.tobytes()
            key['labels'] = hashlib.sha256(labels).hexdigest()
        return key

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Take in generated clips, see :class:`DetectorMetric`.

        Args:
            data_batch (dict): Also with ``c`` [N, c_dim] if ``per_class``.
            data_samples (list): See there.

        Raises:
            InputError: See there; or the labels are missing or of other
                classes than those of the real videos.
        """
        if self.per_class:
            labels = (data_batch or {}).get('c', [])
            if len(labels) != len(data_samples) or any(
                len(c) != len(self._classes) or not _is_one_hot(c[None])
                for c in labels
            ):
                raise InputError(
                    f'{self.name} with per_class=True needs a label of '
                    f'{len(self._classes)} classes for each generated clip: '
                    'set labels and data_root of test_dataloader.dataset to '
                    'those of real_data'
                )
            for sample, c in zip(data_samples, labels):
                sample['c'] = c[None]
        super().process(data_batch, data_samples)

    def _row(self, features: Tensor, c: Tensor | None) -> Tensor:
        """Say what is kept: features, and the class as one more column."""
        if not self.per_class:
            return features
        assert c is not None  # process() has checked it
        classes = c.argmax(1, keepdim=True).to(features)
        return torch.cat([features, classes.expand(len(features), 1)], 1)

    def _summed(self, features: Tensor) -> FeatureStats:
        stats = FeatureStats(self.detector.num_features)
        for part in features.split(1024):
            stats.append(part)
        return stats

    def _compare_classes(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Compare what is kept of clips, class by class."""
        found, left_out = {}, []
        progress = tqdm(
            self._classes,
            desc=f'{self.name}: classes',
            unit='class',
            disable=None if is_main_process() else True,
        )
        for i, name in enumerate(progress):
            parts = [rows[rows[:, -1] == i, :-1] for rows in (fake, real)]
            if min(map(len, parts)) < self.min_clips:
                left_out.append(f'{name} ({len(parts[0])}, {len(parts[1])})')
            else:
                found[f'{self.name}/{name}'] = frechet_distance(
                    *map(self._summed, parts)
                )
        if left_out:
            MMLogger.get_current_instance().info(
                f'{self.name}: {len(left_out)} of {len(self._classes)} '
                'classes have too few clips (generated, real): '
                + ', '.join(left_out)
            )
        if not found:
            return {}
        mean = sum(found.values()) / len(found)
        return {f'{self.name}-class-mean': mean, **found}

    def compute_metrics(
        self, results: list[FeatureRows | GroupedStats]
    ) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): What is kept of all generated clips, alone.
        """
        real = self.real
        fake: Any = results[0]
        by_class = {}
        if self.per_class:
            rows, digits = fake.features, fake.groups
            by_class = self._compare_classes(rows, real.features)
            fake = GroupedStats(self.detector.num_features)
            fake.groups = [
                self._summed(rows[digits == digit, :-1])
                for digit in range(NUM_GROUPS)
            ]
        if self._real_stats is None:
            if self.per_class:
                self._real_stats = self._summed(real.features[:, :-1])
            else:
                self._real_stats = getattr(real, 'stats', real)
        total = fake.total
        without = [total - group for group in fake.groups if group.num]
        if len(without) < 2 or any(stats.num < 2 for stats in without):
            without = []
        distance, *others = frechet_distances(
            [total, *without], self._real_stats
        )
        found = {self.name: distance}
        if others:
            found[f'{self.name}-se'] = jackknife_error(others)
        return found | by_class


@METRICS.register_module()
class FlowDistance(FrechetVideoDistance):
    """Frechet distance of how clips move: ``FlowDist16``.

    Of :class:`~stylegan_v_mm.evaluation.flow.FlowHistograms`, which need no
    weights and see next to nothing of content and colours.

    Args:
        num_frames (int): See :class:`ComparingMetric`, as the others; at
            least 3.
        num_real (int, optional): See there.
        resolution (int): See there.
        real_data (dict): See there.
        **kwargs: See :class:`FrechetVideoDistance`, but for ``detector``.

    Raises:
        InputError: See :class:`FrechetVideoDistance`.
    """

    def __init__(
        self,
        num_frames: int,
        num_real: int | None,
        resolution: int,
        real_data: dict,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_frames,
            num_real,
            resolution,
            real_data,
            dict(type='FlowHistograms'),
            **kwargs,
        )

    def _named(self, name: str) -> str:
        return super()._named('FlowDist')


@METRICS.register_module()
class KernelDistance(ComparingMetric):
    """Kernel distance times 1000: ``KVD16`` of clips, ``KID`` of images.

    See :func:`~stylegan_v_mm.evaluation.measures.kernel_distance`. The
    standard error is a jackknife over ten groups of generated clips. Other
    kernels and means than the published ones are named:
    ``KVD16-degree2-offset0-biased``.

    Args:
        degree (int): Exponent of the kernel, at least 1. Defaults to 3.
        offset (float): What the kernel adds before, at least 0. Defaults to
            1.
        biased (bool): Whether to take plain means, over all clips. Defaults
            to False.
        **kwargs: See :class:`ComparingMetric`.

    Raises:
        InputError: See :class:`ComparingMetric`; or ``degree`` or ``offset``
            is out of range.
    """

    names = ('KVD', 'KID', 'KD')

    def __init__(
        self,
        *args: Any,
        degree: int = 3,
        offset: float = 1,
        biased: bool = False,
        **kwargs: Any,
    ) -> None:
        check_at_least(1, 'KernelDistance', degree=degree)
        check_at_least(0, 'KernelDistance', offset=offset)
        self.degree, self.offset, self.biased = degree, offset, biased
        super().__init__(*args, **kwargs)

    def _named(self, name: str) -> str:
        name = super()._named(name)
        if self.degree != 3:
            name += f'-degree{self.degree}'
        if self.offset != 1:
            name += f'-offset{self.offset:g}'
        return name + '-biased' * self.biased

    def protocol(self, size: int) -> dict:
        """Name the kernel, too; see :class:`DetectorMetric`."""
        return super().protocol(size) | dict(
            degree=self.degree, offset=self.offset, biased=self.biased
        )

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): The features of all generated clips, alone.
        """
        (fake,) = results
        distance, without = kernel_distance(
            fake.features,
            self.real.features,
            fake.groups,
            degree=self.degree,
            offset=self.offset,
            biased=self.biased,
        )
        found = {self.name: 1000 * distance}
        if len(without) > 1:
            found[f'{self.name}-se'] = 1000 * jackknife_error(without)
        return found


@METRICS.register_module()
class PrecisionRecall(ComparingMetric):
    """How real generated clips are, and how many of the real ones they cover.

    ``Precision16`` and ``Recall16`` with 3 neighbours, ``Density16`` and
    ``Coverage16`` with 5, see
    :mod:`~stylegan_v_mm.evaluation.measures`; without number for images. The
    standard errors are those of means over clips, with the neighbourhoods
    fixed. Time grows with the product of the two numbers of clips. For
    arguments and errors see :class:`ComparingMetric`.
    """

    names = ('Precision', 'Precision', 'Precision')
    min_clips = 6

    @property
    def result_names(self) -> list[str]:
        """Four, and their standard errors."""
        names = ('Precision', 'Recall', 'Density', 'Coverage')
        names = list(map(self._named, names))
        return [*names, *(f'{name}-se' for name in names)]

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compare with the real clips.

        Args:
            results (list): The features of all generated clips, alone.
        """
        sets = results[0].features, self.real.features
        parts = *precision_recall(*sets), *density_coverage(*sets)
        found = {}
        for name, values in zip(
            ('Precision', 'Recall', 'Density', 'Coverage'), parts
        ):
            name = self._named(name)
            found[name] = values.mean().item()
            found[f'{name}-se'] = values.std().item() / len(values) ** 0.5
        return found


@METRICS.register_module()
class InceptionScore(DetectorMetric):
    """Inception score: ``IS`` of images, ``ISv16`` of clips.

    See :func:`~stylegan_v_mm.evaluation.measures.inception_score`. The mean
    over ten parts of the generated clips, with their standard deviation, the
    published one, as ``IS-std``; the standard error is that of a mean of ten.
    The detector gives probabilities. For arguments and errors see
    :class:`DetectorMetric`.
    """

    names = ('ISv', 'IS', 'IS')
    output = 'probabilities'
    min_clips = 10

    @property
    def result_names(self) -> list[str]:
        """Also the standard deviation."""
        return [*super().result_names, f'{self.name}-std']

    def compute_metrics(self, results: list[FeatureRows]) -> dict[str, float]:
        """Compute the score.

        Args:
            results (list): The probabilities of all generated clips, alone.
        """
        scores = inception_score(results[0].features)
        return {
            self.name: scores.mean().item(),
            f'{self.name}-std': scores.std(correction=0).item(),
            f'{self.name}-se': scores.std().item() / len(scores) ** 0.5,
        }
