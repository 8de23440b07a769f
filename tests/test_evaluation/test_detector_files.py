"""Files of weights: made whole or not at all, checked, of known numbers."""

import json
import os
import random
import resource
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from detector_packages import (
    i3d_tree,
    lpips_tree,
    real_file,
    write_package,
)
from PIL import Image
from real_process import ROOT, held_elsewhere
from torch import nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import I3D, VGG16, FeatureStats, frechet_distance
from stylegan_v_mm.evaluation.detectors.check_values import check_values
from stylegan_v_mm.evaluation.detectors.files import (
    SOURCES,
    detector_file,
    detector_path,
    make_detector_file,
)
from stylegan_v_mm.evaluation.detectors.lpips import load_lpips

TOOL = ROOT / 'tools/get_detectors.py'


@pytest.fixture
def small(tmp_path, cache_home, monkeypatch):
    """A package of a small file, in the place of I3D's."""
    rng = np.random.default_rng(0)
    kernel = rng.random((1, 1, 1, 3, 64), np.float32)
    tree = {'params': {'a': {'Conv_0': {'kernel': kernel}}}}
    path = tmp_path / 'small.tar.gz'
    write_package(path, 'i3d', {'i3d': tree}, monkeypatch)
    return path


@pytest.fixture
def folder(cache_home):
    return cache_home / 'stylegan_v_mm/detectors'


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != '.lock')


WHOLE = ['i3d.md', 'i3d.safetensors']


def test_a_file_is_made_once_with_its_card(small, folder):
    assert make_detector_file('i3d', small)
    assert names(folder) == WHOLE
    path, digest = detector_file('i3d')
    assert path == folder / 'i3d.safetensors'
    source = SOURCES['i3d']
    card = (folder / 'i3d.md').read_text()
    for text in (
        *(digest, source.archive.url, source.archive.sha256, 'Licence'),
        *(text for member in source.members.values() for text in member[::2]),
    ):
        assert str(text) in card
    # Once more: nothing is read.
    before = path.stat()
    small.unlink()
    (folder / 'i3d.md').unlink()
    assert not make_detector_file('i3d', small)
    assert path.stat() == before
    assert names(folder) == WHOLE


def test_a_damaged_file_is_told_and_made_anew(small, folder):
    with pytest.raises(InputError, match=r'there is no .*get_detectors\.py'):
        detector_file('i3d')
    make_detector_file('i3d', small)
    path = detector_path('i3d')
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b'.')
    with pytest.raises(
        InputError, match=r'i3d\.safetensors is damaged.*get_detectors\.py i3d'
    ):
        detector_file('i3d')
    assert make_detector_file('i3d', small)
    assert path.read_bytes() == content


def refusal(small):
    with pytest.raises(InputError) as error:
        make_detector_file('i3d', small)
    assert '\n' not in str(error.value)
    return str(error.value)


def pin(monkeypatch, **changes):
    """Change what is pinned of the one member."""
    member = SOURCES['i3d'].members['i3d']._replace(**changes)
    source = SOURCES['i3d']._replace(members={'i3d': member})
    monkeypatch.setitem(SOURCES, 'i3d', source)


def test_other_members_are_refused(small, folder, monkeypatch):
    right = SOURCES['i3d'].members['i3d']
    for changes, words in (
        (dict(sha256='0' * 64), 'is another file'),
        (dict(size=100), 'is another file'),
        (dict(path='none.ckpt'), 'none.ckpt'),
    ):
        pin(monkeypatch, **{**right._asdict(), **changes})
        assert words in refusal(small)
        assert names(folder) == []


@pytest.mark.parametrize(
    ('tree', 'words'),
    [
        ([1, 2], 'instead of a dict'),
        ({'a': 'text'}, 'not a plain array'),
        ({'a': nn.Linear(1, 1)}, 'not a plain array'),
    ],
)
def test_members_that_are_no_weights_are_refused(
    tree, words, tmp_path, folder, cache_home, monkeypatch
):
    with pytest.raises((InputError, AssertionError), match=words):
        write_package(tmp_path / 'a.tar.gz', 'i3d', {'i3d': tree}, monkeypatch)
    assert names(folder) == []


def test_one_process_at_a_time(small, folder):
    with held_elsewhere(folder / '.lock') as number:
        message = f'{folder} is in use by process {number} on '
        assert message in refusal(small)
    assert make_detector_file('i3d', small)


def test_a_cache_that_cannot_be_written_is_named(small, folder, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(small))  # a file
    assert str(small) in refusal(small)


