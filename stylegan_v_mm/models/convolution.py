"""Convolution with a fast and exact second derivative.

PyTorch differentiates the backward pass of a convolution by another
convolution, whose kernels have the size of the images. That takes several
times as long as what follows here, and with AMX, oneDNN computes it wrongly
in bfloat16 for some numbers of images, such as 12 (seen with PyTorch 2.11).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class _Options(NamedTuple):
    """Those of ``torch.convolution``, the same in both directions."""

    stride: int
    padding: int
    groups: int
    transposed: bool
    output_padding: tuple[int, ...] = (0, 0)


_wants_weights = True


@contextmanager
def image_gradients_only() -> Iterator[None]:
    """Leave out gradients for weights, for which ``autograd.grad`` has no use.

    Functions in Python cannot see for which tensors it was called.
    """
    global _wants_weights
    _wants_weights = False
    try:
        yield
    finally:
        _wants_weights = True


def conv2d(
    x: Tensor,
    weight: Tensor,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    transposed: bool = False,
) -> Tensor:
    """Compute ``F.conv2d`` or, if ``transposed``, ``F.conv_transpose2d``.

    Args:
        x (Tensor): [N, C, H, W].
        weight (Tensor): [O, C / groups, kH, kW], or [C, O / groups, kH, kW]
            if ``transposed``.
        stride (int): In both directions. Defaults to 1.
        padding (int): On all sides, smaller than the kernel. Defaults to 0.
        groups (int): 1, or C for one filter for each channel. Defaults to 1.
        transposed (bool): Defaults to False.

    Returns:
        Tensor: [N, O, ...]; differentiable any number of times.
    """
    options = _Options(stride, padding, groups, transposed)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Convolution.apply(x, weight, options)
    return _convolve(x, weight, options)


def _convolve(x: Tensor, weight: Tensor, options: _Options) -> Tensor:
    stride, padding, groups, transposed, more = options
    if not transposed:
        return F.conv2d(x, weight, None, stride, padding, 1, groups)
    if x.dtype != torch.bfloat16 or x.device.type != 'cpu':
        return F.conv_transpose2d(
            x, weight, None, stride, padding, more, groups
        )
    # oneDNN is slow at these: depthwise ones take a fraction of the time with
    # zeros between the pixels, others half as long as a gradient.
    if groups > 1:
        if stride > 1 or any(more):
            sizes = [(n - 1) * stride + 1 for n in x.shape[2:]]
            rows, columns = (n + m for n, m in zip(sizes, more))
            z = x.new_zeros(len(x), rows, columns, groups).movedim(3, 1)
            z[:, :, : sizes[0] : stride, : sizes[1] : stride] = x
            x = z
        pad = [k - 1 - padding for k in weight.shape[2:]]
        return F.conv2d(x, weight.flip([2, 3]), padding=pad, groups=groups)
    size = [
        (x.shape[i] - 1) * stride - 2 * padding + weight.shape[i] + more[i - 2]
        for i in (2, 3)
    ]
    # The result has the layout of this.
    y = x.new_empty([len(x), *size, weight.shape[1]]).movedim(3, 1)
    options = _Options(stride, padding, groups, transposed=False)
    return _gradients(x, y, weight, options, [True, False])[0]


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, options: _Options, wanted: list
) -> tuple[Tensor, Tensor]:
    """Compute gradients for ``x`` and the weight, whichever are wanted."""
    stride, padding, groups, transposed, more = options
    return torch.ops.aten.convolution_backward(
        *(grad, x, weight, None),
        *([stride] * 2, [padding] * 2, [1, 1], transposed, more, groups),
        [*wanted, False],
    )[:2]


def _adjoint(
    options: _Options, x: Tensor, weight: Tensor, grad: Tensor
) -> _Options:
    """Say which convolution takes a gradient back to the size of ``x``."""
    more = (0, 0)
    if not options.transposed:
        # Rows and columns that the stride has left out.
        inner = [
            (grad.shape[i] - 1) * options.stride + weight.shape[i]
            for i in (2, 3)
        ]
        outer = [size + 2 * options.padding for size in x.shape[2:]]
        more = outer[0] - inner[0], outer[1] - inner[1]
    return options._replace(
        transposed=not options.transposed, output_padding=more
    )


class _Convolution(torch.autograd.Function):
    """Linear in images and in weights, and so are both derivatives."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, options: _Options
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = options
        return _convolve(x, weight, options)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            options = _adjoint(ctx.options, x, weight, grad)
            x_grad = _Convolution.apply(grad, weight, options)
        if ctx.needs_input_grad[1] and _wants_weights:
            weight_grad = _WeightGradient.apply(
                grad, x, weight.shape, ctx.options
            )
        return x_grad, weight_grad, None


class _WeightGradient(torch.autograd.Function):
    """Linear in images and in their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        x: Tensor,
        shape: torch.Size,
        options: _Options,
    ) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.options = options
        weight = x.new_empty(shape)
        return _gradients(grad, x, weight, options, [False, True])[1]

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        grad, x = ctx.saved_tensors
        grad_grad = x_grad = None
        if ctx.needs_input_grad[0]:
            grad_grad = _Convolution.apply(x, weight, ctx.options)
        if ctx.needs_input_grad[1]:
            options = _adjoint(ctx.options, x, weight, grad)
            x_grad = _Convolution.apply(grad, weight, options)
        return grad_grad, x_grad, None, None
