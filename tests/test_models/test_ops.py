"""The two operations against loops, mmcv's own, and finite differences."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from stylegan_v_mm.models import ops
from stylegan_v_mm.models.ops import (
    bias_act,
    compiled_ops,
    fir_filter,
    upfirdn2d,
)


def bias_act_by_hand(x, bias, act, gain, clamp):
    """Compute the formula in numpy float64, channel by channel."""
    y = np.array(x, np.float64)
    for channel in range(y.shape[1]):
        if bias is not None:
            y[:, channel] += float(bias[channel])
    if act == 'lrelu':
        y = np.where(y < 0, 0.2 * y, y)
    y *= gain if gain is not None else {'linear': 1, 'lrelu': 2**0.5}[act]
    return y if clamp is None else np.minimum(np.maximum(y, -clamp), clamp)


def upfirdn2d_by_hand(x, fir, up, down, padding, gain):
    """Stuff, pad or crop, convolve and pick in numpy float64 loops."""
    left, right, top, bottom = padding
    fir = np.asarray(fir, np.float64)
    n, c, h, w = x.shape
    stuffed = np.zeros((n, c, h * up, w * up))
    stuffed[:, :, ::up, ::up] = x
    padded = np.pad(
        stuffed,
        [
            (0, 0),
            (0, 0),
            *(
                (max(a, 0), max(b, 0))
                for a, b in ((top, bottom), (left, right))
            ),
        ],
    )
    height, width = padded.shape[2:]
    padded = padded[
        :,
        :,
        max(-top, 0) : height - max(-bottom, 0),
        max(-left, 0) : width - max(-right, 0),
    ]
    k_h, k_w = fir.shape
    out_h, out_w = padded.shape[2] - k_h + 1, padded.shape[3] - k_w + 1
    y = np.zeros((n, c, out_h, out_w))
    for i, j in np.ndindex(out_h, out_w):
        for a, b in np.ndindex(k_h, k_w):
            # A true convolution: the window runs against the taps.
            pixel = padded[:, :, i + k_h - 1 - a, j + k_w - 1 - b]
            y[:, :, i, j] += fir[a, b] * pixel
    return gain * y[:, :, ::down, ::down]


@pytest.mark.parametrize('shape', [(3, 4), (2, 4, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize('act', ['linear', 'lrelu'])
@pytest.mark.parametrize('gain', [None, 0.7])
@pytest.mark.parametrize('clamp', [None, 0.5])
@pytest.mark.parametrize('with_bias', [True, False])
def test_bias_act_equals_its_formula(shape, act, gain, clamp, with_bias):
    x = torch.randn(shape)
    bias = torch.randn(4) if with_bias else None
    y = bias_act(x, bias, act, gain, clamp)
    expected = bias_act_by_hand(x.numpy(), bias, act, gain, clamp)
    assert y.dtype == torch.float32
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_bias_act_does_not_change_its_input():
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    bias_act(x, None, 'lrelu', clamp=0.1)
    assert torch.equal(x, before)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_bias_act_rounds_half_precision_once(dtype):
    x = (torch.randn(2, 4, 8, 8) * 3).to(dtype)
    bias = torch.randn(4)
    y = bias_act(x, bias, 'lrelu', 0.7, 1.5)
    expected = bias_act_by_hand(x.float().numpy(), bias, 'lrelu', 0.7, 1.5)
    assert y.dtype == dtype
    # The float32 result, rounded to the dtype: nothing in between is lost.
    assert torch.equal(y, torch.from_numpy(expected).float().to(dtype))


@pytest.mark.parametrize(
    ('act', 'gain', 'clamp'),
    [('linear', 1.3, None), ('lrelu', None, None), ('lrelu', None, 0.8)],
)
def test_bias_act_differentiates_twice(act, gain, clamp):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def function(x, bias):
        # Squared, or the second derivative would be zero everywhere.
        return bias_act(x, bias, act, gain, clamp).square()

    assert gradcheck(function, (x, bias))
    assert gradgradcheck(function, (x, bias))


# float32 rounds the second one up, the third one down.
@pytest.mark.parametrize('clamp', [1, 256 * 0.5**0.5, 3 * 0.5**0.5])
def test_bias_act_has_no_gradient_where_the_clamp_bites(clamp):
    x = torch.tensor([[-6.0, -0.5, 0.5, 1.5]]) * clamp
    x.requires_grad_()
    bias_act(x, None, 'lrelu', gain=1, clamp=clamp).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0, 0.2, 1, 0]]))


def test_fir_filter_is_the_binomial_one():
    taps = np.array([1, 3, 3, 1])
    fir = fir_filter(torch.device('cpu'))
    assert fir.dtype == torch.float32
    np.testing.assert_array_equal(fir, np.outer(taps, taps) / 64)


PADDINGS = [
    (0, 0, 0, 0),
    (2, 2, 2, 2),
    (2, 1, 2, 1),
    (3, 0, 1, 2),
    (5, 4, 6, 7),
    (-1, 2, 0, -2),
    (-2, -1, -1, -1),
]


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize(('up', 'down'), itertools.product([1, 2, 3], [1, 2]))
@pytest.mark.parametrize('taps', [(4, 4), (3, 2), (1, 1)])
def test_upfirdn2d_equals_a_loop(padding, up, down, taps):
    x = torch.randn(2, 3, 7, 9)
    fir = torch.randn(taps)
    y = upfirdn2d(x, fir, up, down, padding, gain=1.7)
    expected = upfirdn2d_by_hand(x.numpy(), fir, up, down, padding, 1.7)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_the_filter_is_flipped():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1
    fir = torch.arange(9.0).reshape(3, 3)
    y = upfirdn2d(x, fir, padding=(1, 1, 1, 1))
    # The response to an impulse is the taps themselves, not their mirror.
    assert torch.equal(y[0, 0, 1:4, 1:4], fir)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    'options',
    [
        dict(up=2, padding=(2, 1, 2, 1), gain=4),
        dict(padding=(1, 1, 1, 1), gain=4),
        dict(down=2, padding=(1, 1, 1, 1)),
    ],
)
def test_upfirdn2d_in_half_precision(dtype, options):
    fir = fir_filter(torch.device('cpu'))
    x = torch.randn(2, 3, 8, 8).to(dtype)
    y = upfirdn2d(x, fir, **options)
    expected = upfirdn2d_by_hand(
        x.float().numpy(), fir, **dict(dict(up=1, down=1, gain=1), **options)
    )
    assert y.dtype == dtype
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(y.float(), expected, rtol=eps, atol=4 * eps)


@pytest.mark.parametrize(
    ('up', 'down', 'padding'),
    [(1, 1, (1, 1, 1, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 0, -1, 2))],
)
def test_upfirdn2d_differentiates_twice(up, down, padding):
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    fir = torch.randn(4, 4, dtype=torch.float64)

    def function(x):
        return upfirdn2d(x, fir, up, down, padding, gain=1.5).square()

    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


def test_channels_last_changes_no_number():
    x = torch.randn(2, 8, 6, 6)
    fir = fir_filter(x.device)
    last = x.contiguous(memory_format=torch.channels_last)
    for options in (dict(up=2, padding=(2, 1, 2, 1)), dict(padding=(2,) * 4)):
        torch.testing.assert_close(
            upfirdn2d(last, fir, **options), upfirdn2d(x, fir, **options)
        )


# mmcv's compiled operations


@pytest.fixture(scope='module')
def mmcv_ops():
    return pytest.importorskip(
        'mmcv.ops', reason='mmcv-lite has no ops', exc_type=ImportError
    )


@pytest.mark.parametrize('act', ['linear', 'lrelu'])
@pytest.mark.parametrize('clamp', [None, 0.5])
def test_bias_act_equals_mmcv(mmcv_ops, act, clamp):
    x, bias = torch.randn(2, 4, 5, 6), torch.randn(4)
    theirs = mmcv_ops.bias_act(
        x, bias, dim=1, act=act, alpha=0.2, gain=1.3, clamp=clamp
    )
    ours = bias_act(x, bias, act, 1.3, clamp)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_linear_clamp_has_no_gradient_on_gpus_either(monkeypatch):
    """Mmcv's kernel keeps nothing of the linear activation to mask by.

    Here a stand-in does as it does: the values are clamped, the gradient is
    not.
    """

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, gain, clamp):
            ctx.gain, y = gain, x * gain
            return y if clamp is None else y.clamp(-clamp, clamp)

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.gain, None, None

    def kernel(x, bias, dim, act, alpha, gain, clamp=None):
        return Kernel.apply(x + bias[:, None], gain, clamp)

    x = torch.randn(2, 4, 5, requires_grad=True)
    bias = torch.randn(4, requires_grad=True)
    found = []
    for kernels in (None, SimpleNamespace(bias_act=kernel)):
        monkeypatch.setattr(ops, '_kernels_for', lambda x, k=kernels: k)
        y = bias_act(x, bias, gain=1.3, clamp=0.5)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, bias))))
    assert (found[0][1] == 0).any()
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.filterwarnings('ignore:Since aten')  # of mmcv, at each call
@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize(('up', 'down'), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_upfirdn2d_equals_mmcv(mmcv_ops, padding, up, down):
    x, fir = torch.randn(2, 3, 8, 9), fir_filter(torch.device('cpu'))
    theirs = mmcv_ops.upfirdn2d(
        x, fir, up=up, down=down, padding=list(padding), gain=4
    )
    ours = upfirdn2d(x, fir, up, down, padding, gain=4)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


# The CUDA kernels against the formula in float64


@pytest.fixture
def kernels():
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    if compiled_ops() is None:
        pytest.skip('mmcv without CUDA kernels')


CUDA_TOL = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}


def derivatives(function, x, *others):
    """Give the value, its gradients, and gradients of those gradients."""
    inputs = [v.detach().requires_grad_() for v in (x, *others)]
    y = function(*inputs)
    first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), inputs)
    return [v.detach().double().cpu() for v in (y, *first, *second)]


def assert_derivatives_agree(cuda, formula, tolerance):
    for ours, theirs in zip(cuda, formula):
        scale = float(theirs.abs().max()) + 1e-12
        assert float((ours - theirs).abs().max()) <= tolerance * scale


@pytest.mark.gpu
@pytest.mark.usefixtures('kernels')
@pytest.mark.parametrize('dtype', CUDA_TOL)
@pytest.mark.parametrize('act', ['linear', 'lrelu'])
@pytest.mark.parametrize('clamp', [None, 0.5])
def test_cuda_bias_act_equals_the_formula(dtype, act, clamp):
    # On a grid that keeps off the kink and the clamp, where rounding decides.
    x = (torch.randint(-8, 9, (2, 16, 8, 8)) / 4 + 1 / 8).to(dtype)
    bias = (torch.randint(-4, 5, [16]) / 4).to(dtype)

    def function(x, bias):
        return bias_act(x, bias, act, 1.3, clamp)

    cuda = derivatives(function, x.cuda(), bias.cuda())
    formula = derivatives(function, x.double(), bias.double())
    assert_derivatives_agree(cuda, formula, CUDA_TOL[dtype])


@pytest.mark.gpu
@pytest.mark.usefixtures('kernels')
@pytest.mark.parametrize('dtype', CUDA_TOL)
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize(
    ('up', 'down', 'padding'),
    [(1, 1, (1, 1, 1, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 1, 1))],
)
def test_cuda_upfirdn2d_equals_the_formula(
    dtype, channels_last, up, down, padding
):
    x = torch.randn(2, 16, 8, 8).to(dtype)

    def function(x):
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        fir = fir_filter(x.device)
        return upfirdn2d(x, fir, up, down, padding, gain=4)

    cuda = derivatives(function, x.cuda())
    formula = derivatives(function, x.double())
    assert_derivatives_agree(cuda, formula, CUDA_TOL[dtype])
