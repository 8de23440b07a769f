"""Comparing the motion of generated and real videos, without weights.

All second-order statistics of a clip follow from its Gram matrix [T, T], the
products of its frames with each other. So squared differences and the power
spectrum cost one matrix product, which is exact for bytes.
"""

import sys
from typing import NamedTuple

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..registry import METRICS
from .real_clips import describe, own_share, real_clips

#: Fewest frames of a clip; shorter ones have too few lags to compare.
MIN_NUM_FRAMES = 8
#: Change in grey levels, root mean square, below which frames count as equal.
#: Coding changes a still less, and in steps, between which frames are equal.
FROZEN = 0.5
#: Share of a clip's squared change below which it counts as a repetition.
LOOP = 0.1
#: Spectral power of rounding to bytes, the smallest that counts: a variance of
#: 1 / 12 over the frequencies from 0 to 1 / 2.
ROUNDING = 1 / 6


class ClipMotion(NamedTuple):
    """Motion of a clip of T frames; float64.

    For a set of clips, each field has a leading dimension or is a mean.

    Attributes:
        differences: [L], mean absolute differences between frames at each of
            the :func:`lags`, in grey levels, 0 to 255.
        spectrum: [T // 2], power at 1 / T, 2 / T, ... cycles per frame, see
            :func:`power_spectrum`, in decibels: 0 is one squared grey level
            per cycle per frame; the minimum, -7.8, is the rounding to bytes.
        frequency: [], mean of these frequencies, weighted by power; 0 for a
            still.
        frozen: [], 1 if nothing moves, see :func:`is_frozen`, else 0.
        loops: [], 1 if the clip repeats, see :func:`loop_period`, else 0.
    """

    differences: Tensor
    spectrum: Tensor
    frequency: Tensor
    frozen: Tensor
    loops: Tensor


