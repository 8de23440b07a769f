"""Adaptive augmentation of what the discriminator sees, one draw per clip.

Karras et al., "Training Generative Adversarial Networks with Limited Data"
(2020), appendix B; for clips as in Skorokhodov et al. (CVPR 2022): all frames
of a clip are transformed alike, so that augmentation adds no motion.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..errors import InputError
from ..registry import MODELS
from .noise import own_rows
from .ops import upfirdn2d

# Transform -> how often it is applied, as a multiple of p.
BLIT: dict[str, float] = dict(xflip=1, rotate90=1, xint=1)
GEOM: dict[str, float] = dict(scale=1, rotate=1, aniso=1, xfrac=1)
COLOR: dict[str, float] = dict(
    brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1
)
PIPELINES: dict[str, dict[str, float]] = {
    'blit': BLIT,
    'geom': GEOM,
    'color': COLOR,
    'filter': dict(imgfilter=1),
    'noise': dict(noise=1),
    'cutout': dict(cutout=1),
    'bg': BLIT | GEOM,
    'bgc': BLIT | GEOM | COLOR,
    'bgcf': BLIT | GEOM | COLOR | dict(imgfilter=1),
    'bgcfn': BLIT | GEOM | COLOR | dict(imgfilter=1, noise=1),
    'bgcfnc': BLIT | GEOM | COLOR | dict(imgfilter=1, noise=1, cutout=1),
    'bgc_norgb': BLIT | GEOM | dict(cutout=1),
    'easy': dict(
        xflip=1, xint=1, scale=1, rotate=0.5, xfrac=1, noise=0.1, cutout=1
    ),
}
# Transform -> how strong it is: the largest shift or size as a share of the
# image, the largest rotation as a share of 180 degrees, or else the standard
# deviation (of the binary logarithm for factors).
STRENGTHS = dict(
    xint=0.125,
    scale=0.2,
    rotate=1,
    aniso=0.2,
    xfrac=0.125,
    brightness=0.2,
    contrast=0.5,
    hue=1,
    saturation=1,
    imgfilter=1,
    noise=0.1,
    cutout=0.5,
)
EASY_STRENGTHS = STRENGTHS | dict(rotate=0.1, cutout=0.25)

# Low-pass filters of the wavelets sym6 and sym2 (Daubechies 1992).
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
SYM2 = (
    -0.12940952255092145,
    0.22414386804185735,
    0.836516303737469,
    0.48296291314469025,
)


class _Sample(torch.autograd.Function):
    """Bilinear sampling, differentiable in the images any number of times.

    R1 needs a second derivative, which PyTorch's ``grid_sample`` lacks up to
    2.11. Sampling is linear in the images, so its derivative is its adjoint,
    and the derivative of the adjoint is sampling again.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(
            images, grid, 'bilinear', 'zeros', align_corners=False
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _SampleAdjoint.apply(grad, grid, ctx.shape), None


class _SampleAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, grid: Tensor, shape: torch.Size
    ) -> Tensor:
        ctx.save_for_backward(grid)
        # The gradient of the images depends on their shape alone.
        images = grad.new_empty(1).expand(shape)
        bilinear = zeros = 0
        return torch.ops.aten.grid_sampler_2d_backward(
            grad, images, grid, bilinear, zeros, False, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(grad, grid), None, None


def sample_bilinear(images: Tensor, grid: Tensor) -> Tensor:
    """Sample images at points; they are zero outside.

    Args:
        images (Tensor): [N, C, H, W].
        grid (Tensor): Points (x, y) [N, h, w, 2]; -1 and 1 are the outer
            edges of the image.

    Returns:
        Tensor: [N, C, h, w], twice differentiable in ``images``.
    """
    return _Sample.apply(images, grid)


class Draws:
    """Random numbers for a batch, or one percentile instead of all of them.

    Args:
        like (Tensor): Sets the number of rows [N, ...], device and dtype.
        rows_per_clip (int): How many rows belong to one clip.
        percentile (float, optional): In (0, 1): every number becomes this
            percentile of its distribution and every transform is applied, as
            the published code does for tests.
    """

    def __init__(
        self, like: Tensor, rows_per_clip: int, percentile: float | None
    ):
        self.like = like
        self.rows_per_clip = rows_per_clip
        self.percentile = percentile

    def draw(self, kind: Callable, *shape: int) -> Tensor:
        """Draw [N, *shape] by ``torch.rand`` or ``torch.randn``."""
        rows = self.rows_per_clip
        shape = (len(self.like) // rows, rows, *shape)
        table = own_rows(kind, shape, self.like.device)
        return table.flatten(0, 1).to(self.like)

    def uniform(self, width: int = 1) -> Tensor:
        """Draw from [0, 1), [N, width]."""
        if self.percentile is None:
            return self.draw(torch.rand, width)
        return self.like.new_full((len(self.like), width), self.percentile)

    def normal(self, width: int = 1) -> Tensor:
        """Draw from a standard normal distribution, [N, width].

        A percentile q gives erfinv(2 q - 1): without the factor sqrt(2), as
        published.
        """
        if self.percentile is None:
            return self.draw(torch.randn, width)
        shape = (len(self.like), width)
        return self.like.new_full(shape, 2 * self.percentile - 1).erfinv()

    def gate(self, value: Tensor, neutral: float, prob: Tensor) -> Tensor:
        """Keep each row with probability ``prob``, else return ``neutral``."""
        if self.percentile is not None:
            return value
        return torch.where(self.draw(torch.rand, 1) < prob, value, neutral)


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """Stack numbers and columns [N, 1] into matrices [N, R, C]."""
    n = len(like)
    flat = [
        value if isinstance(value, Tensor) else like.new_full([n, 1], value)
        for row in rows
        for value in row
    ]
    return torch.cat(flat, 1).reshape(n, len(rows), -1)


def _shift(x: float | Tensor, y: float | Tensor, like: Tensor) -> Tensor:
    return _matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], like)


