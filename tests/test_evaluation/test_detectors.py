"""Detectors: how files are called, files that are wrong, random weights."""

import hashlib
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import (
    I3D,
    C3DTorchScript,
    FrechetVideoDistance,
    I3DTorchScript,
    InceptionTorchScript,
    RandomI3D,
    VideoTorchScript,
)
from stylegan_v_mm.evaluation.detectors.i3d import InceptionI3D
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


class PublishedC3D(nn.Module):
    """Called as the published file is; the first outputs are what came in."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        first = x[:, :, 0, 0, 0].float()  # The colour of the first pixel.
        last = x[:, :, 15, -1, -1].float()
        seen = torch.cat([first, last], 1) / 2048
        rest = (1 - seen.sum(1, keepdim=True)) / 95
        return self.scale * torch.cat([seen, rest.repeat(1, 95)], 1)


class OtherCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x[:, :, 0, 0, 0].float()


class PublishedI3D(nn.Module):
    """What is known of the published file, around a network of ours."""

    def __init__(self, network, size):
        super().__init__()
        example = torch.zeros(1, 3, 9, size, size)
        # The network takes its padding from sizes, which scripting cannot do.
        self.network = torch.jit.trace(network, example, check_trace=False)
        self.size = size

    def forward(
        self,
        x: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        n, c, t, h, w = x.shape
        x = x.float()
        if resize:
            x = x.transpose(1, 2).reshape(n * t, c, h, w)
            x = F.interpolate(x, [self.size, self.size], mode='bilinear')
            x = x.reshape(n, t, c, self.size, self.size).transpose(1, 2)
        if rescale:
            x = 2 * x / 255 - 1
        x = self.network(x)
        if not return_features:
            x = x.softmax(1)
        return x


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'i3d_torchscript.pt'
    torch.jit.script(PublishedCall()).save(str(path))
    return path


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, np.uint8))


# The published files.


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
        with pytest.raises(InputError, match=r'other\.pt is not TorchScript'):
            I3DTorchScript(path)
    torch.save({'weights': torch.ones(3)}, path)
    with pytest.raises(InputError, match=r'other\.pt is not TorchScript'):
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
    found = detector.probabilities(images)
    assert found[:, :3].tolist() == [[0, 0, 1]] * 4
    assert torch.equal(found[:, 3:6], images[:, 0, :, 0, -1].float())
    for method in (detector.features, detector.probabilities):
        with pytest.raises(InputError, match='just 1 frames, got 2'):
            method(noise(4, 2, 3, 8, 6))
    for cls, other in (
        (InceptionTorchScript, script),
        (I3DTorchScript, path),
        (C3DTorchScript, script),
        (C3DTorchScript, path),
    ):
        with pytest.raises(InputError, match='another model'):
            cls(other)


def test_c3d_gives_probabilities_of_16_frames(tmp_path):
    path = tmp_path / 'c3d_ucf101.pt'
    torch.jit.script(PublishedC3D()).save(str(path))
    detector = MODELS.build(dict(type='C3DTorchScript', path=str(path)))
    video = noise(3, 16, 3, 8, 6)
    found = detector.probabilities(video)
    assert found.shape == (3, 101)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert torch.equal(found[:, :3] * 2048, video[:, 0, :, 0, 0].float())
    assert torch.equal(found[:, 3:6] * 2048, video[:, 15, :, -1, -1].float())
    for length in (15, 17):
        with pytest.raises(InputError, match=f'just 16 frames, got {length}'):
            detector.probabilities(noise(3, length, 3, 8, 6))
    with torch.no_grad():
        detector.script.scale.fill_(2)
    with pytest.raises(InputError, match=r'\[3, 101\] numbers.* sum 6\b'):
        detector.probabilities(video)
    torch.jit.script(OtherCall()).save(str(path))
    with pytest.raises(InputError, match=r'\[3, 3\] numbers for 3 clips'):
        C3DTorchScript(path).probabilities(video)


# Files of one's own.


class Everything(nn.Module):
    """Features are what came in."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.flatten(1)


class TakesFour(Everything):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] == 4, 'four frames'
        return self.scale * x[:, :2, 0, 0, 0]


class GivesTwo(Everything):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.scale


class TakesOne(Everything):
    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.reshape(1, -1)[:, :2]


