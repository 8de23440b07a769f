r"""3-D convolutions with half of the multiplications, for float32 on a CPU.

Four outputs of a filter g along an input d are

.. math:: y = A [(G g) \odot (B d)]

with P = 4 + taps - 1 products instead of 4 times taps (Winograd 1980,
"Arithmetic Complexity of Computations"; Lavin & Gray 2016, "Fast Algorithms
for Convolutional Neural Networks", section 4). Here the outputs are frames,
and each product is a 2-D convolution. Because the scheme is only applied along
time, the rounding error is less than twice that of a plain convolution. G g is
computed once and takes twice the memory of the weights.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Output frames that are computed together.
_OUTPUTS = 4


def _transforms(points: Sequence[float], taps: int) -> tuple[Tensor, ...]:
    """Compute A [4, P], B [P, P] and G [P, taps], float64.

    The product of two polynomials follows from the products of their values at
    P - 1 points and at infinity; filtering is the transpose of this scheme.
    """

    def values(degrees: int) -> Tensor:
        powers = torch.tensor(points, dtype=torch.float64)[:, None]
        powers = powers ** torch.arange(degrees)
        infinity = torch.eye(degrees, dtype=torch.float64)[-1:]
        return torch.cat([powers, infinity])

    return (
        values(_OUTPUTS).T,
        values(len(points) + 1).inverse().T,
        values(taps),
    )


# Points with small rounding errors (Barabasz et al. 2020, "Error Analysis and
# Improving the Accuracy of Winograd Convolution"). The second must be 1, see
# conv3d.
_BY_TAPS = {
    3: _transforms((0, 1, -1, 0.5, -2), 3),
    4: _transforms((0, 1, -1, 0.5, -0.5, -2), 4),
}


def transform_filters(weight: Tensor, stride: int) -> Tensor:
    """Compute G g for :func:`conv3d`.

    A stride in time turns frames into channels and divides the number of taps.

    Args:
        weight (Tensor): [O, C, K, K, K], with 3 or 4 taps: K / stride, rounded
            up.
        stride (int): Stride in time.

    Returns:
        Tensor: [P, O, stride * C, K, K], float32.
    """
    weight = weight.double()
    weight = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[2] % stride))
    weight = weight.unflatten(2, (-1, stride))  # O, C, taps, stride, K, K
    weight = weight.permute(2, 0, 3, 1, 4, 5).flatten(2, 3)
    _, _, g = _BY_TAPS[len(weight)]
    return torch.tensordot(g, weight, 1).float()


def conv3d(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: Sequence[tuple[int, int]],
) -> Tensor:
    """Convolve like ``torch.nn.functional.conv3d``.

    Args:
        x (Tensor): [N, C, T, H, W], best in ``channels_last_3d``.
        filters (Tensor): [P, O, stride * C, K, K], from
            :func:`transform_filters`.
        bias (Tensor, optional): [O].
        stride (int): Stride in time, which must be that of the filters, and in
            height and width.
        padding (Sequence): Zeros before and after time, height and width.

    Returns:
        Tensor: [N, O, T', H', W'], in ``channels_last_3d``, as a view of more
        frames if T' is not a multiple of 4.
    """
    kernel, taps = filters.shape[-1], len(filters) - _OUTPUTS + 1
    a, b, _ = (each.float() for each in _BY_TAPS[taps])
    (before, after), (top, bottom), (left, right) = padding
    outputs = (x.shape[2] + before + after - kernel) // stride + 1
    tiles = -(-outputs // _OUTPUTS)
    after = stride * (_OUTPUTS * tiles + taps - 1) - x.shape[2] - before
    pad = 0
    if top == bottom == left == right:
        # With this kind of padding, conv2d skips the zeros.
        pad, top, bottom, left, right = top, 0, 0, 0, 0
    x = F.pad(
        x.movedim(1, -1), (0, 0, left, right, top, bottom, before, after)
    )
    x = x.unflatten(1, (-1, stride)).movedim(2, 4).flatten(4)
    # N, T / stride, H, W, stride * C -> P, N, tiles, H, W, stride * C
    x = x.unfold(1, len(filters), _OUTPUTS).movedim(-1, 0)
    shape = (len(filters), -1, *x.shape[3:])
    x = (b @ x.reshape(len(filters), -1)).view(shape).movedim(-1, 2)
    products = [
        # The product at the point 1 enters all outputs with the factor 1.
        F.conv2d(part, g, bias if i == 1 else None, stride, pad)
        for i, (part, g) in enumerate(zip(x, filters))
    ]
    x = torch.stack([y.movedim(1, -1) for y in products], 1)
    shape = (-1, tiles * _OUTPUTS, *x.shape[2:])
    x = (a @ x.flatten(2)).view(shape)  # N, T', H', W', O
    return x[:, :outputs].movedim(-1, 1)
