"""mmagic's image metrics, applied to the frames of clips."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from ..registry import METRICS
from .real_clips import describe, real_clips


def to_bgr(video: Tensor) -> Tensor:
    """Convert a clip to the images that mmagic's metrics expect.

    Args:
        video (Tensor): uint8 [T, 3, H, W], RGB.

    Returns:
        Tensor: float32 [T, 3, H, W], BGR, in [0, 255].
    """
    return video.flip(1).float()


class _RealFrames(Dataset):
    """Frames of real clips, one per item, with a key for mmagic's cache."""

    data_prefix = None
    metainfo = None
    pipeline = None

    def __init__(self, clips: Any, most: int, num_frames: int, about: str):
        count = min(most, len(clips))
        self.clips = clips
        self.inds = np.arange(count) * len(clips) // count
        self.num_frames = num_frames
        # Part of mmagic's cache key, which contains neither files nor sizes.
        self.data_root = f'{clips.fingerprint} {self.inds.tolist()} {about}'
        self._clip = -1, torch.empty(0)

    def __len__(self) -> int:
        return len(self.inds) * self.num_frames

    def __getitem__(self, index: int) -> Tensor:
        number, frame = divmod(index, self.num_frames)
        # Frames are read in order, so that each clip is decoded once.
        if self._clip[0] != number:
            clip = self.clips[int(self.inds[number])]['video']
            self._clip = number, to_bgr(clip)
        return self._clip[1][frame]


class _Preprocessor:
    """Stand-in for the part of a model that prepares real images."""

    def __init__(self, device: str, key: str) -> None:
        self.device = device
        self.key = key

    def __call__(self, frames: list[Tensor], training: bool) -> dict:
        frames = torch.stack(frames).to(self.device)
        return {'data_samples': SimpleNamespace(**{self.key: frames})}


@METRICS.register_module()
class MMagicFrames(BaseMetric):
    """A metric of mmagic, applied to all frames of generated and real clips.

    mmagic's metrics expect images of its own models and loops: BGR, in data
    samples with certain fields, and real ones from a loader with a model's
    preprocessor. They would read the frames of a clip as colours. This class
    passes frames in the expected form. Results are named by the metric and
    mmagic's name: ``FID/fid``, ``IS/is``, ``PR/precision``.

    Real frames are those of the clips of ``FrechetVideoDistance``. mmagic
    keeps their features in its own cache.

    Args:
        metric (dict): Config of the metric, such as
            ``dict(type='mmagic.FrechetInceptionDistance')``. ``fake_nums``
            is set here, because all frames count.
        num_frames (int): Frames in a clip; the first ones of a generated
            video.
        num_real (int): Most real clips.
        resolution (int): Height and width of the clips in pixels.
        real_data (dict): See
            :func:`~stylegan_v_mm.evaluation.real_clips.real_clips`; a data
            set needs a ``fingerprint``.
        batch_size (int): Real frames at a time. Defaults to 16.

    Raises:
        InputError: mmagic is not completely installed, or the real videos
            cannot be read.
    """

    # Empty, because names have no prefix; None would make mmengine warn.
    default_prefix = ''

    def __init__(
        self,
        metric: dict,
        num_frames: int,
        num_real: int,
        resolution: int,
        real_data: dict,
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        clips = real_clips(real_data, num_frames, resolution)
        if not hasattr(clips, 'fingerprint'):
            raise InputError(
                f'MMagicFrames: {real_data["type"]} needs a fingerprint, a '
                "text that changes with its clips, for mmagic's cache"
            )
        try:
            self.metric = METRICS.build(
                {**metric, 'fake_nums': sys.maxsize, 'collect_device': 'cpu'}
            )
        except (ImportError, KeyError) as error:
            raise InputError(
                f'{metric["type"]} is not there: it needs mmagic with all of '
                f'its dependencies, see docs/install.md ({error})'
            ) from error
        if not self.metric.prefix:
            self.metric.prefix = self.metric.name
        self.num_frames = num_frames
        self.resolution = resolution
        self._clips = clips
        self._config = metric
        self._num_real = min(num_real, len(clips))
        about = f'{num_frames} {resolution} {sorted(metric.items())}'
        self._loader = DataLoader(
            _RealFrames(clips, num_real, num_frames, about),
            batch_size=batch_size,
            collate_fn=pseudo_collate,
            # A loader would otherwise draw from torch's global generator and
            # change a training run.
            generator=torch.Generator(),
        )
        self._is_ready = False

    @torch.no_grad()
    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Process generated clips.

        Args:
            data_batch (dict): Not used; mmengine's signature.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W],
                from time 0 on.

        Raises:
            InputError: The clips are too short or of another resolution.
        """
        self._prepare()
        for sample in data_samples:
            self.check_size(sample['video'])
            frames = to_bgr(sample['video'][: self.num_frames])
            frames = frames.to(get_device())
            self.metric.process({}, [{'fake_img': each} for each in frames])

    def check_size(self, video: Tensor) -> None:
        """Check the size of a generated clip [T, 3, H, W].

        Raises:
            InputError: It is too short or of another resolution.
        """
        length, _, *size = video.shape
        if length < self.num_frames or size != [self.resolution] * 2:
            raise InputError(
                f'{self.metric.prefix} takes clips of {self.num_frames} '
                f'frames of {self.resolution} x {self.resolution} pixels, '
                f'but the generated ones have {length} of {size[1]} x '
                f'{size[0]}'
            )

    @torch.no_grad()
    def evaluate(self, size: int) -> dict[str, float]:
        """Compute mmagic's metric from the frames of all processes.

        Args:
            size (int): Not used; mmengine's signature.

        Returns:
            dict: The results by name, on each process.
        """
        results = self.metric.fake_results
        # mmagic gathers equally many from each process, but the shares may
        # differ by one clip.
        count = torch.tensor(len(results))
        all_reduce(count, 'min')
        del results[int(count) :]
        self.metric.fake_nums = int(count) * get_world_size()
        metrics = self.metric.evaluate()
        self.metric.fake_nums = sys.maxsize
        #: Names of the results, known after the first evaluation.
        self.result_names = list(metrics)
        return metrics

    def protocol(self, size: int) -> dict:
        """Describe the measurement; comparable results have equal protocols.

        Args:
            size (int): Number of generated clips.
        """
        return self._config | dict(
            resolution=self.resolution,
            num_frames=self.num_frames,
            num_fake=size,
            num_real=self._num_real,
            **describe(self._clips),
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Required by mmengine but not used: mmagic's metric computes them."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Let mmagic's metric process the real frames, once."""
        if not self._is_ready:
            # It needs the device of a model and its preprocessor.
            model = nn.Linear(1, 1, device=get_device())
            model.data_preprocessor = _Preprocessor(
                get_device(), self.metric.real_key or 'gt_img'
            )
            self.metric.prepare(model, self._loader)
            self._is_ready = True