def _scale(x: float | Tensor, y: float | Tensor, like: Tensor) -> Tensor:
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], like)


def _turn(theta: Tensor, like: Tensor) -> Tensor:
    cos, sin = theta.cos(), theta.sin()
    return _matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], like)


@functools.cache
def _lowpass(device: torch.device) -> Tensor:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    taps = taps / taps.sum()
    return taps.outer(taps).float().to(device)


@functools.cache
def _filter_bank(device: torch.device) -> Tensor:
    """Four band-pass filters that add up to the identity, [4, 43]."""

    def convolve(a: Tensor, b: Tensor) -> Tensor:
        kernel = b.flip(0)[None, None]
        return F.conv1d(a[:, None], kernel, padding=len(b) - 1)[:, 0]

    low = torch.tensor(SYM2, dtype=torch.float64)
    high = low * torch.tensor([1, -1, 1, -1])
    low = convolve(low[None], low.flip(0))[0] / 2
    high = convolve(high[None], high.flip(0))[0] / 2
    bank = torch.eye(4, 1, dtype=torch.float64)
    for band in range(1, 4):
        stuffed = bank.new_zeros(4, 2 * bank.shape[1] - 1)
        stuffed[:, ::2] = bank
        bank = convolve(stuffed, low)
        start = (bank.shape[1] - len(high)) // 2
        bank[band, start : start + len(high)] += high
    return bank.float().to(device)


