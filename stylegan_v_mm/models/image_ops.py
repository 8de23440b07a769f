"""What augmentation does to images: move, recolour, filter.

Karras et al., "Training Generative Adversarial Networks with Limited Data"
(2020), appendix B. Everything is differentiable in the images twice, as R1
needs it.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import upfirdn2d

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


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """Stack numbers and columns [N, 1] into matrices [N, R, C]."""
    n = len(like)
    flat = [
        value
        if isinstance(value, Tensor)
        else constant((float(value),), like).expand(n, 1)
        for row in rows
        for value in row
    ]
    return torch.cat(flat, 1).reshape(n, len(rows), -1)


def shift_matrix(x: float | Tensor, y: float | Tensor, like: Tensor) -> Tensor:
    """Return matrices [N, 3, 3] that move points by x and y."""
    return _matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], like)


def scale_matrix(x: float | Tensor, y: float | Tensor, like: Tensor) -> Tensor:
    """Return matrices [N, 3, 3] that stretch by x and y."""
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], like)


def turn_matrix(theta: Tensor, like: Tensor) -> Tensor:
    """Return matrices [N, 3, 3] that turn by angles theta [N, 1]."""
    cos, sin = theta.cos(), theta.sin()
    return _matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], like)


@functools.cache
def _constant(
    values: tuple, device: torch.device, dtype: torch.dtype
) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


def constant(values: tuple, like: Tensor) -> Tensor:
    """Return a small table with the device and dtype of a tensor.

    It is made once for each device: copies to a GPU take time.

    Args:
        values (tuple): Numbers, nested as the table is.
        like (Tensor): See above.
    """
    return _constant(values, like.device, like.dtype)


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


def warp(images: Tensor, map_back: Tensor) -> Tensor:
    """Move pixels: out[x] = images[map_back @ x], mirrored beyond the edges.

    To avoid aliasing, the images are sampled at twice the resolution, between
    two low-pass filters (Karras et al. 2020, appendix B.2).

    On a CPU, the margins are as wide as the farthest point asks for, which
    costs least. On a GPU, whose values would have to be waited for, they are
    half an image wide, and points beyond are mirrored once more.

    Args:
        images (Tensor): [N, C, H, W].
        map_back (Tensor): [N, 3, 3], pixels around the centre.

    Returns:
        Tensor: Like ``images``.
    """
    height, width = images.shape[2:]
    fir = _lowpass(images.device)
    reach = len(fir) // 4  # of the filter, in pixels of the image
    margins = _margins(images, map_back, reach)
    half = width // 2 + reach, height // 2 + reach
    left, top, right, bottom = margins or half * 2
    images = F.pad(images, (left, right, top, bottom), 'reflect')

    def shift(x: float, y: float) -> Tensor:
        return shift_matrix(x, y, map_back)

    def scale(x: float, y: float) -> Tensor:
        return scale_matrix(x, y, map_back)

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
    if margins is None:
        # A mirrored image repeats itself; the margins hold one period.
        period = constant(
            (
                8 * (width - 1) / images.shape[3],
                8 * (height - 1) / images.shape[2],
            ),
            grid,
        )
        grid = (grid + period / 2).remainder(period) - period / 2
    images = sample_bilinear(images, grid)
    # Crop the margin that only the filter needs.
    crop = before - 1 - 2 * reach
    return upfirdn2d(images, fir.flip([0, 1]), down=2, padding=(crop,) * 4)


def _margins(
    images: Tensor, map_back: Tensor, reach: int
) -> tuple[int, int, int, int] | None:
    """Return how far beyond each side the corners land, at most.

    Returns:
        tuple, optional: Left, top, right, bottom, in pixels, with the
        filter's reach; less than the size of the image. None on a GPU.
    """
    if images.device.type != 'cpu':
        return None
    height, width = images.shape[2:]
    cx, cy = (width - 1) / 2, (height - 1) / 2
    corners = constant(
        ((-cx, cx, cx, -cx), (-cy, -cy, cy, cy), (1, 1, 1, 1)), images
    )
    points = (map_back @ corners)[:, :2]
    far = torch.cat([-points, points], 1).amax([0, 2])
    far = far + 2 * reach - constant((cx, cy) * 2, images)
    most = constant((width - 1, height - 1) * 2, images)
    left, top, right, bottom = far.clamp(min=0).minimum(most).ceil().tolist()
    return int(left), int(top), int(right), int(bottom)


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
