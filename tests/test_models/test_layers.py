"""The shared layers against loops over clips, channels and pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d, correlate2d

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.layers import (
    Conv2d,
    FullyConnected,
    MappingNetwork,
    block_dtype,
    block_resolutions,
    half_resolution,
    minibatch_stddev,
    modulated_conv2d,
    normalize_2nd_moment,
    num_channels,
)

FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
CPU = torch.device('cpu')


def lrelu(x):
    return np.where(x < 0, 0.2 * x, x)


def pad(x, margin):
    return np.pad(x, [(0, 0), (margin, margin), (margin, margin)])


def correlate(x, weight):
    """Cross-correlate [I, H, W] with [O, I, k, k], without padding."""
    return np.stack(
        [
            sum(correlate2d(x[i], w[i], 'valid') for i in range(len(x)))
            for w in weight
        ]
    )


def blur(x):
    return np.stack([convolve2d(channel, FIR, 'valid') for channel in x])


def numbers(tensor):
    return tensor.detach().double().numpy()


# Tables


def test_block_resolutions():
    assert block_resolutions(16) == [4, 8, 16]
    assert block_resolutions(1024) == [4, 8, 16, 32, 64, 128, 256, 512, 1024]


@pytest.mark.parametrize('resolution', [0, 8, 100, 2048, -16, 31.5])
def test_odd_resolutions_are_refused(resolution):
    with pytest.raises(InputError, match=f'resolution={resolution}'):
        block_resolutions(resolution)


def test_channels_follow_the_published_table():
    small = [num_channels(r, 16384, 512) for r in (4, 32, 64, 128, 256)]
    assert small == [512, 512, 256, 128, 64]
    large = [num_channels(r, 32768, 512) for r in (64, 128, 256, 512, 1024)]
    assert large == [512, 256, 128, 64, 32]


@pytest.mark.parametrize(
    ('resolution', 'count', 'lowest'),
    [
        (128, 4, 16),
        (256, 4, 32),
        (512, 4, 64),
        (1024, 4, 128),
        (256, 1, 256),
        (16, 4, 8),
        (64, 9, 8),
    ],
)
def test_half_precision_starts_where_published(resolution, count, lowest):
    assert half_resolution(resolution, count) == lowest


def test_no_half_precision_by_default():
    assert half_resolution(256, 0) > 256


def test_block_dtype():
    wide = torch.float32
    cuda = torch.device('cuda')
    assert block_dtype(CPU, None, wide) == wide
    assert block_dtype(CPU, 'float16', wide) == wide
    assert block_dtype(cuda, 'float16', wide) == torch.float16
    assert block_dtype(CPU, 'bfloat16', wide) == torch.bfloat16
    assert block_dtype(cuda, None, wide) == wide
    assert block_dtype(CPU, 'bfloat16', torch.float64) == torch.float64


# Equalised learning rate


def test_normalize_2nd_moment():
    x = torch.randn(3, 7) * torch.tensor([[1.0], [30.0], [0.01]])
    y = numbers(normalize_2nd_moment(x))
    x = numbers(x)
    expected = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    assert np.allclose((y[:2] ** 2).mean(1), 1, atol=1e-5)


@pytest.mark.parametrize('act', ['linear', 'lrelu'])
@pytest.mark.parametrize('lr_multiplier', [1, 0.01])
def test_fully_connected(act, lr_multiplier):
    layer = FullyConnected(5, 3, act=act, lr_multiplier=lr_multiplier)
    torch.nn.init.normal_(layer.bias, std=1 / lr_multiplier)
    x = torch.randn(4, 5)
    weight = numbers(layer.weight) * lr_multiplier / 5**0.5
    y = numbers(x) @ weight.T + numbers(layer.bias) * lr_multiplier
    if act == 'lrelu':
        y = lrelu(y) * 2**0.5
    np.testing.assert_allclose(numbers(layer(x)), y, rtol=1e-5, atol=1e-5)


def test_fully_connected_without_bias():
    layer = FullyConnected(5, 3, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ['weight']
    x = torch.randn(2, 5)
    expected = numbers(x) @ numbers(layer.weight).T / 5**0.5
    np.testing.assert_allclose(numbers(layer(x)), expected, atol=1e-5)


def test_stored_weights_have_unit_variance_over_the_multiplier():
    layer = FullyConnected(200, 300, lr_multiplier=0.01, bias_init=1)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    assert layer.bias.tolist() == [1] * 300
    assert Conv2d(50, 60, 3).weight.std().item() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize('kernel_size', [1, 3])
@pytest.mark.parametrize('down', [1, 2])
@pytest.mark.parametrize('act', ['linear', 'lrelu'])
@pytest.mark.parametrize(('gain', 'clamp'), [(1, None), (0.5**0.5, 0.9)])
def test_conv2d(kernel_size, down, act, gain, clamp):
    layer = Conv2d(
        3, 4, kernel_size, act=act, down=down, conv_clamp=clamp
    ).double()
    torch.nn.init.normal_(layer.bias)
    x = 3 * torch.randn(2, 3, 8, 8, dtype=torch.float64)
    y = layer(x, gain=gain)
    assert y.shape == (2, 4, 8 // down, 8 // down)
    weight = numbers(layer.weight) / (3 * kernel_size**2) ** 0.5
    for ours, image in zip(numbers(y), numbers(x)):
        if down == 2:
            # Filter first; the even positions are kept.
            image = blur(pad(image, 2 if kernel_size == 3 else 1))
            expected = correlate(image, weight)[:, ::2, ::2]
        else:
            expected = correlate(pad(image, kernel_size // 2), weight)
        expected += numbers(layer.bias)[:, None, None]
        if act == 'lrelu':
            expected = lrelu(expected) * 2**0.5
        expected *= gain
        if clamp is not None:
            assert np.abs(expected).max() > clamp * gain  # it does bite
            expected = expected.clip(-clamp * gain, clamp * gain)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


# Modulated convolution


def modulated_by_hand(x, weight, styles, demodulate, up):
    """Convolve one frame [I, H, W] with a weight of its own, in float64."""
    weight = weight * styles[None, :, None, None]
    if demodulate:
        norm = np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        weight = weight / norm
    if up == 1:
        return correlate(pad(x, weight.shape[-1] // 2), weight)
    channels, height, width = x.shape
    stuffed = np.zeros((channels, 2 * height - 1, 2 * width - 1))
    stuffed[:, ::2, ::2] = x
    # The transposed convolution: a full one, true, not a correlation.
    full = np.stack(
        [
            sum(convolve2d(stuffed[i], w[i]) for i in range(channels))
            for w in weight
        ]
    )
    return 4 * blur(pad(full, 1))


@pytest.mark.parametrize('num_styles', [1, 3])
@pytest.mark.parametrize('num_frames', [1, 2])
@pytest.mark.parametrize('demodulate', [True, False])
@pytest.mark.parametrize(('kernel_size', 'up'), [(3, 1), (3, 2), (1, 1)])
def test_modulated_conv2d(num_styles, num_frames, demodulate, kernel_size, up):
    weight = torch.randn(4, 5, kernel_size, kernel_size).double()
    styles = torch.randn(num_styles, 5).double()
    x = torch.randn(num_styles * num_frames, 5, 6, 6).double()
    y = modulated_conv2d(x, weight, styles, demodulate, up)
    assert y.shape == (num_styles * num_frames, 4, 6 * up, 6 * up)
    for i in range(len(x)):
        expected = modulated_by_hand(
            numbers(x[i]),
            numbers(weight),
            numbers(styles[i // num_frames]),
            demodulate,
            up,
        )
        np.testing.assert_allclose(numbers(y[i]), expected, atol=1e-6)


@pytest.mark.parametrize('up', [1, 2])
def test_styles_of_a_clip_equal_styles_of_its_frames(up):
    weight, styles = torch.randn(4, 5, 3, 3), torch.randn(2, 5)
    x = torch.randn(6, 5, 8, 8)
    per_clip = modulated_conv2d(x, weight, styles, up=up)
    per_frame = modulated_conv2d(
        x, weight, styles.repeat_interleave(3, 0), up=up
    )
    torch.testing.assert_close(per_clip, per_frame)
    alone = modulated_conv2d(x[3:], weight, styles[1:], up=up)
    torch.testing.assert_close(alone, per_clip[3:], rtol=1e-4, atol=1e-5)


def test_modulated_conv2d_differentiates_twice():
    def function(x, weight, styles):
        return modulated_conv2d(x, weight, styles, up=2).square()

    for num_styles in (1, 2):
        inputs = [
            torch.randn(shape, dtype=torch.float64, requires_grad=True)
            for shape in ((2, 2, 3, 3), (1, 2, 3, 3), (num_styles, 2))
        ]
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize('num_styles', [1, 2])
@pytest.mark.parametrize('scale', [1, 1e4])
def test_half_precision_neither_overflows_nor_drifts(num_styles, scale):
    # Without the normalisation, weights and styles of 1e4 make products
    # beyond 65504, the largest half number; demodulation undoes both.
    weight = torch.randn(8, 8, 3, 3) * scale
    styles = torch.randn(num_styles, 8) * scale
    x = torch.randn(2, 8, 8, 8)
    y = modulated_conv2d(x.half(), weight, styles)
    expected = modulated_conv2d(x, weight, styles)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=0.01)


# Minibatch standard deviation


@pytest.mark.parametrize(
    ('batch', 'group_size', 'statistics'),
    [(4, 4, 1), (8, 4, 1), (8, 2, 1), (6, 3, 2), (2, 4, 1), (5, None, 1)],
)
def test_minibatch_stddev(batch, group_size, statistics):
    x = torch.randn(batch, 4, 3, 5)
    y = numbers(minibatch_stddev(x, group_size, statistics))
    assert y.shape == (batch, 4 + statistics, 3, 5)
    x = numbers(x)
    np.testing.assert_array_equal(y[:, :4], x)
    group = min(group_size or batch, batch)
    stride = batch // group
    for row in range(batch):
        members = [i for i in range(batch) if i % stride == row % stride]
        assert len(members) == group
        parts = np.split(x[members], statistics, axis=1)
        for s, part in enumerate(parts):
            spread = np.sqrt(part.var(0) + 1e-8).mean()
            np.testing.assert_allclose(y[row, 4 + s], spread, rtol=1e-5)


def test_minibatch_stddev_needs_whole_groups():
    with pytest.raises(InputError, match=r'6 clips .* mbstd_group_size=4'):
        minibatch_stddev(torch.zeros(6, 2, 4, 4), 4)


# Mapping


def mapping_by_hand(network, z, c, lr_multiplier=0.01):
    def second_moment(x):
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-8)

    parts = [] if z is None else [second_moment(numbers(z))]
    if c is not None:
        embed = network.embed
        x = numbers(c) @ numbers(embed.weight).T / c.shape[1] ** 0.5
        parts.append(second_moment(x + numbers(embed.bias)))
    x = np.concatenate(parts, 1)
    for i in range(network.num_layers):
        layer = getattr(network, f'fc{i}')
        weight = numbers(layer.weight) * lr_multiplier / x.shape[1] ** 0.5
        bias = numbers(layer.bias) * lr_multiplier
        x = lrelu(x @ weight.T + bias) * 2**0.5
    return x


@pytest.mark.parametrize(('z_dim', 'c_dim'), [(6, 0), (6, 3), (0, 3)])
@pytest.mark.parametrize('num_layers', [1, 2, 8])
def test_mapping(z_dim, c_dim, num_layers):
    network = MappingNetwork(z_dim, c_dim, 5, num_layers)
    for name, param in network.named_parameters():
        if name.endswith('bias'):
            torch.nn.init.normal_(param, std=1 if 'embed' in name else 100)
    z = torch.randn(4, z_dim) * 3 if z_dim else None
    c = torch.randn(4, c_dim) if c_dim else None
    np.testing.assert_allclose(
        numbers(network(z, c)),
        mapping_by_hand(network, z, c),
        rtol=1e-4,
        atol=1e-5,
    )
    assert not hasattr(network, 'w_avg')


def test_mapping_ignores_the_length_of_z():
    network = MappingNetwork(6, 0, 5, 2)
    z = torch.randn(2, 6)
    torch.testing.assert_close(network(z, None), network(z * 7, None))


def test_w_avg_moves_in_training_only():
    network = MappingNetwork(6, 0, 5, 2, w_avg_beta=0.995)
    assert network.w_avg.tolist() == [0] * 5
    expected = np.zeros(5)
    for _ in range(3):
        w = network(torch.randn(7, 6), None)
        expected = 0.995 * expected + 0.005 * numbers(w).mean(0)
        np.testing.assert_allclose(numbers(network.w_avg), expected, rtol=1e-4)
    before = network.eval().w_avg.clone()
    network(torch.randn(7, 6), None)
    assert torch.equal(network.w_avg, before)
    assert not network.w_avg.requires_grad


@pytest.mark.parametrize('psi', [0, 0.5, 0.7, 1, 1.3])
@pytest.mark.parametrize('cutoff', [None, 0, 2, 6])
@pytest.mark.parametrize('centered', [True, False])
def test_truncation(psi, cutoff, centered):
    network = MappingNetwork(6, 0, 5, 1, w_avg_beta=0.995)
    network.w_avg.normal_()
    ws = torch.randn(3, 6, 5)
    center = torch.randn(3, 5) if centered else None
    truncated = numbers(network.truncate(ws, psi, cutoff, center))
    for row in range(3):
        middle = numbers(network.w_avg if center is None else center[row])
        for layer in range(6):
            expected = numbers(ws[row, layer])
            if cutoff is None or layer < cutoff:
                expected = middle + psi * (expected - middle)
            np.testing.assert_allclose(
                truncated[row, layer], expected, rtol=1e-5, atol=1e-6
            )


def test_convolution_agrees_with_pytorch():
    """The reference of this file is itself checked once."""
    x, weight = torch.randn(3, 6, 6).double(), torch.randn(2, 3, 3, 3).double()
    theirs = F.conv2d(x[None], weight)[0]
    np.testing.assert_allclose(correlate(numbers(x), numbers(weight)), theirs)
    assert math.isclose(FIR.sum(), 1)
