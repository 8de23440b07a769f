"""The two fused operations of StyleGAN networks, on any device.

CUDA tensors use mmcv's compiled kernels. CPU tensors, bfloat16 tensors (which
the kernels do not support) and installs without compiled kernels use the same
formula in PyTorch. Both implementations are twice differentiable.
"""

import functools
import logging
import math
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

# Default gains keep the variance of a unit-variance input (He et al. 2015).
ACT_GAINS = {'linear': 1.0, 'lrelu': math.sqrt(2)}
LRELU_SLOPE = 0.2


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
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if wide is x and not inplace:
        wide = x.clone(memory_format=torch.preserve_format)
    if torch.is_grad_enabled():
        y = _BiasAct.apply(wide, bias, act, gain, clamp)
    else:
        y = _bias_act_(wide, bias, act=act, gain=gain, clamp=clamp)
    return y.to(x.dtype)


def _bias_act_(
    x: Tensor,
    bias: Tensor | None,
    act: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """Compute :func:`bias_act` in place, overwriting ``x``."""
    if bias is not None:
        x.add_(bias.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2)))
    if act == 'lrelu':
        F.leaky_relu_(x, LRELU_SLOPE)
    if gain != 1:
        x.mul_(gain)
    if clamp is not None:
        x.clamp_(-clamp, clamp)
    return x


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
        y = _bias_act_(x, bias, act=act, gain=gain, clamp=clamp)
        ctx.mark_dirty(x)
        # On a CPU, checking the range is cheaper than a mask of all ones.
        if clamp is not None and y.device.type == 'cpu' and y.numel() > 0:
            # Compare tensors: clamp_ rounds its bounds to their precision.
            values = y.detach()
            if values.amax() < clamp and values.amin() > -clamp:
                clamp = None
        ctx.options = act, gain, clamp
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad = _BiasActGradient.apply(grad, y, *ctx.options)
        bias_grad = None
        if ctx.needs_input_grad[1]:
            bias_grad = grad.sum([i for i in range(grad.ndim) if i != 1])
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
        if act == 'lrelu':
            grad = torch.ops.aten.leaky_relu_backward(
                grad, y, LRELU_SLOPE, True
            )
        if gain != 1:
            grad = grad * gain
        if clamp is not None:
            grad = torch.ops.aten.hardtanh_backward(grad, y, -clamp, clamp)
        return grad

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
        pad = (top, left)
        if left != right or top != bottom or min(padding) < 0:
            x, pad = F.pad(x, padding), (0, 0)
        return F.conv2d(x, weight, stride=down, padding=pad, groups=channels)

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
    if margins[0] == margins[1] == margins[2] == margins[3] <= 0:
        x = F.conv_transpose2d(
            x, weight, stride=up, padding=-margins[0], groups=channels
        )
    else:
        x = F.conv_transpose2d(x, weight, stride=up, groups=channels)
        x = F.pad(x, margins)
    return x[:, :, ::down, ::down] if down > 1 else x
