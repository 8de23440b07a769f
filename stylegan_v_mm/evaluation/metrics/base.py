"""The base class of all metrics that use a detector."""

import json
import sys
from weakref import WeakValueDictionary

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor, nn

from ...errors import InputError
from ...registry import MODELS
from ..frechet import (
    FeatureRows,
    GroupedStats,
)

# To limit its memory, a detector processes at most so many frames at a time,
# but at least one clip.
_MAX_FRAMES = 64

# Detectors in use, keyed by config.
_detectors: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()


def _shared_detector(config: dict) -> nn.Module:
    key = json.dumps(config, sort_keys=True, default=str)
    detector = _detectors.get(key)
    if detector is None:
        detector = _detectors[key] = MODELS.build(config)
    return detector.to(get_device())


class DetectorMetric(BaseMetric):
    """Base class of the metrics that use a detector.

    Of each generated video, the first ``clips_per_video`` consecutive clips
    count. The video's data sample passes their features on to the next metric,
    so that they are computed once for the same clips and detector.

    Names of results contain the number of frames in a clip and their stride,
    such as ``FVD16`` and ``FVD16x8``, except for single frames, that is,
    images. With an untrained detector, names end in ``-random``, and have no
    number for up to 16 consecutive frames: ``FVD-random``. With a named
    detector, they end in its name: ``FD-VGG16``. ``FID`` and ``KID`` always
    use Inception. The name of a standard error ends in ``-se``.

    Args:
        num_frames (int): Frames in a clip, T. 1: images.
        resolution (int): Height and width of the clips in pixels.
        detector (dict): Config of a detector. Metrics with equal configs share
            the detector.
        num_fake (int, optional): Most generated clips; the first ones count.
            Defaults to None, all.
        frame_stride (int): Distance between frames. Defaults to 1.
        clips_per_video (int): Clips of each generated video. Defaults to 1.

    Raises:
        InputError: A number is out of range, or the detector is missing, of
            another kind, or needs longer or shorter clips.
    """

    # Empty, because names have no prefix; None would make mmengine warn.
    default_prefix = ''
    #: Names for videos, for images, and for images with a named detector.
    names = ('', '', '')
    #: Name of the detector's method.
    output = 'features'
    #: Fewest clips, both generated and real.
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
        #: Frames from the first to the last one that counts, inclusive.
        self.span = (num_frames * clips_per_video - 1) * frame_stride + 1
        kind = 0 if num_frames > 1 else 2 if self._ending else 1
        self.name = self._named(self.names[kind])
        self._fake = self._new_fake()
        self._num_seen = 0

    @property
    def _ending(self) -> str:
        """Suffix for the detector in the names of results."""
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
        """Process generated clips.

        Args:
            data_batch (dict): Has ``index`` [N], the numbers of these clips.
                Without it, they are numbered in order.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W],
                from time 0 on. Features are added to these dicts.

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
        """Return what to keep of features [N, F] of clips with labels c."""
        return features

    @property
    def result_names(self) -> list[str]:
        """Names of the results, some of which are missing for few clips."""
        return [self.name, f'{self.name}-se']

    def protocol(self, size: int) -> dict:
        """Describe the measurement; comparable results have equal protocols.

        Args:
            size (int): Number of generated videos.

        Returns:
            dict: Strings and numbers. The path of the real videos, ``data``,
            may differ; ``data_digest`` may not.
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
        """Check the size of a generated clip [T, 3, H, W].

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
        """Compute the features that no other metric has computed yet."""
        key = self._feature_key
        samples = [sample for sample in samples if key not in sample]
        if samples:
            clips = torch.cat(
                [
                    cut(
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

        mmengine's method would gather results one by one.

        Args:
            size (int): Number of generated videos.

        Returns:
            dict: The results by name, on each process.
        """
        fake, self._fake, self._num_seen = self._fake, self._new_fake(), 0
        fake.all_reduce()
        expected = min(size * self.clips_per_video, self.num_fake)
        logger = MMLogger.get_current_instance()
        if fake.num > expected:
            logger.warning(
                f'{self.name}: {fake.num} clips of {size} seeds; some count '
                'twice: set test_dataloader.sampler.round_up=False'
            )
        elif fake.num < self.num_fake < sys.maxsize:
            logger.info(
                f'{self.name}: {fake.num} generated clips instead of the '
                f'requested {self.num_fake}'
            )
        return self.compute_metrics([fake])


def cut(video: Tensor, num_frames: int) -> Tensor:
    """Cut [N * T, 3, H, W] into clips [N, T, 3, H, W]."""
    num = len(video) // num_frames
    return video.reshape(num, num_frames, *video.shape[1:])