@pytest.fixture
def own(tmp_path):
    """Save a network, and read it with two features of four frames."""

    def make(network, **changes):
        path = tmp_path / f'{type(network).__name__}.pt'
        torch.jit.script(network).save(str(path))
        settings = dict(
            path=str(path),
            name='Own',
            num_features=2,
            num_frames=4,
            resolution=12,
        )
        return VideoTorchScript(**(settings | changes))

    return make


def test_a_file_of_ones_own_gets_normalised_clips(own):
    """Centres of pixels, ImageNet's colours, in float64."""
    detector = own(Everything(), num_features=3 * 4 * 12 * 12)
    video = noise(2, 4, 3, 20, 9)

    def matrix(size):
        place = ((np.arange(12) + 0.5) * size / 12 - 0.5).clip(0, size - 1)
        return np.maximum(0, 1 - abs(place[:, None] - np.arange(size)))

    expected = np.einsum(
        'yh,xw,ntchw->nctyx', matrix(20), matrix(9), video.numpy() / 255
    )
    for c, (mean, std) in enumerate(
        [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]
    ):
        expected[:, c] = (expected[:, c] - mean) / std
    found = detector.features(video)
    assert found.shape == (2, detector.num_features)
    np.testing.assert_allclose(
        found.view(2, 3, 4, 12, 12), expected, rtol=0, atol=1e-5
    )
    assert not detector.is_random


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_a_videomae_sees_what_it_sees_in_cd_fvd(tmp_path, monkeypatch):
    """Its network, small, its own preprocessing, and the guide's export."""
    network = pytest.importorskip(
        'cdfvd.third_party.VideoMAEv2.videomaev2_finetune',
        reason='compares with the package cd-fvd',
    )
    utils = pytest.importorskip('cdfvd.third_party.VideoMAEv2.utils')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mae = network.VisionTransformer(
            patch_size=56,
            embed_dim=24,
            depth=2,
            num_heads=2,
            num_classes=5,
            use_mean_pooling=True,
        ).eval()
    video = noise(3, 16, 3, 40, 40)
    # [N, T, H, W, C]
    clips = utils.preprocess_videomae(video.permute(0, 1, 3, 4, 2).numpy())
    with torch.no_grad():
        expected = mae.forward_features(clips)
    guide = (Path(__file__).parents[2] / 'docs/metrics.md').read_text()
    (export,) = re.findall(r'```python\n([^`]*cdfvd[^`]*)```', guide)
    monkeypatch.setattr(utils, 'load_videomae_model', lambda device: mae)
    monkeypatch.chdir(tmp_path)
    Path('checkpoints').mkdir()
    exec(export, {'__name__': 'guide'})
    detector = VideoTorchScript(
        'checkpoints/videomae.pt',
        'VideoMAE',
        24,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    # Nothing in it is tied to a device.
    assert 'Device = prim::Constant' not in str(detector.script.inlined_graph)
    assert expected.std(0).max() > 0.01
    assert (detector.features(video) - expected).abs().max() < 1e-4


def test_ones_own_detector_is_in_the_name_and_in_the_cache(own, tmp_path):
    for i in range(2):
        (tmp_path / 'real' / str(i)).mkdir(parents=True)
        for j, frame in enumerate(noise(4, 12, 12, 3, seed=i).numpy()):
            path = tmp_path / 'real' / str(i) / f'{j}.png'
            Image.fromarray(frame).save(path)
    digest = own(TakesFour()).digest
    assert own(TakesFour(), name='Other').digest == digest
    others = [
        own(TakesFour(), **change).digest
        for change in (
            dict(resolution=13),
            dict(mean=(0, 0, 0)),
            dict(std=(1, 1, 1)),
        )
    ]
    assert len({digest, *others}) == 4

    def fvd(num_frames):
        return FrechetVideoDistance(
            num_frames=num_frames,
            num_real=None,
            resolution=12,
            real_data=dict(data_root=str(tmp_path / 'real')),
            detector=dict(
                type='VideoTorchScript',
                path=str(tmp_path / 'TakesFour.pt'),
                name='Own',
                num_features=2,
                num_frames=4,
            ),
        )

    metric = fvd(4)
    samples = [dict(video=noise(4, 3, 12, 12, seed=i)) for i in range(3)]
    metric.process({}, samples)
    assert list(metric.evaluate(3)) == ['FVD4-Own', 'FVD4-Own-se']
    with pytest.raises(InputError, match=r'num_frames=5.*at most 4'):
        fvd(5)
    with pytest.raises(InputError, match=r'num_frames=3.*at least 4'):
        fvd(3)
    with pytest.raises(InputError, match='just 4 frames, got 5'):
        metric.detector.features(noise(1, 5, 3, 12, 12))


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_what_is_wrong_with_a_file_of_ones_own_is_told_at_once(own, tmp_path):
    wrong = [
        (TakesFour(), dict(num_features=3), r'\[2, 3\].* returns \[2, 2\]'),
        (TakesFour(), dict(num_frames=5), r'T=5, R=12, .*four frames'),
        (
            GivesTwo(),
            {},
            r'GivesTwo\.pt: Own must return \[2, 2\] .*but fails',
        ),
        (TakesOne(), {}, r'returns \[1, 2\]'),
        (PublishedCall(), {}, 'another model: a detector of your own'),
        (TakesFour(), dict(sha256='0' * 64), 'SHA-256'),
        (TakesFour(), dict(name=''), "name=''"),
        (TakesFour(), dict(num_features=0), 'num_features=0'),
        (TakesFour(), dict(num_frames=0), 'num_frames=0'),
        (TakesFour(), dict(resolution=0), 'resolution=0'),
        (TakesFour(), dict(mean=(0, 0)), r'mean=\(0, 0\)'),
        (TakesFour(), dict(std=(1, 0, 1)), r'std=\(1, 0, 1\)'),
    ]
    for network, changes, text in wrong:
        with pytest.raises(InputError, match=f'(?s){text}'):
            own(network, **changes)
    path = tmp_path / 'frozen.pt'
    frozen = torch.jit.freeze(torch.jit.script(TakesFour().eval()))
    frozen.save(str(path))
    with pytest.raises(InputError, match=r'frozen\.pt.*unfrozen'):
        own(TakesFour(), path=str(path))


def rounding():
    """Say how each kind of float32 product is rounded; None if unreadable."""
    cuda, cudnn, cpu = (
        getattr(torch.backends, name) for name in ('cuda', 'cudnn', 'mkldnn')
    )
    gets = {'level': torch.get_float32_matmul_precision}
    for place, owner, name in (
        ('cuda.matmul', cuda.matmul, 'allow_tf32'),
        ('cudnn', cudnn, 'allow_tf32'),
        ('cuda.matmul', cuda.matmul, 'fp32_precision'),
        ('cudnn.conv', getattr(cudnn, 'conv', None), 'fp32_precision'),
        ('mkldnn.matmul', getattr(cpu, 'matmul', None), 'fp32_precision'),
    ):
        if name == 'allow_tf32' or NEW_NAMES:
            gets[f'{place}.{name}'] = partial(getattr, owner, name)
    found = {}
    for name, get in gets.items():
        try:
            found[name] = get()
        except RuntimeError:  # PyTorch's, where old and new names are mixed
            found[name] = None
    return found


NEW_NAMES = hasattr(torch.backends.cuda.matmul, 'fp32_precision')
EXACT = {
    'level': 'highest',
    'cuda.matmul.allow_tf32': False,
    'cudnn.allow_tf32': False,
} | dict.fromkeys(
    [
        f'{place}.fp32_precision'
        for place in ('cuda.matmul', 'cudnn.conv', 'mkldnn.matmul')
        if NEW_NAMES
    ],
    'ieee',
)


@pytest.fixture(
    params=[
        ('float32 matmul precision', 'medium'),
        ('allow_tf32', True),
        pytest.param(
            ('fp32_precision', 'tf32'),
            marks=pytest.mark.skipif(
                not NEW_NAMES, reason='a setting of PyTorch 2.9 or later'
            ),
        ),
    ]
)
def rounding_allowed(request):
    """What a process may set that is in a hurry; and back."""
    name, value = request.param
    matmul = torch.backends.cuda.matmul
    before = rounding()
    if name == 'float32 matmul precision':
        torch.set_float32_matmul_precision(value)
    else:
        setattr(matmul, name, value)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        yield
    torch.set_float32_matmul_precision(before['level'])
    if NEW_NAMES:
        matmul.fp32_precision = before['cuda.matmul.fp32_precision']
        cpu = torch.backends.mkldnn.matmul
        cpu.fp32_precision = before['mkldnn.matmul.fp32_precision']


@pytest.mark.parametrize('kind', ['script', 'network'])
def test_detectors_run_in_full_precision(
    script, random, monkeypatch, rounding_allowed, kind
):
    """While they run, and only then, whatever the process has allowed."""
    seen = []

    def watch(x, **flags):
        seen.append(rounding())
        return torch.zeros(len(x), 400)

    detector = I3DTorchScript(script) if kind == 'script' else random
    inner = detector.script if kind == 'script' else detector.i3d
    monkeypatch.setattr(type(inner), '__call__', lambda self, x, **_: watch(x))
    before = rounding()
    assert before != EXACT
    detector.features(noise(1, 9, 3, 8, 6))
    assert seen == [EXACT]
    assert rounding() == before


def test_scripts_run_unfused(script):
    """While they run, and only then."""
    detector = I3DTorchScript(script)
    seen = []

    class Watch(OtherCall):
        def forward(self, x, **flags):
            seen.append(torch._C._jit_texpr_fuser_enabled())
            return super().forward(x)

    detector.script = Watch()
    assert torch._C._jit_texpr_fuser_enabled()
    detector.features(noise(1, 9, 3, 8, 6))
    assert seen == [False]
    assert torch._C._jit_texpr_fuser_enabled()


def test_a_url_is_downloaded_once_and_kept(script, cache_home, https_site):
    wanted = hashlib.sha256(script.read_bytes()).hexdigest()
    kept = https_site.folder / script.name
    shutil.copyfile(script, kept)
    url = f'{https_site.url}/{script.name}'
    with pytest.raises(InputError, match=r'cannot download .*no_such\.pt'):
        I3DTorchScript(url.replace(script.name, 'no_such.pt'), wanted)
    with pytest.raises(InputError, match='needs its SHA-256'):
        I3DTorchScript(url)
    assert I3DTorchScript(url, wanted).digest == wanted
    # It is gone from there.
    kept.unlink()
    assert I3DTorchScript(f'{url}#sha256={wanted}').digest == wanted
    found = [path.name for path in cache_home.rglob('*') if path.is_file()]
    assert len(found) == 1
    assert found[0].endswith(script.name)


# Files of weights.


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory, random_i3d_weights):
    path = tmp_path_factory.mktemp('weights') / 'i3d_pretrained_400.pt'
    torch.save(random_i3d_weights, path)
    return path


