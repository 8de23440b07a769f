"""Detectors: shapes and sizes of I3D, files that are wrong, weights."""

import hashlib
import http.server
import threading
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import (
    I3DTorchScript,
    InceptionTorchScript,
    RandomI3D,
)
from stylegan_v_mm.evaluation.detectors import I3D, Conv, same_pad
from stylegan_v_mm.registry import MODELS


class PublishedCall(nn.Module):
    """Called as the published file is; features show what came in."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(
        self,
        x: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        flags = torch.tensor([rescale, resize, return_features])
        first = x[:, :, 0, 0, 0].float()  # The colour of the first pixel.
        last = x[:, :, -1, -1, -1].float()
        rest = torch.zeros(len(x), 400 - 9)
        flags = flags.float().expand(len(x), 3)
        return self.scale * torch.cat([flags, first, last, rest], 1)


class PublishedInception(nn.Module):
    """Called as the published file is; features show what came in."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        use_fp16: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        flags = torch.tensor([return_features, use_fp16, no_output_bias])
        flags = flags.float().expand(len(img), 3)
        pixel = img[:, :, 0, -1].float()
        rest = torch.zeros(len(img), 2048 - 6)
        return self.scale * torch.cat([flags, pixel, rest], 1)


class OtherCall(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'i3d_torchscript.pt'
    torch.jit.script(PublishedCall()).save(str(path))
    return path


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, np.uint8))


# The published file.


def test_the_script_gets_bytes_in_its_order_and_all_flags(script):
    video = noise(2, 9, 3, 8, 6)
    features = I3DTorchScript(script).features(video)
    assert features.shape == (2, 400)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert features[:, :3].eq(1).all()
    assert torch.equal(features[:, 3:6], video[:, 0, :, 0, 0].float())
    assert torch.equal(features[:, 6:9], video[:, -1, :, -1, -1].float())


def test_the_registry_builds_it_and_checks_its_checksum(script):
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    config = dict(
        type='stylegan_v_mm.I3DTorchScript',
        path=str(script),
        sha256=digest.upper(),
    )
    detector = MODELS.build(config)
    assert detector.digest == digest
    assert not detector.is_random


def test_a_wrong_checksum_shows_both(script):
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=f'(?s){digest}.*{"0" * 64}'):
        I3DTorchScript(script, sha256='0' * 64)


def test_a_missing_file_is_named_and_the_guide_with_it(tmp_path):
    with pytest.raises(InputError, match=r'(?s)none\.pt.*docs/metrics\.md'):
        I3DTorchScript(tmp_path / 'none.pt')


def test_a_file_that_is_no_torchscript_is_named(tmp_path, script):
    for content in (b'', b'<html>', script.read_bytes()[:2000]):
        path = tmp_path / 'other.pt'
        path.write_bytes(content)
        with pytest.raises(InputError, match=r'other\.pt is no TorchScript'):
            I3DTorchScript(path)
    torch.save({'weights': torch.ones(3)}, path)
    with pytest.raises(InputError, match=r'other\.pt is no TorchScript'):
        I3DTorchScript(path)


def test_the_script_of_another_model_is_refused(tmp_path):
    path = tmp_path / 'other.pt'
    torch.jit.script(OtherCall()).save(str(path))
    with pytest.raises(InputError, match='another model'):
        I3DTorchScript(path)


def test_inception_gets_the_bytes_of_images(tmp_path, script):
    path = tmp_path / 'inception-2015-12-05.pt'
    torch.jit.script(PublishedInception()).save(str(path))
    detector = MODELS.build(dict(type='InceptionTorchScript', path=str(path)))
    images = noise(4, 1, 3, 8, 6)
    features = detector.features(images)
    assert features.shape == (4, detector.num_features)
    assert features[:, :3].tolist() == [[1, 0, 0]] * 4
    assert torch.equal(features[:, 3:6], images[:, 0, :, 0, -1].float())
    with pytest.raises(InputError, match='one frame, got 2'):
        detector.features(noise(4, 2, 3, 8, 6))
    for cls, other in ((InceptionTorchScript, script), (I3DTorchScript, path)):
        with pytest.raises(InputError, match='another model'):
            cls(other)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_url_is_downloaded_once_and_kept(script, cache_home):
    handler = partial(QuietHandler, directory=str(script.parent))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/{script.name}'
    with pytest.raises(InputError, match=r'cannot download .*no_such\.pt'):
        I3DTorchScript(url.replace(script.name, 'no_such.pt'))
    digest = I3DTorchScript(url).digest
    server.shutdown()
    server.server_close()
    assert digest == hashlib.sha256(script.read_bytes()).hexdigest()
    # The server is gone.
    assert I3DTorchScript(url).digest == digest
    kept = [path.name for path in cache_home.rglob('*') if path.is_file()]
    assert len(kept) == 1
    assert kept[0].endswith(script.name)


# I3D.


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
        network = I3D()
    assert sum(p.numel() for p in network.parameters()) == expected


