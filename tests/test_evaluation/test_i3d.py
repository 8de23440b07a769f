"""I3D: figures of the paper, formulas, the network of another package."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stylegan_v_mm.evaluation import FeatureStats, frechet_distance
from stylegan_v_mm.evaluation.detectors.i3d import (
    InceptionI3D,
    MaxPool,
    Unit,
    same_padding,
)

# The paper's figure, and formulas.


def test_parameters_are_as_many_as_published():
    # k^3 cin cout for each convolution of figure 3; the widths of the
    # Inception modules are GoogLeNet's (Szegedy et al. 2015, table 1), its
    # 5x5 being 3x3x3 here. E.g. conv1 has 7^3 * 3 * 64 = 65,856, conv2
    # 64 * 64 = 4,096, conv3 3^3 * 64 * 192 = 331,776.
    stem = 7**3 * 3 * 64 + 64 * 64 + 3**3 * 64 * 192
    assert stem == 401_728
    table = {  # cin: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
        '3a': (192, 64, 96, 128, 16, 32, 32),
        '3b': (256, 128, 128, 192, 32, 96, 64),
        '4a': (480, 192, 96, 208, 16, 48, 64),
        '4b': (512, 160, 112, 224, 24, 64, 64),
        '4c': (512, 128, 128, 256, 24, 64, 64),
        '4d': (512, 112, 144, 288, 32, 64, 64),
        '4e': (528, 256, 160, 320, 32, 128, 128),
        '5a': (832, 256, 160, 320, 32, 128, 128),
        '5b': (832, 384, 192, 384, 48, 128, 128),
    }
    filters = stem
    channels = 64 + 64 + 192
    for cin, a, b, b_out, c, c_out, d in table.values():
        filters += cin * (a + b + c + d) + 27 * (b * b_out + c * c_out)
        channels += a + b + b_out + c + c_out + d
    # The published network, without and with its 400 logits; two numbers a
    # channel for batch normalisation.
    assert filters + 2 * channels == 12_287_264
    expected = filters + 2 * channels + 1024 * 400 + 400
    assert expected == 12_697_264
    with torch.device('meta'):
        network = InceptionI3D()
    assert sum(p.numel() for p in network.parameters()) == expected


def test_shapes_of_the_stages_are_those_of_the_paper():
    expected = {
        # Figure 3: the stride of a stage and its receptive field.
        'Conv3d_1a_7x7': (64, 8, 112, 112),
        'MaxPool3d_2a_3x3': (64, 8, 56, 56),
        'Conv3d_2b_1x1': (64, 8, 56, 56),
        'Conv3d_2c_3x3': (192, 8, 56, 56),
        'MaxPool3d_3a_3x3': (192, 8, 28, 28),
        'Mixed_3b': (256, 8, 28, 28),
        'Mixed_3c': (480, 8, 28, 28),
        'MaxPool3d_4a_3x3': (480, 4, 14, 14),
        'Mixed_4b': (512, 4, 14, 14),
        'Mixed_4c': (512, 4, 14, 14),
        'Mixed_4d': (512, 4, 14, 14),
        'Mixed_4e': (528, 4, 14, 14),
        'Mixed_4f': (832, 4, 14, 14),
        'MaxPool3d_5a_2x2': (832, 2, 7, 7),
        'Mixed_5b': (832, 2, 7, 7),
        'Mixed_5c': (1024, 2, 7, 7),
        'logits': (400,),
    }
    with torch.device('meta'):
        network = InceptionI3D()
        x = torch.empty(1, 3, 16, 224, 224)
    found = {}
    with torch.no_grad():
        for name, stage in network.named_children():
            x = stage(x)
            found[name] = tuple(x.shape[1:])
    assert found == expected


def test_logits_average_pooled_pairs_of_times_over_space():
    """Against the formula, on the output of the last stage."""
    network = InceptionI3D(width=1 / 16).eval()
    x = torch.rand(1, 3, 33, 32, 32, generator=torch.manual_seed(0)) * 2 - 1
    with torch.no_grad():
        logits = network(x)[0]
        *stages, last = network
        y = nn.Sequential(*stages)(x)[0]  # 64, 5, 1, 1
        weight, bias = last.conv3d.weight[:, :, 0, 0, 0], last.conv3d.bias
    assert y.shape[1] == 5
    steps = y.mean([2, 3])
    pairs = [(steps[:, i] + steps[:, i + 1]) / 2 for i in range(4)]
    expected = sum(weight @ pair + bias for pair in pairs) / 4
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('size', [5, 8, 9, 16])
@pytest.mark.parametrize(
    ('kernel', 'stride'), [(7, 2), (3, 2), (2, 2), (3, 1)]
)
def test_same_padding_equals_a_sum_over_the_window(size, kernel, stride):
    """TensorFlow: output i reads stride * i - (pad // 2) + 0 ... k - 1."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=size), rng.normal(size=kernel)
    num = -(-size // stride)
    pad = max((num - 1) * stride + kernel - size, 0)
    expected = [
        sum(
            weight[j] * x[place]
            for j in range(kernel)
            if 0 <= (place := stride * i - pad // 2 + j) < size
        )
        for i in range(num)
    ]
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        kernels, strides = [1, 1, 1], [1, 1, 1]
        kernels[axis], strides[axis] = kernel, stride
        video = torch.from_numpy(x).view(1, 1, *shape)
        padding = same_padding(video, kernels, strides)
        # torch lists the last dimension first.
        padded = F.pad(video, [n for pair in padding[::-1] for n in pair])
        found = F.conv3d(
            padded, torch.from_numpy(weight).view(1, 1, *shape), None, strides
        )
        np.testing.assert_allclose(found.flatten(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ('kernel', 'stride'),
    [
        ((1, 3, 3), (1, 2, 2)),
        *(((k,) * 3, (s,) * 3) for k, s in ((3, 2), (2, 2), (3, 1))),
    ],
)
def test_pooling_takes_the_largest_in_each_window(kernel, stride):
    """TensorFlow's SAME: what lies outside does not count, not as 0 either."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 6)) - 2
    pool = MaxPool(kernel, stride)
    found = pool(torch.from_numpy(x)[None, None])[0, 0]
    windows = []
    for size, k, s in zip(x.shape, kernel, stride):
        num = -(-size // s)
        pad = max((num - 1) * s + k - size, 0) // 2
        windows.append(
            [slice(max(i * s - pad, 0), i * s - pad + k) for i in range(num)]
        )
    expected = [
        [[x[t, h, w].max() for w in windows[2]] for h in windows[1]]
        for t in windows[0]
    ]
    np.testing.assert_array_equal(found, expected)


def draw_statistics(bn):
    for i, values in enumerate(
        (bn.running_mean, bn.running_var, bn.weight.data, bn.bias.data)
    ):
        values.copy_(torch.linspace(0.5, 1.5, len(values)) + i)


def expected_unit(unit, x):
    """The formulas, in float64: SAME, mean and variance, ReLU."""
    conv, bn = unit.conv3d, unit.bn
    padding = same_padding(x, conv.kernel_size, conv.stride)
    padded = F.pad(x.double(), [n for pair in padding[::-1] for n in pair])
    y = F.conv3d(padded, conv.weight.double(), None, conv.stride)

    def per_channel(v):
        return v.double().view(1, -1, 1, 1, 1)

    y = (y - per_channel(bn.running_mean)) / (
        per_channel(bn.running_var) + 1e-3
    ) ** 0.5
    return (y * per_channel(bn.weight) + per_channel(bn.bias)).clamp(min=0)


@pytest.mark.parametrize('num_frames', [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize(('kernel', 'stride'), [(1, 1), (3, 1), (7, 2)])
def test_a_convolution_is_normalised_by_its_statistics(
    kernel, stride, num_frames
):
    """Before folding and after, which computes in another way."""
    generator = torch.manual_seed(num_frames)
    unit = Unit(4, 6, kernel, stride).eval().requires_grad_(False)
    nn.init.normal_(unit.conv3d.weight, generator=generator)
    draw_statistics(unit.bn)
    x = torch.randn(2, 4, num_frames, 9, 10, generator=generator)
    expected = expected_unit(unit, x)
    assert (expected > 0).double().mean() > 0.2
    before = unit(x)
    unit.fold()
    for found in (before, unit(x)):
        error = (found - expected).abs().max() / expected.abs().max()
        assert error < 3e-6


# Another implementation: the package cd-fvd.


@pytest.fixture(scope='module')
def cd_fvd():
    return pytest.importorskip(
        'cdfvd.fvd', reason='compares with the package cd-fvd'
    )


def test_it_equals_the_network_of_cd_fvd(cd_fvd, random_i3d_weights):
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

    # Odd sizes, which are padded unevenly; 7 x 7 are left for the pooling.
    x = torch.rand(1, 3, 11, 199, 224, generator=torch.manual_seed(0)) * 2 - 1
    theirs = InceptionI3d(400).eval()
    theirs.load_state_dict(random_i3d_weights)
    ours = InceptionI3D(eps=1e-5).eval()
    ours.load_state_dict(random_i3d_weights)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.3
        assert (ours(x) - expected).abs().max() < 1e-4
        ours.fold()
        assert (ours(x) - expected).abs().max() < 1e-4


def test_the_frechet_distance_equals_that_of_cd_fvd(cd_fvd):
    from cdfvd.third_party.i3d.utils import frechet_distance as unbiased

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2, 400, 400)) / 20
    sets, ours, theirs = [], [], []
    for i in range(2):
        features = rng.normal(0.1 * i, 1, (600, 400)) @ mix[i]
        sets.append(torch.from_numpy(features.astype(np.float32)))
        ours.append(FeatureStats(400))
        theirs.append(cd_fvd.FeatureStats(capture_mean_cov=True))
        for batch in sets[i].split(128):
            ours[i].append(batch)
            theirs[i].append_torch(batch, rank=0, num_gpus=1)
    found = frechet_distance(*ours)
    # Needs nothing of the object, which would download a network.
    expected = cd_fvd.cdfvd.compute_fvd_from_stats(None, *theirs)
    assert found == pytest.approx(expected, rel=1e-6)
    # Their other one divides covariances by n - 1.
    means = (ours[0].mean - ours[1].mean).square().sum().item()
    expected = unbiased(*(features.double() for features in sets)).item()
    found = means + (found - means) * 600 / 599
    assert found == pytest.approx(expected, rel=1e-6)