@pytest.fixture(scope='module')
def i3d(weights_file):
    return I3D(weights_file)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_script_and_weights_agree(
    tmp_path, i3d, random_i3d_weights, monkeypatch
):
    network = InceptionI3D().eval()
    network.load_state_dict(random_i3d_weights)
    path = tmp_path / 'i3d_torchscript.pt'
    torch.jit.script(PublishedI3D(network, 64)).save(str(path))
    # 224 x 224 pixels are below.
    monkeypatch.setattr(I3D, 'resolution', 64)
    video = noise(2, 9, 3, 40, 56)
    expected = I3DTorchScript(path).features(video)
    found = i3d.features(video)
    assert found.shape == (2, 400)
    assert found.dtype == torch.float32
    assert expected.std() > 0.3
    assert (found - expected).abs().max() < 1e-4


def test_bytes_become_floats_of_224_by_224(i3d, monkeypatch):
    """Centres of pixels, in float64: (i + 0.5) in / out - 0.5."""
    monkeypatch.setattr(i3d.i3d, 'forward', lambda x: x)
    video = noise(1, 9, 3, 20, 300)
    found = i3d.features(video)

    def matrix(size):
        place = (np.arange(224) + 0.5) * size / 224 - 0.5
        place = place.clip(0, size - 1)
        weight = np.maximum(0, 1 - abs(place[:, None] - np.arange(size)))
        assert np.allclose(weight.sum(1), 1)
        return weight

    x = video[0].numpy() / 255 * 2 - 1
    expected = np.einsum(
        'yh,xw,tchw->ctyx', matrix(20), matrix(300), x, optimize=True
    )
    assert found.shape == (1, 3, 9, 224, 224)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4)