def test_shapes_of_the_stages_are_those_of_the_paper():
    expected = {
        # Figure 3: the stride of a stage and its receptive field.
        'conv1': (64, 8, 112, 112),
        'pool1': (64, 8, 56, 56),
        'conv2': (64, 8, 56, 56),
        'conv3': (192, 8, 56, 56),
        'pool2': (192, 8, 28, 28),
        'mixed_3b': (256, 8, 28, 28),
        'mixed_3c': (480, 8, 28, 28),
        'pool3': (480, 4, 14, 14),
        'mixed_4b': (512, 4, 14, 14),
        'mixed_4c': (512, 4, 14, 14),
        'mixed_4d': (512, 4, 14, 14),
        'mixed_4e': (528, 4, 14, 14),
        'mixed_4f': (832, 4, 14, 14),
        'pool4': (832, 2, 7, 7),
        'mixed_5b': (832, 2, 7, 7),
        'mixed_5c': (1024, 2, 7, 7),
    }
    with torch.device('meta'):
        network = I3D()
        x = torch.empty(1, 3, 16, 224, 224)
    found = {}
    with torch.no_grad():
        for name, stage in network.stages.named_children():
            x = stage(x)
            found[name] = tuple(x.shape[1:])
    assert found == expected
    x = torch.empty(2, 3, 16, 224, 224, device='meta')
    with torch.no_grad():
        assert network(x).shape == (2, 400)


def test_logits_average_pooled_pairs_of_times_over_space():
    """Against the formula, on the output of the last stage."""
    network = I3D(width=1 / 16).eval()
    x = torch.rand(1, 3, 33, 32, 32, generator=torch.manual_seed(0)) * 2 - 1
    with torch.no_grad():
        logits = network(x)[0]
        y = network.stages(x)[0]  # 64, 5, 1, 1
        weight, bias = (
            network.logits.weight[:, :, 0, 0, 0],
            network.logits.bias,
        )
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
        padded = same_pad(
            torch.from_numpy(x).view(1, 1, *shape), kernels, strides
        )
        found = F.conv3d(
            padded, torch.from_numpy(weight).view(1, 1, *shape), None, strides
        )
        np.testing.assert_allclose(found.flatten(), expected, rtol=1e-12)


def test_a_convolution_is_normalised_by_its_statistics():
    conv = Conv(2, 3, 1).eval()
    bn = conv.bn
    for i, values in enumerate(
        (bn.running_mean, bn.running_var, bn.weight.data, bn.bias.data)
    ):
        values.copy_(torch.tensor([0.5, 1.0, 1.5]) + i)
    x = torch.randn(1, 2, 2, 3, 3, generator=torch.manual_seed(0))
    y = torch.einsum('oi,nithw->nothw', conv.conv.weight[..., 0, 0, 0], x)

    def per_channel(v):
        return v.view(1, 3, 1, 1, 1)

    y = (y - per_channel(bn.running_mean)) / (
        per_channel(bn.running_var) + 1e-3
    ) ** 0.5
    y = (y * per_channel(bn.weight) + per_channel(bn.bias)).clamp(min=0)
    torch.testing.assert_close(conv(x), y)


# Random weights.


@pytest.fixture(scope='module')
def random():
    return RandomI3D()


def test_random_weights_are_the_same_everywhere(random):
    """Values and checksum of 24 bits a weight from numpy's Philox(0)."""
    weight = random.i3d.stages.conv1.conv.weight
    raw = np.random.Philox(0).random_raw(weight.numel()) >> np.uint64(40)
    first = raw[: 3 * 7**3].astype(np.float64)
    first = (first - first.mean()) / first.std()
    first *= (2.93 / first.size) ** 0.5
    np.testing.assert_allclose(weight[0].flatten(), first, rtol=1e-6)
    assert random.digest == (
        'RandomI3D cb809f8d58e6a3958a51fe7daef9aded'
        '89f65869694221f6760e52b767ee34af'
    )
    assert RandomI3D(seed=1).digest != random.digest
    assert random.is_random


def test_random_features_do_not_depend_on_the_batch(random):
    video = noise(3, 9, 3, 40, 40)
    features = random.features(video)
    assert features.shape == (3, 400)
    assert features.dtype == torch.float32
    one_by_one = [random.features(clip[None])[0] for clip in video]
    torch.testing.assert_close(
        features, torch.stack(one_by_one), rtol=1e-4, atol=1e-5
    )


def test_random_features_have_not_collapsed(random):
    """Signals stay of order 1, and clips differ by about as much."""
    seen = {}

    def watch(name):
        def hook(module, inputs, output):
            seen[name] = output.std().item()

        return hook

    hooks = [
        stage.register_forward_hook(watch(name))
        for name, stage in random.i3d.stages.named_children()
    ]
    coarse = noise(12, 3, 3, 4, 4).float()
    video = F.interpolate(coarse, (3, 64, 64)).repeat_interleave(3, 1)
    features = random.features(video.to(torch.uint8))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 16
    assert min(seen.values()) > 0.2
    assert max(seen.values()) < 2
    between = features.std(0).mean()
    assert between > 0.5 * features.std()
    # Many directions, not one.
    spectrum = torch.linalg.svdvals(features - features.mean(0))
    assert spectrum[5] > 0.1 * spectrum[0]


def test_random_features_see_motion(random):
    """The same frames in another order are other features."""
    video = noise(1, 16, 3, 4, 4).repeat_interleave(8, 3)
    video = video.repeat_interleave(8, 4)
    other = video[:, torch.tensor([*range(8, 16), *range(8)])]
    change = (random.features(video) - random.features(other)).norm()
    assert change > 0.1 * random.features(video).norm()


def test_clips_must_be_long_enough_bytes(random, script):
    for detector in (random, I3DTorchScript(script)):
        assert detector.features(noise(1, 9, 3, 16, 16)).shape == (1, 400)
        with pytest.raises(InputError, match='at least 9 frames, got 8'):
            detector.features(noise(1, 8, 3, 16, 16))
        with pytest.raises(InputError, match='uint8'):
            detector.features(torch.zeros(1, 9, 3, 16, 16))
        with pytest.raises(InputError, match=r'\[N, T, 3, H, W\]'):
            detector.features(noise(1, 3, 9, 16, 16))
