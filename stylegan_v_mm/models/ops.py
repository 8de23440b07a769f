"""The two fused operations of StyleGAN networks, on any device.

CUDA tensors use mmcv's compiled kernels. CPU tensors, bfloat16 tensors (which
the kernels do not support) and installs without compiled kernels use the same
formula in PyTorch. Both implementations are twice differentiable.
"""

import functools
import logging
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from .convolution import conv2d

# Default gains keep the variance of a unit-variance input (He et al. 2015).
ACT_GAINS = {'linear': 1.0, 'lrelu': math.sqrt(2)}
LRELU_SLOPE = 0.2
# Elements that one CPU core keeps in its cache: 512 KiB in float32.
_PIECE = 2**17

# PyTorch before 2.7 has no is_exporting.
is_exporting = getattr(
    torch.compiler, 'is_exporting', torch.compiler.is_compiling
)


@functools.cache
def compiled_ops() -> ModuleType | None:
    """Return ``mmcv.ops`` if it has CUDA kernels, else ``None``.

    Warn once if it has none, as the PyTorch formula costs memory and time on
    a GPU.
    """
    try:
        import mmcv.ops

        if mmcv.ops.get_compiling_cuda_version() != 'not available':
            return mmcv.ops
    except ImportError:
        pass
    print_log(
        'mmcv has no compiled CUDA ops here: the GPU runs the slower PyTorch '
        'formula. See docs/install.md for the full install.',
        'current',
        level=logging.WARNING,
    )
    return None


def _kernels_for(x: Tensor) -> ModuleType | None:
    if x.device.type == 'cuda' and x.dtype in (torch.float16, torch.float32):
        return compiled_ops()
    return None


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    act: str = 'linear',
    gain: float | None = None,
    clamp: float | None = None,
    inplace: bool = False,
) -> Tensor:
    """Compute ``clip(gain * act(x + bias), -clamp, clamp)``.

    Half-precision input is computed in float32 and rounded once. The gradient
    is zero where the result is clamped.

    Args:
        x (Tensor): Features [N, C, ...].
        bias (Tensor, optional): [C], added along dimension 1.
        act (str): 'linear' or 'lrelu' (slope 0.2).
        gain (float, optional): Defaults to 1 for 'linear', sqrt(2) for
            'lrelu'.
        clamp (float, optional): Largest magnitude of the result.
        inplace (bool): Whether ``x`` may be overwritten. On a CPU, this saves
            more time than the arithmetic takes. Defaults to False.

    Returns:
        Tensor: Like ``x``.
    """
    gain = ACT_GAINS[act] if gain is None else gain
    kernels = _kernels_for(x)
    if kernels is not None:
        bias = bias if bias is None else bias.to(x.dtype)
        options = dict(dim=1, act=act, alpha=LRELU_SLOPE, gain=gain)
        if clamp is None or act != 'linear':
            return kernels.bias_act(x, bias, clamp=clamp, **options)
        # The kernel keeps no result of the linear activation, so that its
        # gradient would ignore the clamp.
        return kernels.bias_act(x, bias, **options).clamp(-clamp, clamp)
    if not inplace:
        x = x.clone(memory_format=torch.preserve_format)
    if torch.is_grad_enabled():
        return _BiasAct.apply(x, bias, act, gain, clamp)
    for (piece,) in _pieces(x):
        _bias_act_(piece, bias, act, gain, clamp)
    return x


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors [N, C, ...] into views [..., C] that fit a CPU's caches.

    One operation after another on such a piece goes through memory once.
    """
    rows = [x.movedim(1, -1) for x in tensors]
    x = rows[0]
    if (
        x.device.type != 'cpu'
        or is_exporting()
        or not all(x.is_contiguous() for x in rows)
    ):
        yield tuple(rows)
        return
    size = max(1, _PIECE * torch.get_num_threads() // x.shape[-1])
    yield from zip(*[x.flatten(0, -2).split(size) for x in rows])


def _bias_act_(
    x: Tensor,
    bias: Tensor | None,
    act: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """Overwrite ``x`` [..., C]; return the result before it is rounded."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if bias is not None:
        wide.add_(bias.to(wide.dtype))
    if act == 'lrelu':
        F.leaky_relu_(wide, LRELU_SLOPE)
    if gain != 1:
        wide.mul_(gain)
    if clamp is not None:
        wide.clamp_(-clamp, clamp)
    if wide is not x:
        x.copy_(wide)
    return wide