def test_features_equal_those_of_cd_fvd(weights_file, random_i3d_weights):
    """All of it: bytes, resizing, network."""
    utils = pytest.importorskip(
        'cdfvd.third_party.i3d.utils',
        reason='compares with the package cd-fvd',
    )
    theirs = utils.pytorch_i3d.InceptionI3d(400).eval()
    theirs.load_state_dict(random_i3d_weights)
    video = noise(1, 9, 3, 96, 120)
    with torch.no_grad():
        # [N, T, H, W, C]
        expected = theirs(
            utils.preprocess_i3d(video.permute(0, 1, 3, 4, 2).numpy())
        )
    detector = I3D(weights_file, eps=1e-5)
    found = detector.features(video)
    assert expected.std() > 0.3
    assert (found - expected).abs().max() < 1e-4
    # The other constant is other features, and another name for caches.
    other = I3D(weights_file)
    assert other.digest != detector.digest
    assert hashlib.sha256(weights_file.read_bytes()).hexdigest() in (
        other.digest
    )


def test_bfloat16_is_rounded_and_says_so(weights_file, i3d, monkeypatch):
    monkeypatch.setattr(I3D, 'resolution', 64)
    detector = MODELS.build(
        dict(type='I3D', path=str(weights_file), dtype='bfloat16')
    )
    video = noise(2, 9, 3, 40, 56)
    expected, found = i3d.features(video), detector.features(video)
    assert found.dtype == torch.float32
    # 8 bits a number, in 20 layers.
    error = (found - expected).std() / expected.std()
    assert 2**-9 < error < 0.1
    assert detector.digest == f'{i3d.digest} bfloat16'
    assert (i3d.precision, detector.precision) == ('float32', 'bfloat16')
    assert detector.name == 'bfloat16'
    assert not hasattr(i3d, 'name')
    with pytest.raises(InputError, match="dtype='half' must be 'float32' or"):
        I3D(weights_file, dtype='half')


