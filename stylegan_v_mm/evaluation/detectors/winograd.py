r"""3-D convolutions with half of the products, for float32 on a CPU.

Four outputs of a filter g along an input d are

.. math:: y = A [(G g) \odot (B d)]

with P = 4 + taps - 1 products instead of 4 times taps (Winograd 1980,
"Arithmetic Complexity of Computations"; Lavin & Gray 2016, "Fast Algorithms
for Convolutional Neural Networks", section 4). Here the outputs are frames,
and each product is a 2-D convolution. In time alone the rounding is not twice
that of a plain convolution, and G g, computed once, takes twice the memory of
the weights.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Frames that are computed together.
_OUTPUTS = 4


def _transforms(points: Sequence[float], taps: int) -> tuple[Tensor, ...]:
    """Compute A [4, P], B [P, P] and G [P, taps], float64.

    Polynomials are multiplied by multiplying their values at P - 1 points and
    at infinity; filtering is the transpose of that.
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


# Points that round little (Barabasz et al. 2020, "Error Analysis and Improving
# the Accuracy of Winograd Convolution"). The second is 1, see conv3d.
_BY_TAPS = {
    3: _transforms((0, 1, -1, 0.5, -2), 3),
    4: _transforms((0, 1, -1, 0.5, -0.5, -2), 4),
}


def transform_filters(weight: Tensor, stride: int) -> Tensor:
    """Compute G g for :func:`conv3d`.

    A stride in time turns frames into channels, and divides the taps.

    Args:
        weight (Tensor): [O, C, K, K, K], of 3 or 4 taps: K / stride, rounded
            up.
        stride (int): In time.

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
    """Convolve, as ``torch.nn.functional.conv3d`` does.

    Args:
        x (Tensor): [N, C, T, H, W], best in ``channels_last_3d``.
        filters (Tensor): [P, O, stride * C, K, K], from
            :func:`transform_filters`.
        bias (Tensor, optional): [O].
        stride (int): In time, the filters' one, and in height and width.
        padding (Sequence): Zeros before and after time, height and width.

    Returns:
        Tensor: [N, O, T', H', W'], in ``channels_last_3d`` (but for a rest
        of frames that is cut off).
    """
    kernel, taps = filters.shape[-1], len(filters) - _OUTPUTS + 1
    a, b, _ = (each.float() for each in _BY_TAPS[taps])
    (before, after), (top, bottom), (left, right) = padding
    outputs = (x.shape[2] + before + after - kernel) // stride + 1
    tiles = -(-outputs // _OUTPUTS)
    after = stride * (_OUTPUTS * tiles + taps - 1) - x.shape[2] - before
    pad = 0
    if top == bottom == left == right:
        # Padded so, nothing is computed from zeros.
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
        # 1 is a point whose product all outputs hold once.
        F.conv2d(part, g, bias if i == 1 else None, stride, pad)
        for i, (part, g) in enumerate(zip(x, filters))
    ]
    x = torch.stack([y.movedim(1, -1) for y in products], 1)
    shape = (-1, tiles * _OUTPUTS, *x.shape[2:])
    x = (a @ x.flatten(2)).view(shape)  # N, T', H', W', O
    return x[:, :outputs].movedim(-1, 1)