@MODELS.register_module()
class VideoAugment(nn.Module):
    """Transform clips at random before the discriminator sees them.

    The strength ``p`` is adaptive: it rises while the discriminator overfits
    and falls otherwise. ``p <- max(0, p + sign(r - ada_target) * step)``,
    where r is the mean sign of the logits of real clips over all processes
    (Karras et al. 2020, section 3.1).

    Args:
        pipeline (str): The transforms, a key of :data:`PIPELINES`. Defaults
            to 'bgc'.
        p (float): Initial probability of each transform. Defaults to 0.
        ada_target (float, optional): Mean sign that ``p`` steers to; None
            keeps ``p`` fixed. Defaults to 0.6.
        ada_kimg (float): Thousands of clips in which ``p`` can rise by 1.
            Defaults to 100.
        ada_interval (int): Iterations between two changes of ``p``. Defaults
            to 4, the published value; others are for ablations.
        per_frame (bool): Whether each frame has a draw of its own, an
            ablation. Defaults to False.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        pipeline: str = 'bgc',
        p: float = 0,
        ada_target: float | None = 0.6,
        ada_kimg: float = 100,
        ada_interval: int = 4,
        per_frame: bool = False,
    ):
        super().__init__()
        if pipeline not in PIPELINES:
            raise InputError(
                f'augment.pipeline={pipeline!r}: choose one of '
                f'{", ".join(PIPELINES)}'
            )
        if not 0 <= p <= 1 or ada_kimg <= 0 or ada_interval < 1:
            raise InputError(
                f'augment.p={p} must be from 0 to 1, ada_kimg={ada_kimg} '
                f'positive, ada_interval={ada_interval} at least 1'
            )
        if ada_target is not None and not -1 <= ada_target <= 1:
            raise InputError(
                f'augment.ada_target={ada_target} must be from -1 to 1, or '
                'None for a fixed p'
            )
        self.transforms = PIPELINES[pipeline]
        self.strengths = EASY_STRENGTHS if pipeline == 'easy' else STRENGTHS
        self.ada_target = ada_target
        self.ada_kimg = ada_kimg
        self.ada_interval = ada_interval
        self.per_frame = per_frame
        self.register_buffer('p', torch.tensor(float(p)))
        # Sum and number of the signs since the last change of p.
        self.register_buffer('signs', torch.zeros(2))

    def forward(
        self, videos: Tensor, percentile: float | None = None
    ) -> Tensor:
        """Transform clips.

        Args:
            videos (Tensor): [N, T, 3, H, W], about [-1, 1].
            percentile (float, optional): See :class:`Draws`.

        Returns:
            Tensor: Like ``videos``, float32 at least.
        """
        frames_a_draw = 1 if self.per_frame else videos.shape[1]
        images = videos.reshape(-1, frames_a_draw * 3, *videos.shape[3:])
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        rows_per_clip = len(images) // len(videos)
        draws = Draws(images.detach(), rows_per_clip, percentile)
        if self.transforms.keys() & (BLIT | GEOM).keys():
            images = warp(images, self.draw_geometry(draws))
        if self.transforms.keys() & COLOR.keys():
            images = recolor(images, self.draw_color(draws))
        if 'imgfilter' in self.transforms:
            images = filter_bands(images, self.draw_gains(draws))
        if 'noise' in self.transforms:
            sigma = draws.normal().abs() * self.strengths['noise']
            sigma = draws.gate(sigma, 0, self.prob('noise'))
            sigma = sigma[:, :, None, None]
            noise = draws.draw(torch.randn, *images.shape[1:])
            images = images + sigma * noise
        if 'cutout' in self.transforms:
            images = images * self.draw_mask(draws)
        return images.reshape(videos.shape)

    def prob(self, name: str) -> Tensor:
        """Return the probability of a transform."""
        return self.p * self.transforms[name]

    def draw_geometry(self, draws: Draws) -> Tensor:
        """Draw the map from output pixels to input pixels, [N, 3, 3].

        The origin is the centre; neighbouring pixels are 1 apart.
        """
        like = draws.like
        height, width = like.shape[2:]
        map_back = _scale(1, 1, like)
        has, strength = self.transforms, self.strengths
        if 'xflip' in has:
            flip = draws.gate(
                (draws.uniform() * 2).floor(), 0, self.prob('xflip')
            )
            map_back = map_back @ _scale(1 - 2 * flip, 1, like)
        if 'rotate90' in has:
            turns = draws.gate(
                (draws.uniform() * 4).floor(), 0, self.prob('rotate90')
            )
            map_back = map_back @ _turn(turns * (math.pi / 2), like)
        if 'xint' in has:
            shift = (draws.uniform(2) * 2 - 1) * strength['xint']
            x, y = draws.gate(shift, 0, self.prob('xint')).split(1, 1)
            map_back = map_back @ _shift(
                -(x * width).round(), -(y * height).round(), like
            )
        if 'scale' in has:
            factor = (draws.normal() * strength['scale']).exp2()
            factor = draws.gate(factor, 1, self.prob('scale'))
            map_back = map_back @ _scale(1 / factor, 1 / factor, like)
        if 'rotate' in has:
            # Drawn twice, before and after stretching: at least one of them
            # is applied with probability self.prob('rotate').
            prob = 1 - (1 - self.prob('rotate').clamp(0, 1)).sqrt()
            most = math.pi * strength['rotate']
            theta = draws.gate((draws.uniform() * 2 - 1) * most, 0, prob)
            map_back = map_back @ _turn(theta, like)
        if 'aniso' in has:
            factor = (draws.normal() * strength['aniso']).exp2()
            factor = draws.gate(factor, 1, self.prob('aniso'))
            map_back = map_back @ _scale(1 / factor, factor, like)
        if 'rotate' in has:
            theta = draws.gate((draws.uniform() * 2 - 1) * most, 0, prob)
            if draws.percentile is not None:
                theta = theta * 0
            map_back = map_back @ _turn(theta, like)
        if 'xfrac' in has:
            shift = draws.normal(2) * strength['xfrac']
            x, y = draws.gate(shift, 0, self.prob('xfrac')).split(1, 1)
            map_back = map_back @ _shift(-x * width, -y * height, like)
        return map_back

    def draw_color(self, draws: Draws) -> Tensor:
        """Draw the map of colours (r, g, b, 1), [N, 4, 4]."""
        like = draws.like
        has, strength = self.transforms, self.strengths
        eye = torch.eye(4).to(like)
        axis = like.new_tensor([1, 1, 1, 0]) / math.sqrt(3)
        luma = axis.outer(axis)
        one = torch.diag(like.new_tensor([0, 0, 0, 1]))
        chroma = eye - luma - one
        color = eye.expand(len(like), 4, 4)
        if 'brightness' in has:
            b = draws.normal() * strength['brightness']
            b = draws.gate(b, 0, self.prob('brightness'))[:, :, None]
            offset = torch.zeros_like(eye)
            offset[:3, 3] = 1
            color = (eye + offset * b) @ color
        if 'contrast' in has:
            c = (draws.normal() * strength['contrast']).exp2()
            c = draws.gate(c, 1, self.prob('contrast'))[:, :, None]
            color = (one + (eye - one) * c) @ color
        if 'lumaflip' in has:
            flip = draws.gate(
                (draws.uniform() * 2).floor(), 0, self.prob('lumaflip')
            )
            color = (eye - 2 * luma * flip[:, :, None]) @ color
        if 'hue' in has:
            theta = (draws.uniform() * 2 - 1) * math.pi * strength['hue']
            theta = draws.gate(theta, 0, self.prob('hue'))[:, :, None]
            # Rodrigues: turn about the axis (1, 1, 1).
            cross = like.new_zeros(4, 4)
            a = 1 / math.sqrt(3)
            cross[:3, :3] = like.new_tensor(
                [[0, -a, a], [a, 0, -a], [-a, a, 0]]
            )
            turn = chroma * theta.cos() + cross * theta.sin()
            color = (one + luma + turn) @ color
        if 'saturation' in has:
            s = (draws.normal() * strength['saturation']).exp2()
            s = draws.gate(s, 1, self.prob('saturation'))[:, :, None]
            color = (one + luma + chroma * s) @ color
        return color

    def draw_gains(self, draws: Draws) -> Tensor:
        """Draw the gain of each frequency band, [N, 4].

        The gains are normalised so that an image with the spectrum 1/f keeps
        its power.
        """
        power = draws.like.new_tensor([10, 1, 1, 1]) / 13
        gains = draws.like.new_ones(len(draws.like), 4)
        for band in range(4):
            gain = (draws.normal() * self.strengths['imgfilter']).exp2()
            gain = draws.gate(gain, 1, self.prob('imgfilter'))
            bands = torch.ones_like(gains)
            bands[:, band] = gain[:, 0]
            norm = (power * bands.square()).sum(1, keepdim=True).sqrt()
            gains = gains * bands / norm
        return gains

    def draw_mask(self, draws: Draws) -> Tensor:
        """Draw where a rectangle is cut out, [N, 1, H, W]."""
        like = draws.like
        height, width = like.shape[2:]
        size = like.new_full((len(like), 1), self.strengths['cutout'])
        size = draws.gate(size, 0, self.prob('cutout'))[:, :, None]
        center = draws.uniform(2)[:, :, None, None]
        x = (torch.arange(width).to(like) + 0.5) / width
        y = (torch.arange(height).to(like) + 0.5) / height
        beside = (x - center[:, 0]).abs() >= size / 2  # N, 1, W
        above = (y[:, None] - center[:, 1]).abs() >= size / 2  # N, H, 1
        return (beside | above)[:, None].to(like)

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Add the signs of real clips' logits [N], from all processes."""
        if self.ada_target is None:
            return
        count = logits.new_tensor(logits.numel())
        signs = torch.stack([logits.sign().sum(), count])
        all_reduce(signs)
        self.signs += signs

    @torch.no_grad()
    def adapt(self, iteration: int, num_clips: int) -> None:
        """Change ``p`` every ``ada_interval`` iterations.

        Args:
            iteration (int): Index of the iteration that ends, from 0.
            num_clips (int): Clips per iteration, over all processes.
        """
        if self.ada_target is None or (iteration + 1) % self.ada_interval:
            return
        total, count = self.signs
        over = (total / count - self.ada_target).sign()
        step = num_clips * self.ada_interval / (self.ada_kimg * 1000)
        self.p.copy_((self.p + over * step).clamp(min=0))
        self.signs.zero_()