def lags(num_frames: int) -> list[int]:
    """Return the powers of two up to half the number of frames."""
    return [2**i for i in range((num_frames // 2).bit_length())]


def clip_motion(video: Tensor) -> ClipMotion:
    """Measure how a clip moves.

    Args:
        video (Tensor): [T, 3, H, W], uint8, T at least ``MIN_NUM_FRAMES``.

    Returns:
        ClipMotion: On the CPU.
    """
    gram = gram_matrix(video)
    power = power_spectrum(gram)[1:]
    frequencies = torch.arange(1, len(power) + 1).double() / len(video)
    fields: dict[str, object] = dict(
        differences=[frame_difference(video, n) for n in lags(len(video))],
        spectrum=10 * (power + ROUNDING).log10(),
        # 0 / 1 for a still
        frequency=frequencies @ power / (power.sum() or 1),
        frozen=is_frozen(gram),
        loops=loop_period(gram) is not None,
    )
    return ClipMotion(
        **{
            name: torch.as_tensor(field, dtype=torch.float64)
            for name, field in fields.items()
        }
    )


def measure_motion(
    data: str, num_clips: int, num_frames: int, resolution: int
) -> ClipMotion:
    """Measure a clip of each video.

    Args:
        data (str): Folder, zip or video file.
        num_clips (int): How many clips at most, spread over the data set.
        num_frames (int): Frames of a clip.
        resolution (int): Height and width in pixels.

    Returns:
        ClipMotion: The fields of all clips, stacked: [N, ...].

    Raises:
        InputError: The videos cannot be read or are too short.
    """
    clips = own_share(
        real_clips(dict(data_root=data), num_frames, resolution), num_clips
    )
    motions = [
        clip_motion(clips[i]['video'])
        for i in tqdm(range(len(clips)), data, unit='clip', disable=None)
    ]
    return ClipMotion(*map(torch.stack, zip(*motions)))


def mean_motion(clips: ClipMotion) -> ClipMotion:
    """Average over clips [N, ...]."""
    return ClipMotion(*(field.mean(0) for field in clips))


def frame_difference(video: Tensor, lag: int) -> float:
    """Compute the mean absolute difference between frames ``lag`` apart.

    Args:
        video (Tensor): [T, 3, H, W], uint8, T > lag.
        lag (int): Distance in frames.

    Returns:
        float: Difference in grey levels, 0 to 255.
    """
    video = video.float()
    return float((video[lag:] - video[:-lag]).abs().mean())


def gram_matrix(video: Tensor) -> Tensor:
    """Average the products of a clip's frames over pixels and colours.

    The first frame is subtracted from all frames, so that a still has zeros.

    Args:
        video (Tensor): [T, 3, H, W], uint8.

    Returns:
        Tensor: [T, T], float64, on the CPU.
    """
    gram = torch.zeros(len(video), len(video), dtype=torch.float64)
    for channel in video.unbind(1):  # a third of the memory
        x = channel.flatten(1).double()
        x = x - x[0]
        gram += (x @ x.T).cpu()
    return gram / video[0].numel()


def squared_differences(gram: Tensor, lag: int) -> Tensor:
    """Compute mean squared differences of all pairs of frames at a lag.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.
        lag (int): Distance in frames, below T.

    Returns:
        Tensor: [T - lag], in squared grey levels.
    """
    squares = gram.diagonal()
    return squares[: len(gram) - lag] + squares[lag:] - 2 * gram.diagonal(lag)


def power_spectrum(gram: Tensor) -> Tensor:
    """Compute the mean over pixels of the periodogram along time.

    This equals ``scipy.signal.periodogram(video, window='hann', axis=0)``: a
    one-sided density of the clip without its mean over time.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.

    Returns:
        Tensor: [T // 2 + 1], power at 0, 1 / T, 2 / T, ... cycles per frame,
        in squared grey levels per cycle per frame.
    """
    length = len(gram)
    window = torch.hann_window(length, dtype=torch.float64)
    transform = torch.fft.rfft(window.diag(), dim=0)
    transform = transform - transform.mean(1, keepdim=True)
    product = transform @ gram.to(transform.dtype)
    power = (product * transform.conj()).sum(1).real
    power = power.clamp(min=0) / window.square().sum()
    # Add negative frequencies; 0 and, for even T, 1 / 2 have none.
    power[1 : (length + 1) // 2] *= 2
    return power


def is_frozen(gram: Tensor) -> bool:
    """Return whether a clip stands still, except for coding noise.

    At a lag of one frame as well as two, at least two in five pairs of frames
    must differ by less than half a grey level (``FROZEN``), root mean square.
    An encoded still changes in steps every few frames, which half of the pairs
    may span.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.
    """
    return all(
        squared_differences(gram, lag).quantile(0.4) < FROZEN**2
        for lag in (1, 2)
    )


def loop_period(gram: Tensor) -> int | None:
    """Find the number of frames after which a clip repeats.

    At this lag, the mean squared difference is below a tenth (``LOOP``) of
    both the largest at shorter lags and the largest at longer ones. Only lags
    up to three quarters of the clip count, because beyond that few pairs are
    left; so periods up to half of the clip are found. A clip that plays
    forwards and back is not a loop, nor is one that stands still.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.

    Returns:
        int, optional: The shortest such lag in frames; None if there is none.
    """
    if is_frozen(gram):
        return None
    change = torch.stack(
        [
            squared_differences(gram, lag).mean()
            for lag in range(len(gram) * 3 // 4 + 1)
        ]
    )
    for lag in range(2, len(gram) // 2 + 1):
        beside = min(change[:lag].max(), change[lag + 1 :].max())
        # The change may already be small just before the period.
        if change[lag] < LOOP * beside and change[lag] <= change[lag + 1]:
            return lag
    return None


def compare(fake: ClipMotion, real: ClipMotion) -> dict[str, float]:
    """Compare the motion of two sets of clips.

    Args:
        fake (ClipMotion): Means over generated clips.
        real (ClipMotion): Means over real clips of equal length.

    Returns:
        dict: ``FrameDiff1``, ``FrameDiff2``, ``FrameDiff4``, ... in grey
        levels; ``Frozen`` and ``Loops``, shares of clips; ``MeanFreq`` in
        cycles per frame; each followed by that of real clips, with the suffix
        ``-real``; and ``SpectrumDist``, the root mean square difference of the
        spectra in decibels: 10 is ten times the power at each frequency, or a
        tenth.
    """

    def named(motion: ClipMotion, end: str) -> dict[str, float]:
        numbers = {
            f'FrameDiff{2**i}{end}': float(difference)
            for i, difference in enumerate(motion.differences)
        }
        return numbers | {
            f'Frozen{end}': float(motion.frozen),
            f'Loops{end}': float(motion.loops),
            f'MeanFreq{end}': float(motion.frequency),
        }

    pairs = zip(named(fake, '').items(), named(real, '-real').items())
    distance = (fake.spectrum - real.spectrum).square().mean().sqrt()
    return dict(item for pair in pairs for item in pair) | {
        'SpectrumDist': float(distance)
    }


@METRICS.register_module()
class MotionReport(BaseMetric):
    """Amount and kind of motion in generated clips, compared with real ones.

    Unlike the Fréchet video distance, it detects videos that stand still or
    repeat. All results are means over clips, named by :func:`compare`. Each
    real video contributes one clip, at an offset that a fixed seed draws, or
    all its consecutive clips with ``disjoint`` in ``real_data``.

    Args:
        num_frames (int): Frames of each clip that count, T, at least 8.
        num_real (int): Most real clips, spread evenly over the data set.
        resolution (int): Height and width of the clips in pixels.
        real_data (dict): See
            :func:`~stylegan_v_mm.evaluation.real_clips.real_clips`.
        num_fake (int, optional): Most generated clips; the first ones count.
            Defaults to None, all.

    Raises:
        InputError: A number is out of range, or the real videos cannot be
            read.
    """

    # Empty, because names have no prefix; None would make mmengine warn.
    default_prefix = ''

    def __init__(
        self,
        num_frames: int,
        num_real: int,
        resolution: int,
        real_data: dict,
        num_fake: int | None = None,
    ) -> None:
        super().__init__()
        if num_frames < MIN_NUM_FRAMES or num_real < 1:
            raise InputError(
                f'MotionReport: num_frames={num_frames} must be at least '
                f'{MIN_NUM_FRAMES}, num_real={num_real} at least 1'
            )
        #: Frames of a clip.
        self.span = num_frames
        self.resolution = resolution
        self.num_real = num_real
        self.num_fake = sys.maxsize if num_fake is None else num_fake
        self.real_videos = real_clips(real_data, num_frames, resolution)
        self._fake = self._nothing()
        self._real: Tensor | None = None

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Process generated clips.

        Args:
            data_batch (dict): Has ``index`` [N], the numbers of these clips.
                Without it, all clips count.
            data_samples (list): Dicts with ``video``, uint8 [T, 3, H, W].

        Raises:
            InputError: The clips are too short.
        """
        inds = (data_batch or {}).get('index', [0] * len(data_samples))
        for index, sample in zip(inds, data_samples):
            if index >= self.num_fake:
                continue
            self.check_size(sample['video'])
            self._fake += self._row(sample['video'][: self.span])

    @property
    def result_names(self) -> list[str]:
        """Names of the results, see :func:`compare`."""
        num_lags, num_bins = len(lags(self.span)), self.span // 2
        nothing = ClipMotion(
            torch.zeros(num_lags), torch.zeros(num_bins), *torch.zeros(3)
        )
        return list(compare(nothing, nothing))

    def protocol(self, size: int) -> dict:
        """Describe the measurement; comparable results have equal protocols.

        Args:
            size (int): Number of generated clips.
        """
        return dict(
            type=type(self).__name__,
            resolution=self.resolution,
            num_frames=self.span,
            num_fake=min(size, self.num_fake),
            num_real=min(self.num_real, len(self.real_videos)),
            **describe(self.real_videos),
        )

    def check_size(self, video: Tensor) -> None:
        """Check the length of a generated clip [T, 3, H, W].

        Raises:
            InputError: It is too short.
        """
        if len(video) < self.span:
            raise InputError(
                f'MotionReport takes {self.span} frames, but the generated '
                f'clips have {len(video)}: set '
                f'test_dataloader.dataset.num_frames={self.span}'
            )

    def evaluate(self, size: int) -> dict[str, float]:
        """Compare the clips of all processes.

        Args:
            size (int): Number of clips.

        Returns:
            dict: The results by name, on each process.
        """
        if self._real is None:
            self._real = self._nothing()
            share = own_share(self.real_videos, self.num_real)
            for i in range(len(share)):
                self._real += self._row(share[i]['video'])
        sums = torch.stack([self._fake, self._real])
        self._fake = self._nothing()
        return self.compute_metrics([sums])

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Average over the clips of all processes.

        Args:
            results (list): A single tensor [2, S + 1]: sums over generated and
                over real clips, followed by the number of clips.
        """
        sums = results[0].to(get_device(), copy=True)
        all_reduce(sums)
        means = (sums[:, :-1] / sums[:, -1:]).cpu()
        widths = [len(lags(self.span)), self.span // 2, 1, 1, 1]
        return compare(*(ClipMotion(*row.split(widths)) for row in means))

    def _nothing(self) -> Tensor:
        """Return zeros, the sums over no clips."""
        num = len(lags(self.span)) + self.span // 2 + 4
        return torch.zeros(num, dtype=torch.float64)

    @staticmethod
    def _row(video: Tensor) -> Tensor:
        """Return the numbers of a clip, followed by 1."""
        fields = [*clip_motion(video), torch.ones(1, dtype=torch.float64)]
        return torch.cat([field.reshape(-1) for field in fields])
