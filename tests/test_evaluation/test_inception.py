"""Inception-v3 of FID: torchvision's with other pools, formulas, its file."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FIDInception
from stylegan_v_mm.evaluation.detectors.inception import FIDInceptionV3
from stylegan_v_mm.registry import MODELS


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, shape, np.uint8))


@pytest.fixture(scope='module')
def theirs():
    """Inception of torchvision, random weights; signals keep their size."""
    models = pytest.importorskip('torchvision').models
    network = models.Inception3(
        num_classes=1008, aux_logits=False, init_weights=False
    ).eval()
    generator = torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
        if isinstance(layer, nn.BatchNorm2d):
            for values, least, most in (
                (layer.weight.data, 0.8, 1.2),
                (layer.bias.data, -0.2, 0.2),
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.3, 2.0),
            ):
                values.uniform_(least, most, generator=generator)
    return network


def named_by_its_checksum(path):
    """Rename a file as torch hub would."""
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f'pt_inception-2015-12-05-{digits}.pth'))


@pytest.fixture(scope='module')
def file(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp('inception') / 'a.pth'
    torch.save(theirs.state_dict(), path)
    return named_by_its_checksum(path)


class OtherPools:
    """Stands in for ``torch.nn.functional`` in torchvision's module."""

    def __getattr__(self, name):
        return getattr(F, name)

    def avg_pool2d(self, x, **size):
        if x.shape[1] == 2048:  # the last module
            return F.max_pool2d(x, **size)
        return F.avg_pool2d(x, **size, count_include_pad=False)


@pytest.fixture
def other_pools(monkeypatch):
    monkeypatch.setattr('torchvision.models.inception.F', OtherPools())


def features_of(network, x):
    """Features and logits of torchvision's network."""
    seen = []
    hook = network.avgpool.register_forward_hook(
        lambda module, inputs, output: seen.append(output.flatten(1))
    )
    with torch.no_grad():
        logits = network(x)
    hook.remove()
    return seen[0], logits


def test_it_is_torchvisions_with_other_pools(theirs, monkeypatch):
    network = FIDInceptionV3().eval()
    network.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, 299, 299, generator=torch.manual_seed(1)) * 2 - 1
    other, _ = features_of(theirs, x)
    monkeypatch.setattr('torchvision.models.inception.F', OtherPools())
    expected, logits = features_of(theirs, x)
    with torch.no_grad():
        found = network(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            network.fc(found), logits, rtol=1e-4, atol=1e-4
        )
    assert (other - expected).abs().max() > 0.1


@pytest.fixture(scope='module')
def detector(file):
    return FIDInception(str(file))


@pytest.mark.parametrize('size', [(20, 300), (299, 299), (600, 64)])
def test_bytes_become_floats_from_the_corners(detector, size, monkeypatch):
    """TensorFlow 1: output i is at input i * length / 299."""
    monkeypatch.setattr(detector.inception, 'forward', lambda x: x)
    images = noise(1, 1, 3, *size)

    def matrix(length):
        matrix = np.zeros((299, length))
        for i in range(299):
            place = i * length / 299
            first = int(place)
            matrix[i, first] += 1 - (place - first)
            matrix[i, min(first + 1, length - 1)] += place - first
        return matrix

    expected = np.einsum(
        'yh,xw,chw->cyx',
        *map(matrix, size),
        (images[0, 0].numpy() - 128.0) / 128,
        optimize=True,
    )
    found = detector.features(images)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4)


def test_features_and_probabilities(detector, theirs, other_pools):
    images = noise(2, 1, 3, 299, 299)
    features = detector.features(images)
    assert features.shape == (2, detector.num_features)
    with torch.no_grad():
        weight = theirs.fc.weight
        expected = (features @ weight.T).softmax(1)
        x = (images[:, 0].float() - 128) / 128
        logits = theirs(x) - theirs.fc.bias
    found = detector.probabilities(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, logits.softmax(1), rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match='just 1 frames, got 2'):
        detector.features(noise(1, 2, 3, 8, 8))


def test_the_file_of_torch_hubs_cache_is_found(file, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    place = tmp_path / 'hub/checkpoints'
    place.mkdir(parents=True)
    wanted = place / 'pt_inception-2015-12-05-6726825d.pth'
    with pytest.raises(InputError, match=f'there is no file {wanted}'):
        FIDInception()
    wanted.write_bytes(file.read_bytes())
    # Its digits are those of the published file.
    with pytest.raises(InputError, match='must begin with the digits'):
        FIDInception()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    config = dict(type='FIDInception', sha256=digest)
    assert MODELS.build(config).digest == f'FIDInception {digest}'


def test_other_files_are_refused(file, tmp_path):
    whole = file.read_bytes()
    cut = tmp_path / file.name
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f'(?s){cut}.*begin with the digits'):
        FIDInception(str(cut))
    unnamed = tmp_path / 'inception.pth'
    unnamed.write_bytes(whole)
    with pytest.raises(InputError, match='digits that end its name'):
        FIDInception(str(unnamed))
    with pytest.raises(InputError, match=f'(?s)SHA-256.*{"0" * 64}'):
        FIDInception(str(unnamed), sha256='0' * 64)
    path = tmp_path / 'other.pth'
    path.write_bytes(b'<html>')
    with pytest.raises(InputError, match='InceptionTorchScript'):
        FIDInception(str(named_by_its_checksum(path)))
    # torchvision's own has 1000 classes.
    weights = FIDInceptionV3().state_dict()
    weights['fc.weight'] = weights['fc.weight'][:1000]
    torch.save(weights, path)
    with pytest.raises(InputError, match='no weights of Inception-v3 with 10'):
        FIDInception(str(named_by_its_checksum(path)))


def test_a_file_without_counters_is_read(file, theirs, tmp_path):
    """Older versions of PyTorch did not count batches."""
    weights = {
        name: value
        for name, value in theirs.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    path = tmp_path / 'a.pth'
    torch.save(weights, path)
    found = FIDInception(str(named_by_its_checksum(path)))
    assert torch.equal(
        found.inception.Mixed_7c.branch_pool.bn.running_var,
        theirs.Mixed_7c.branch_pool.bn.running_var,
    )