def warp(images: Tensor, map_back: Tensor) -> Tensor:
    """Move pixels: out[x] = images[map_back @ x], mirrored beyond the edges.

    To avoid aliasing, the images are sampled at twice the resolution, between
    two low-pass filters (Karras et al. 2020, appendix B.2).

    Args:
        images (Tensor): [N, C, H, W].
        map_back (Tensor): [N, 3, 3], pixels around the centre.

    Returns:
        Tensor: Like ``images``.
    """
    height, width = images.shape[2:]
    fir = _lowpass(images.device)
    reach = len(fir) // 4  # of the filter, in pixels of the image
    # How far beyond each side the corners land, at most over the batch.
    cx, cy = (width - 1) / 2, (height - 1) / 2
    corners = images.new_tensor(
        [[-cx, cx, cx, -cx], [-cy, -cy, cy, cy], [1, 1, 1, 1]]
    )
    points = (map_back @ corners)[:, :2]
    far = torch.cat([-points, points], 1).amax([0, 2])
    far = far + 2 * reach - images.new_tensor([cx, cy] * 2)
    most = images.new_tensor([width - 1, height - 1] * 2)
    left, top, right, bottom = (
        far.clamp(min=0).minimum(most).ceil().int().tolist()
    )
    images = F.pad(images, (left, right, top, bottom), 'reflect')

    def shift(x: float, y: float) -> Tensor:
        return _shift(x, y, map_back)

    def scale(x: float, y: float) -> Tensor:
        return _scale(x, y, map_back)

    map_back = shift((left - right) / 2, (top - bottom) / 2) @ map_back
    before = len(fir) // 2
    images = upfirdn2d(
        images, fir, up=2, padding=(before, before - 1) * 2, gain=4
    )
    # At twice the size, pixel centres are a quarter pixel off the old ones.
    map_back = scale(2, 2) @ map_back @ scale(0.5, 0.5)
    map_back = shift(-0.5, -0.5) @ map_back @ shift(0.5, 0.5)
    rows, columns = 2 * (height + 2 * reach), 2 * (width + 2 * reach)
    map_back = (
        scale(2 / images.shape[3], 2 / images.shape[2])
        @ map_back
        @ scale(columns / 2, rows / 2)
    )
    grid = F.affine_grid(
        map_back[:, :2], [len(images), 1, rows, columns], align_corners=False
    )
    images = sample_bilinear(images, grid)
    # Crop the margin that only the filter needs.
    crop = before - 1 - 2 * reach
    return upfirdn2d(images, fir.flip([0, 1]), down=2, padding=(crop,) * 4)