def test_weights_move_no_random_numbers(weights_file):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    detector = MODELS.build(dict(type='I3D', path=str(weights_file)))
    assert torch.equal(torch.rand(3), expected)
    assert not detector.is_random
    assert not any(p.requires_grad for p in detector.parameters())
    assert not any(module.training for module in detector.i3d.modules())


class Trap:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.filterwarnings('ignore:.*TorchScript archive')
def test_wrong_files_of_weights_are_named(
    tmp_path, weights_file, random_i3d_weights, script
):
    with pytest.raises(InputError, match=f'(?s)SHA-256.*{"0" * 64}'):
        I3D(weights_file, sha256='0' * 64)
    path = tmp_path / 'other.pt'
    whole = weights_file.read_bytes()
    unreadable = r'(?s)other\.pt .*read safely.*I3DTorchScript'
    for content in (
        b'',
        b'<html>',
        whole[: len(whole) // 2],
        script.read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=unreadable):
            I3D(path)
    torch.save({'a': Trap(tmp_path / 'trapped')}, path)
    with pytest.raises(InputError, match=unreadable):
        I3D(path)
    assert not (tmp_path / 'trapped').exists()
    bias = 'logits.conv3d.bias'
    for content in (
        {},
        [torch.ones(3)],
        {1: torch.ones(3)},
        {**random_i3d_weights, bias: torch.ones(600)},
        {**random_i3d_weights, bias: 'none'},
        {**random_i3d_weights, 'more': torch.ones(3)},
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=r'other\.pt .* 400 classes'):
            I3D(path)


# Random weights.


@pytest.fixture(scope='module')
def random():
    return RandomI3D()


def test_random_weights_are_the_same_everywhere(random):
    """Values and checksum of 24 bits a weight from numpy's Philox(0)."""
    weight = random.i3d.Conv3d_1a_7x7.conv3d.weight
    raw = np.random.Philox(0).random_raw(weight.numel()) >> np.uint64(40)
    first = raw[: 3 * 7**3].astype(np.float64)
    first = (first - first.mean()) / first.std()
    # Normalised by a variance of 1.
    first *= (2.93 / first.size / (1 + 1e-3)) ** 0.5
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
        for name, stage in random.i3d.named_children()
    ]
    coarse = noise(12, 3, 3, 4, 4).float()
    video = F.interpolate(coarse, (3, 64, 64)).repeat_interleave(3, 1)
    features = random.features(video.to(torch.uint8))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 17
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