class _BiasAct(torch.autograd.Function):
    """The formula, which saves only its result for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        act: str,
        gain: float,
        clamp: float | None,
    ) -> Tensor:
        # On a CPU, checking the range is cheaper than a mask of all ones.
        clamps = clamp is not None and x.device.type != 'cpu'
        for (piece,) in _pieces(x.detach()):
            y = _bias_act_(piece, bias, act, gain, clamp)
            if clamp is not None and not clamps and y.numel() > 0:
                # Compare tensors: clamp_ rounds its bounds to their precision.
                low, high = y.aminmax()
                clamps = not (low > -clamp and high < clamp)
        ctx.mark_dirty(x)
        ctx.options = act, gain, clamp if clamps else None
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad = _BiasActGradient.apply(grad, y, *ctx.options)
        bias_grad = None
        if ctx.needs_input_grad[1]:
            dims = [i for i in range(grad.ndim) if i != 1]
            bias_grad = grad.sum(
                dims, dtype=torch.promote_types(grad.dtype, torch.float32)
            )
        return grad, bias_grad, None, None, None


class _BiasActGradient(torch.autograd.Function):
    """The gradient times a factor that depends on the result alone."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        y: Tensor,
        act: str,
        gain: float,
        clamp: float | None,
    ) -> Tensor:
        ctx.options = act, gain, clamp
        ctx.save_for_backward(y)
        result = torch.empty_like(y)
        for out, grad_piece, y_piece in _pieces(result, grad, y):
            wide = torch.promote_types(grad.dtype, torch.float32)
            x, y_wide = grad_piece.to(wide), y_piece.to(wide)
            if act == 'lrelu':
                x = torch.ops.aten.leaky_relu_backward(
                    x, y_wide, LRELU_SLOPE, True
                )
            if gain != 1:
                x = x * gain
            if clamp is not None:
                x = torch.ops.aten.hardtanh_backward(x, y_wide, -clamp, clamp)
            out.copy_(x)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad = _BiasActGradient.apply(grad, y, *ctx.options)
        return grad, None, None, None, None


@functools.cache
def fir_filter(device: torch.device) -> Tensor:
    """Return the resampling filter [1, 3, 3, 1] x [1, 3, 3, 1] / 64.

    Returns:
        Tensor: [4, 4] float32 on ``device``, sum 1.
    """
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    return taps.outer(taps) / 64


def upfirdn2d(
    x: Tensor,
    fir: Tensor,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1,
) -> Tensor:
    """Upsample by zero-stuffing, pad, filter, and keep every n-th pixel.

    Args:
        x (Tensor): [N, C, H, W].
        fir (Tensor): Filter taps [kH, kW] float32; the operation is a true
            convolution, so the taps are flipped.
        up (int): Zeros are inserted so that each pixel becomes ``up`` pixels.
        down (int): Every ``down``-th pixel of the result is kept.
        padding (tuple): Zeros to add (left, right, top, bottom) after
            upsampling; negative values crop.
        gain (float): Factor on the result.

    Returns:
        Tensor: [N, C, (H*up + top + bottom - kH) // down + 1, ...].
    """
    kernels = _kernels_for(x)
    if kernels is not None:
        return kernels.upfirdn2d(
            x, fir, up=up, down=down, padding=list(padding), gain=gain
        )
    channels = x.shape[1]
    taps = (fir * gain).to(x.dtype)
    left, right, top, bottom = padding
    if up == 1:
        weight = taps.flip([0, 1]).expand(channels, 1, *taps.shape)
        pad = left
        if len(set(padding)) > 1 or pad < 0:
            x, pad = F.pad(x, padding), 0
        return conv2d(x, weight, stride=down, padding=pad, groups=channels)

    # A depthwise transposed convolution is zero-stuffing and the full
    # convolution in one; what remains of the padding is a crop (or a pad).
    weight = taps.expand(channels, 1, *taps.shape)
    k_h, k_w = taps.shape
    margins = (
        left - (k_w - 1),
        right - (k_w - 1) + (up - 1),
        top - (k_h - 1),
        bottom - (k_h - 1) + (up - 1),
    )
    crop = max(0, -max(margins))
    x = conv2d(x, weight, up, crop, channels, transposed=True)
    if any(margin != -crop for margin in margins):
        x = F.pad(x, [margin + crop for margin in margins])
    return x[:, :, ::down, ::down] if down > 1 else x
