"""What bounds the speed of a GPU, from counted operations, on paper.

The networks run on PyTorch's ``meta`` device: all operations of training and
of sampling pass, with their shapes and dtypes, and none is computed. Each is
given the longest of three times: its arithmetic at the GPU's peak, its memory
traffic at the GPU's bandwidth, and the launch of a kernel.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from stylegan_v_mm.models import ops

from .measuring import OURS, FlopCount, Options
from .models import build_ours, read_config
from .sampling import render_one
from .training import build_training, random_batch

LAUNCH = 5e-6  # seconds
#: Kinds of operations, for the table.
CONVOLUTION, PRODUCT, FUSED, OTHER = (
    'convolutions',
    'matrix products',
    'bias_act',
    'other kernels',
)


@dataclass(frozen=True)
class Machine:
    """A GPU: peaks in FLOP/s, dense, and its bandwidth in bytes/s."""

    float32: float
    tf32: float
    half: float
    bandwidth: float


#: Of the vendor's data sheets.
MACHINES = {
    'H200': Machine(67e12, 495e12, 989e12, 4.8e12),
    'RTX 4090': Machine(83e12, 83e12, 165e12, 1.0e12),
}
#: By dtype: the same operations, with factors of products rounded or not.
PRECISIONS = {'float32': ('float32', 'TF32'), 'float16': ('float16',)}


@dataclass
class Operation:
    """An operation that launches a kernel."""

    kind: str
    flops: int
    bytes: int
    is_half: bool

    def times(self, machine: Machine, tf32: bool) -> dict[str, float]:
        """Return the seconds of arithmetic, of memory and of the launch."""
        peak = machine.float32
        if self.kind in (CONVOLUTION, PRODUCT) and tf32:
            peak = machine.tf32
        if self.is_half:
            peak = machine.half
        return dict(
            arithmetic=self.flops / peak,
            memory=self.bytes / machine.bandwidth,
            launches=LAUNCH,
        )


class Count(FlopCount):
    """List all operations, instead of the values that they compute."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._is_fused = False

    def note(self, func: Any, flops: int, *values: Any) -> None:
        """List an operation, unless it moves nothing, as a view does."""
        name = func._overloadpacket.__name__
        idle = func.is_view or name.startswith(
            ('empty', 'detach', '_local_scalar')
        )
        if idle or self._is_fused:
            return
        kind = OTHER
        if flops:
            kind = CONVOLUTION if 'conv' in name else PRODUCT
        self._add(kind, flops, values)

    def as_one(self, function: Callable, *args: Any) -> Any:
        """Call a function, and count all that it does as one kernel."""
        self._is_fused = True
        result = function(*args)
        self._is_fused = False
        self._add(FUSED, 0, (args, result))
        return result

    def _add(self, kind: str, flops: int, values: tuple) -> None:
        tensors = [
            x
            for x in tree_leaves(values)
            if isinstance(x, Tensor) and x.device.type == 'meta'
        ]
        if tensors:
            self.operations.append(
                Operation(
                    kind,
                    flops,
                    sum(x.numel() * x.element_size() for x in tensors),
                    any(x.dtype == torch.float16 for x in tensors),
                )
            )


class _Kernels:
    """Stands in for mmcv's compiled ops, which are one kernel each.

    Args:
        count: Who counts.
    """

    def __init__(self, count: Count):
        self._count = count

    def bias_act(
        self,
        x: Tensor,
        bias: Tensor | None,
        clamp: float | None = None,
        **_: Any,
    ) -> Tensor:
        """Stand for the kernel: a result like ``x``, and so its gradient."""
        return _Activation.apply(x, bias, self._count)

    def upfirdn2d(self, x: Tensor, fir: Tensor, **options: Any) -> Tensor:
        """Convolve, as on a CPU."""
        with mock.patch.object(ops, '_kernels_for', return_value=None):
            return ops.upfirdn2d(x, fir, **options)


