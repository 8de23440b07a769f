"""How generated videos move, against real ones; needs no weights.

A clip's second-order statistics all follow from the products of its frames
with each other, its Gram matrix [T, T]: squared differences and the power
spectrum cost one product of matrices, exact for bytes.
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

#: Shorter clips have too few lags to compare.
MIN_NUM_FRAMES = 8
#: Grey levels, root mean square, in up to two frames: coding adds less to a
#: still, and that in steps, between which frames are equal.
FROZEN = 0.5
#: What is left of a clip's squared change where it repeats itself.
LOOP = 0.1
#: Spectral power of rounding to bytes: a variance of 1 / 12 over the
#: frequencies from 0 to 1 / 2. Less than that is nothing.
ROUNDING = 1 / 6


class ClipMotion(NamedTuple):
    """How a clip of T frames moves; float64.

    Of a set of clips, each field has one dimension more, or is a mean.

    Attributes:
        differences: [L], mean absolute differences between frames that are
            each of :func:`lags` apart, in grey levels, 0 to 255.
        spectrum: [T // 2], power at 1 / T, 2 / T, ... cycles a frame, see
            :func:`power_spectrum`, in decibels: 0 is one squared grey level
            a cycle a frame, and rounding to bytes, -7.8, the least.
        frequency: [], mean of these frequencies, weighted by power; 0 of a
            still.
        frozen: [], 1 if nothing moves, see :func:`is_frozen`, else 0.
        loops: [], 1 if it repeats itself, see :func:`loop_period`, else 0.
    """

    differences: Tensor
    spectrum: Tensor
    frequency: Tensor
    frozen: Tensor
    loops: Tensor


def lags(num_frames: int) -> list[int]:
    """List the powers of two up to half the frames of a clip."""
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
        # Of a still, 0 / 1.
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
    """Average the absolute difference between frames ``lag`` apart.

    Args:
        video (Tensor): [T, 3, H, W], uint8, T > lag.
        lag (int): Distance of the two, in frames.

    Returns:
        float: In grey levels, 0 to 255.
    """
    video = video.float()
    return float((video[lag:] - video[:-lag]).abs().mean())


def gram_matrix(video: Tensor) -> Tensor:
    """Average the products of a clip's frames over pixels and colours.

    Args:
        video (Tensor): [T, 3, H, W], uint8.

    Returns:
        Tensor: [T, T], float64, on the CPU. The first frame is taken from
        all: what stays is nothing, and a still has zeros.
    """
    gram = torch.zeros(len(video), len(video), dtype=torch.float64)
    for channel in video.unbind(1):  # a third of the memory
        x = channel.flatten(1).double()
        x = x - x[0]
        gram += (x @ x.T).cpu()
    return gram / video[0].numel()


def squared_differences(gram: Tensor, lag: int) -> Tensor:
    """Average squared differences over pixels, for all pairs of a lag.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.
        lag (int): Distance of the two, in frames, below T.

    Returns:
        Tensor: [T - lag], in squared grey levels.
    """
    squares = gram.diagonal()
    return squares[: len(gram) - lag] + squares[lag:] - 2 * gram.diagonal(lag)


def power_spectrum(gram: Tensor) -> Tensor:
    """Average the periodograms of all pixels along time.

    What ``scipy.signal.periodogram(video, window='hann', axis=0)`` gives: a
    one-sided density, of the clip less its mean over time.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.

    Returns:
        Tensor: [T // 2 + 1], power at 0, 1 / T, 2 / T, ... cycles a frame,
        in squared grey levels a cycle a frame.
    """
    length = len(gram)
    window = torch.hann_window(length, dtype=torch.float64)
    transform = torch.fft.rfft(window.diag(), dim=0)
    transform = transform - transform.mean(1, keepdim=True)
    product = transform @ gram.to(transform.dtype)
    power = (product * transform.conj()).sum(1).real
    power = power.clamp(min=0) / window.square().sum()
    # Negative frequencies; 0 and, of even T, 1 / 2 have none.
    power[1 : (length + 1) // 2] *= 2
    return power


def is_frozen(gram: Tensor) -> bool:
    """Tell whether a clip stands still but for coding noise.

    One frame apart as well as two, two of five pairs of frames, or more,
    differ by less than half a grey level (``FROZEN``), root mean square. An
    encoded still picture settles in steps every few frames, which half of
    the pairs may span.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.
    """
    return all(
        squared_differences(gram, lag).quantile(0.4) < FROZEN**2
        for lag in (1, 2)
    )


def loop_period(gram: Tensor) -> int | None:
    """Find after how many frames a clip repeats itself.

    There the mean squared difference is below a tenth (``LOOP``) of both the
    largest at shorter lags and the largest at longer ones. Lags count up to
    three quarters of the clip, beyond which few pairs are left; so periods
    up to half of it are found. What plays forwards and back is no loop, and
    neither is what stands still.

    Args:
        gram (Tensor): [T, T], from :func:`gram_matrix`.

    Returns:
        int: The shortest such lag in frames; None if there is none.
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
        # Just before the period, it may be small already.
        if change[lag] < LOOP * beside and change[lag] <= change[lag + 1]:
            return lag
    return None


def compare(fake: ClipMotion, real: ClipMotion) -> dict[str, float]:
    """Name what two sets of clips are.

    Args:
        fake (ClipMotion): Means over generated clips.
        real (ClipMotion): Means over real clips, of as many frames.

    Returns:
        dict: ``FrameDiff1``, ``FrameDiff2``, ``FrameDiff4``, ... in grey
        levels; ``Frozen`` and ``Loops``, shares of clips; ``MeanFreq`` in
        cycles a frame; each with that of real clips after it, named
        ``-real``. ``SpectrumDist``, the root mean square difference of the
        spectra in decibels: 10 is ten times the power at each frequency, or
        a tenth.
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
    """How much and how generated clips move, beside real ones.

    The Fréchet video distance hardly notices videos that stand still or
    repeat themselves; this does. Results are named by :func:`compare`, all
    of them means over clips. Each real video counts once, with a stretch as
    long as the clips, at an offset that a fixed seed draws; or with all that
    follow one another in it, by ``disjoint`` of ``real_data``.

    Args:
        num_frames (int): Frames of each clip that count, T, at least 8.
        num_real (int): The most real clips, spread evenly over the data set.
        resolution (int): Height and width of the clips in pixels.
        real_data (dict): See
            :func:`~stylegan_v_mm.evaluation.real_clips.real_clips`.
        num_fake (int, optional): The most generated clips; the first ones.
            Defaults to None, all.

    Raises:
        InputError: A number is out of range, or the real videos cannot be
            read.
    """

    # Empty, so that mmengine neither puts one before names nor misses it.
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
        """Take in generated clips.

        Args:
            data_batch (dict): With ``index`` [N]: which of all clips these
                are. Without it, all count.
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
        """What results are called, see :func:`compare`."""
        num_lags, num_bins = len(lags(self.span)), self.span // 2
        nothing = ClipMotion(
            torch.zeros(num_lags), torch.zeros(num_bins), *torch.zeros(3)
        )
        return list(compare(nothing, nothing))

    def protocol(self, size: int) -> dict:
        """Say how the results are measured: what compares has equal ones.

        Args:
            size (int): How many generated clips there are.
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
        """Refuse a generated clip [T, 3, H, W] of too few frames.

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
            size (int): How many clips there are.

        Returns:
            dict: The numbers by their names, on each process.
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
            results (list): Sums over generated and over real clips, each
                with their number at its end, [2, S + 1], alone.
        """
        sums = results[0].to(get_device(), copy=True)
        all_reduce(sums)
        means = (sums[:, :-1] / sums[:, -1:]).cpu()
        widths = [len(lags(self.span)), self.span // 2, 1, 1, 1]
        return compare(*(ClipMotion(*row.split(widths)) for row in means))

    def _nothing(self) -> Tensor:
        """Sums over no clips."""
        num = len(lags(self.span)) + self.span // 2 + 4
        return torch.zeros(num, dtype=torch.float64)

    @staticmethod
    def _row(video: Tensor) -> Tensor:
        """The numbers of a clip, and 1."""
        fields = [*clip_motion(video), torch.ones(1, dtype=torch.float64)]
        return torch.cat([field.reshape(-1) for field in fields])
