"""How much moves in generated videos, against real ones; needs no weights."""

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..errors import InputError
from ..registry import METRICS
from .real_clips import own_share, real_clips


def frame_difference(video: Tensor, lag: int) -> float:
    """Average the absolute difference between frames ``lag`` apart.

    Args:
        video (Tensor): [T, 3, H, W], uint8, T > lag.
        lag (int): Distance of the two, in frames.

    Returns:
        float: In grey levels, 0 to 255.
    """
    video = video.float()
    return float((video[lag:] - video[:-lag]).abs().mean())


@METRICS.register_module()
class FrameDifference(BaseMetric):
    """Mean absolute difference between frames some way apart.

    The Fréchet video distance hardly notices videos that stand still; this
    does. The results are ``FrameDiff8`` and ``FrameDiff8-real`` for a lag of
    8 frames, in grey levels of 0 to 255: means over clips, and over pairs
    of frames within a clip. Each real video counts once, with a stretch as
    long as the clips, at an offset that a fixed seed draws.

    Args:
        lag (int): Distance of the two frames.
        num_frames (int): Frames of each clip that count; above ``lag``.
        num_real (int): The most real clips, spread evenly over the data set.
        resolution (int): Height and width of the clips in pixels.
        real_data (dict): ``data_root`` and, optionally, ``labels`` of a
            ``VideoDataset``.

    Raises:
        InputError: A number is out of range, or the real videos cannot be
            read.
    """

    # Empty, so that mmengine neither puts one before names nor misses it.
    default_prefix = ''

    def __init__(
        self,
        lag: int,
        num_frames: int,
        num_real: int,
        resolution: int,
        real_data: dict,
    ) -> None:
        super().__init__()
        if min(lag, num_real) < 1 or num_frames <= lag:
            raise InputError(
                f'FrameDifference: lag={lag} and num_real={num_real} must be '
                f'at least 1, num_frames={num_frames} above lag'
            )
        self.lag = lag
        self.num_frames = num_frames
        self.num_real = num_real
        self.real_videos = real_clips(real_data, num_frames, resolution)
        # Sum and number over generated and real clips.
        self._fake = torch.zeros(2, dtype=torch.float64)
        self._real: Tensor | None = None

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Take in generated clips.

        Args:
            data_batch (dict): Not used; mmengine's signature.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W].

        Raises:
            InputError: The clips are too short.
        """
        for sample in data_samples:
            video = sample['video'][: self.num_frames]
            if len(video) < self.num_frames:
                raise InputError(
                    f'FrameDifference takes {self.num_frames} frames, but the '
                    f'generated clips have {len(video)}: set '
                    f'test_dataloader.dataset.num_frames={self.num_frames}'
                )
            self._fake[0] += frame_difference(video, self.lag)
            self._fake[1] += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute both means from the clips of all processes.

        Args:
            size (int): How many clips there are.

        Returns:
            dict: The means by their names, on each process.
        """
        if self._real is None:
            self._real = self._real_differences()
        sums = torch.stack([self._fake, self._real])
        self._fake = torch.zeros_like(self._fake)
        return self.compute_metrics([sums])

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Average over the clips of all processes.

        Args:
            results (list): Sum and number of generated and of real clips
                [2, 2], alone.
        """
        sums = results[0].to(get_device(), copy=True)
        all_reduce(sums)
        fake, real = (sums[:, 0] / sums[:, 1]).tolist()
        name = f'FrameDiff{self.lag}'
        return {name: fake, f'{name}-real': real}

    def _real_differences(self) -> Tensor:
        """Measure this process's share of the real clips."""
        differences = [
            frame_difference(clip['video'], self.lag)
            for clip in own_share(self.real_videos, self.num_real)
        ]
        return torch.tensor(
            [sum(differences), len(differences)], dtype=torch.float64
        )