def in_a_process(task):
    """Do something in a forked process; return how it ended."""
    process = os.fork()
    if process == 0:
        try:
            task()
        except InputError as error:
            os._exit(2 if 'cannot be written' in str(error) else 3)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_process_may_be_killed_at_any_moment(small, folder, tmp_path):
    """At lines that run in the package: any, and all with files half-made."""

    def make(last=None):
        """Note the lines with half-made files, or be killed at one."""
        count, half_made = 0, []

        def trace(frame, event, arg):
            nonlocal count
            if 'stylegan_v_mm' not in frame.f_code.co_filename:
                return None
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            if last is None and any(folder.glob('*.tmp')):
                half_made.append(count)
            return trace

        sys.settrace(trace)
        make_detector_file('i3d', small)
        sys.settrace(None)
        (tmp_path / 'lines').write_text(json.dumps([count, half_made]))

    assert in_a_process(make) == 0
    count, half_made = json.loads((tmp_path / 'lines').read_text())
    assert len(half_made) > 2
    for last in [*random.Random(0).sample(range(1, count), 8), *half_made]:
        for path in folder.iterdir():
            path.unlink()
        status = in_a_process(lambda last=last: make(last))
        assert status == -signal.SIGKILL
        if detector_path('i3d').exists():
            detector_file('i3d')  # It is whole.
        assert any(folder.glob('*.tmp')) == (last in half_made)
        make_detector_file('i3d', small)
        assert names(folder) == WHOLE


@pytest.mark.parametrize('room', [0, 100, 700])
def test_a_full_disk_leaves_nothing(small, folder, room):
    def make():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        make_detector_file('i3d', small)

    assert in_a_process(make) == 2
    assert names(folder) == []


# The detectors that the files are for.


def test_i3d_is_what_the_package_holds(
    tmp_path, cache_home, monkeypatch, random_i3d_weights, run_script
):
    """And the tool tells that random weights are not the right ones."""
    weights = {
        name: torch.ones_like(value) if name.endswith('bn.weight') else value
        for name, value in random_i3d_weights.items()
    }
    path = tmp_path / 'i3d.tar.gz'
    write_package(path, 'i3d', {'i3d': i3d_tree(weights)}, monkeypatch)
    make_detector_file('i3d', path)
    torch.save(weights, tmp_path / 'i3d.pth')
    ours, theirs = I3D(), I3D(str(tmp_path / 'i3d.pth'))
    for name, value in theirs.i3d.state_dict().items():
        assert torch.equal(ours.i3d.state_dict()[name], value), name
    assert SOURCES['i3d'].sha256 in ours.digest
    assert not ours.is_random

    result = run_script(TOOL, 'i3d', '--from', path)
    assert result.returncode == 2
    assert 'computes something else' in result.stderr.splitlines()[-1]
    assert not detector_path('i3d').exists()


@pytest.fixture(scope='module')
def networks():
    """LPIPS of the package lpips, with random weights."""
    lpips = pytest.importorskip('lpips', reason='compares with the package')
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter('ignore')
        torch.manual_seed(0)
        networks = {
            name: lpips.LPIPS(net=name, pnet_rand=True, verbose=False).eval()
            for name in ('vgg', 'alex')
        }
    for network in networks.values():
        for module in network.net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.1)
    return networks


def convs_of(network):
    return [m for m in network.net.modules() if isinstance(m, nn.Conv2d)]


@pytest.fixture(scope='module')
def lpips_source(networks, tmp_path_factory):
    """A cache with their weights, and the source that is pinned for them."""
    trees = {
        name: lpips_tree(
            {'vgg': 'VGG16_0', 'alex': 'AlexNet_0'}[name],
            convs_of(network),
            [getattr(network, f'lin{i}').model[-1].weight for i in range(5)],
        )
        for name, network in networks.items()
    }
    folder = tmp_path_factory.mktemp('lpips')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder))
        path = folder / 'lpips.tar.gz'
        write_package(path, 'lpips', trees, patch)
        make_detector_file('lpips', path)
        return folder, SOURCES['lpips']


@pytest.fixture
def lpips_file(lpips_source, cache_home, monkeypatch):
    folder, source = lpips_source
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    monkeypatch.setitem(SOURCES, 'lpips', source)


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, np.uint8))


def test_lpips_equals_that_of_its_package(networks, lpips_file):
    a, b = noise(2, 3, 3, 72, 64).float() / 127.5 - 1
    b[2] = 0.9 * a[2]
    for name, theirs in networks.items():
        ours = load_lpips(name)
        with torch.no_grad():
            expected = theirs(a, b).flatten()
        found = ours(a, b)
        assert expected.min() > 1e-5
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert not ours(a, a).any()
    # Maps of nothing but zeros have no length to be divided by.
    x = a[:1].clone().requires_grad_()
    maps = ours.unit_maps(b[:1])
    ours.maps.convs[0].bias.fill_(-1e9)
    distance = ours.compare(ours.unit_maps(x), maps)
    distance.sum().backward()
    assert distance.isfinite().all()
    assert x.grad.isfinite().all()