def recolor(images: Tensor, color: Tensor) -> Tensor:
    """Apply a colour map to all frames.

    Args:
        images (Tensor): [N, T * 3, H, W].
        color (Tensor): [N, 4, 4], applied to (r, g, b, 1).

    Returns:
        Tensor: Like ``images``.
    """
    pixels = images.reshape(len(images), -1, 3, images[0, 0].numel())
    color = color[:, None]
    pixels = color[..., :3, :3] @ pixels + color[..., :3, 3:]
    return pixels.reshape(images.shape)


def filter_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Change the gain of frequency bands, mirrored beyond the edges.

    Args:
        images (Tensor): [N, C, H, W].
        gains (Tensor): [N, 4], from the lowest band to the highest.

    Returns:
        Tensor: Like ``images``.
    """
    channels, height, width = images.shape[1:]
    taps = gains @ _filter_bank(images.device).to(gains)
    taps = taps.repeat_interleave(channels, 0)
    pad = taps.shape[1] // 2
    x = images.reshape(1, -1, height, width)
    # F.pad reflects only once; small images need several reflections.
    for axis, size in ((3, width), (2, height)):
        index = torch.arange(-pad, size + pad, device=images.device)
        index = (index % (2 * size - 2) - (size - 1)).abs()
        x = x.index_select(axis, size - 1 - index)
    x = F.conv2d(x, taps[:, None, None], groups=len(taps))
    x = F.conv2d(x, taps[:, None, :, None], groups=len(taps))
    return x.reshape(images.shape)