class _Activation(torch.autograd.Function):
    """Operations of ``bias_act``, of its gradient and of that one's."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, count: Count
    ) -> Tensor:
        y = count.as_one(torch.clone, x)
        ctx.count = count
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        grad = _ActivationGradient.apply(grad, y, ctx.count)
        bias_grad = None
        if ctx.needs_input_grad[1]:
            bias_grad = grad.sum([i for i in range(grad.ndim) if i != 1])
        return grad, bias_grad, None


class _ActivationGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor, count: Count) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(y)
        return count.as_one(torch.add, grad, y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return _ActivationGradient.apply(grad, y, ctx.count), None, None


@contextlib.contextmanager
def counting() -> Iterator[Count]:
    """Count operations, with mmcv's compiled ops."""
    count = Count()
    kernels = _Kernels(count)
    with mock.patch.object(ops, '_kernels_for', return_value=kernels), count:
        yield count


def measure_roofline(options: Options) -> dict[str, dict[str, float]]:
    """Count the operations of training and of sampling, and time them.

    Args:
        options: What to count; ``device`` is not used.

    Returns:
        For training and sampling and each precision and GPU: ``GFLOP``,
        ``GB`` and ``kernels`` of a frame; the share of the time that each
        bound and each kind of operations has; and ``frames/s``, also without
        launches, as in a CUDA graph.
    """
    found = {}
    for dtype, precisions in PRECISIONS.items():
        case = replace(options, device='meta', dtype=dtype)
        works = {'training': _training(case), 'sampling': _sampling(case)}
        for precision, (work, (weighted, frames)) in product(
            precisions, works.items()
        ):
            for name, machine in MACHINES.items():
                found[f'{work}, {precision}, {name}'] = _bounds(
                    weighted, frames, machine, precision == 'TF32'
                )
    return found


# Operations, each with how often it runs.
Weighted = list[tuple[float, Operation]]


def _training(options: Options) -> tuple[Weighted, int]:
    """Count an iteration, in which R1 counts once per interval."""
    training = build_training(options, OURS)
    batch = random_batch(options, training.gan)
    weighted: Weighted = []
    for name, phase in training.phases(batch).items():
        phase()  # the first time, optimizers and tables are set up
        share = 1 / training.gan.d_reg_interval if name == 'R1' else 1
        with counting() as count:
            phase()
        weighted += [(share, each) for each in count.operations]
    return weighted, options.batch * options.num_frames


def _sampling(options: Options) -> tuple[Weighted, int]:
    """Count the rendering of a chunk of a video."""
    gan = build_ours(options, read_config(options))
    with counting() as count:
        render_one(gan, options.chunk, options)
    return [(1, each) for each in count.operations], options.chunk


def _bounds(
    weighted: Weighted, frames: int, machine: Machine, tf32: bool
) -> dict[str, float]:
    """Time operations; see :func:`measure_roofline`."""
    bounds: dict[str, float] = defaultdict(float)
    kinds: dict[str, float] = defaultdict(float)
    without_launches = 0.0
    for share, operation in weighted:
        times = operation.times(machine, tf32)
        bound = max(times, key=times.__getitem__)
        bounds[bound] += share * times[bound]
        kinds[operation.kind] += share * times[bound]
        without_launches += share * max(times['arithmetic'], times['memory'])
    total = sum(bounds.values())
    return {
        'GFLOP': sum(s * each.flops for s, each in weighted) / frames / 1e9,
        'GB': sum(s * each.bytes for s, each in weighted) / frames / 1e9,
        'kernels': sum(s for s, _ in weighted) / frames,
        'frames/s': frames / total,
        'in a graph': frames / without_launches,
        **{name: seconds / total for name, seconds in bounds.items()},
        **{name: seconds / total for name, seconds in kinds.items()},
    }


def roofline_table(found: dict[str, dict[str, float]]) -> list[list[str]]:
    """Lay out what was found, for each frame of training and of sampling."""
    plain = dict(GFLOP='.4g', GB='.3g', kernels='.0f')
    plain |= {'frames/s': '.0f', 'in a graph': '.0f'}
    shares = ('arithmetic', 'memory', 'launches')
    shares += (CONVOLUTION, PRODUCT, FUSED, OTHER)
    lines = [['', *plain, *shares]]
    for name, numbers in found.items():
        cells = [f'{numbers[key]:{form}}' for key, form in plain.items()]
        cells += [f'{numbers.get(key, 0):.0%}' for key in shares]
        lines.append([name, *cells])
    return lines