def test_vgg16_is_torchvisions(networks, lpips_file):
    """Its features, on an image of 224 pixels; ImageNet's colours."""
    models = pytest.importorskip('torchvision').models
    theirs = models.vgg16(weights=None).features[:30].eval()
    convs = [m for m in theirs if isinstance(m, nn.Conv2d)]
    for theirs_conv, conv in zip(
        convs, convs_of(networks['vgg']), strict=True
    ):
        theirs_conv.load_state_dict(conv.state_dict())
    detector = VGG16()
    video = noise(2, 1, 3, 224, 224)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        maps = theirs((video[:, 0] / 255 - mean) / std)
    assert maps.shape == (2, 512, 14, 14)
    found = detector.features(video)
    assert found.shape == (2, detector.num_features)
    torch.testing.assert_close(found, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert detector.name == 'VGG16'
    assert SOURCES['lpips'].sha256 in detector.digest
    with pytest.raises(InputError, match='just 1 frames, got 2'):
        detector.features(noise(1, 2, 3, 8, 8))


def test_vgg16_sees_images_resized_as_pillow_does(
    networks, lpips_file, monkeypatch
):
    detector = VGG16()
    seen = []
    monkeypatch.setattr(
        detector.maps, 'forward', lambda x: seen.append(x) or [x]
    )
    image = noise(1, 1, 3, 300, 500)
    detector.features(image)
    expected = Image.fromarray(image[0, 0].permute(1, 2, 0).numpy())
    expected = expected.resize((224, 224), Image.Resampling.BILINEAR)
    found = (seen[0][0] + 1) * 127.5
    error = found.permute(1, 2, 0) - torch.from_numpy(np.array(expected))
    assert error.abs().max() < 1.1


def test_the_tool_wants_names_that_it_knows(small, run_script):
    for args, words in (
        (['i3e'], 'i3e: choose from i3d, lpips'),
        (['--from', small], 'name it'),
        (['i3d', '--from', 'none.tar.gz'], 'none.tar.gz'),
        (['lpips', '--from', small], str(small)),
    ):
        result = run_script(TOOL, *args)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith('error: ')
        assert words in line


# The real ones.


@pytest.fixture
def real(request, cache_home):
    """The user's real files, in the test's own cache."""
    folder = real_file(request.param).parent
    (cache_home / 'stylegan_v_mm').mkdir()
    detector_path('i3d').parent.symlink_to(folder.absolute())
    return request.param


@pytest.mark.parametrize('real', ['i3d', 'lpips'], indirect=True)
def test_real_files_give_the_published_numbers(real, run_script):
    values = check_values(real)
    assert all(value.is_right for value in values)
    found = [value.found for value in values]
    known = {'i3d': [151.39244], 'lpips': [0.814, 0.4538]}[real]
    assert found == pytest.approx(known, rel=1e-5 if real == 'i3d' else 1e-3)
    result = run_script(TOOL, real)
    assert result.returncode == 0, result.stderr
    assert 'is there' in result.stdout
    assert ('151.392' if real == 'i3d' else '0.81401') in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize('real', ['i3d'], indirect=True)
def test_the_published_distance_of_noise(real):
    """By TensorFlow and by TorchScript: 10.138085, in 256 clips.

    https://github.com/universome/fvd-comparison: the network gets numbers
    from 0 to 1; covariances are divided by n - 1, ours by n.
    """
    if 'STYLEGAN_V_DETECTORS' not in os.environ:
        pytest.skip('takes minutes: set STYLEGAN_V_DETECTORS')
    network, stats = I3D().i3d, []
    for seed in (1, 2):
        random = np.random.RandomState(seed)
        stats.append(FeatureStats(400))
        for _ in range(64):
            clips = random.rand(2, 16, 224, 224, 3).astype(np.float32)
            x = torch.from_numpy(clips).permute(0, 4, 1, 2, 3)
            with torch.no_grad():
                stats[-1].append(network(x.contiguous()))
    found = frechet_distance(*stats)
    means = (stats[0].mean - stats[1].mean).square().sum().item()
    assert found == pytest.approx(10.0628, abs=1e-4)
    unbiased = means + (found - means) * 128 / 127
    assert unbiased == pytest.approx(10.138085, abs=1e-4)
