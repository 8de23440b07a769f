"""Packages with weights of detectors: made here, and what came of real ones.

Those made here are laid out as the published ones, around random weights.
What ``tools/get_detectors.py`` makes of the published ones is not part of the
repository: environment variable STYLEGAN_V_DETECTORS, or the user's cache.
"""

import hashlib
import io
import os
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors.files import (
    SOURCES,
    Member,
    make_detector_file,
)
from stylegan_v_mm.files import user_cache

# Looked up before tests get a cache of their own.
DETECTORS = Path(
    os.environ.get('STYLEGAN_V_DETECTORS') or user_cache() / 'detectors'
)

BRANCHES = {
    'b0': 'Branch_0/Conv3d_0a_1x1',
    'b1a': 'Branch_1/Conv3d_0a_1x1',
    'b1b': 'Branch_1/Conv3d_0b_3x3',
    'b2a': 'Branch_2/Conv3d_0a_1x1',
    'b2b': 'Branch_2/Conv3d_0b_3x3',
    'b3b': 'Branch_3/Conv3d_0b_1x1',
}


def i3d_tree(weights):
    """Lay out a state dict of I3D as the published package does."""
    tree = {'params': {}, 'batch_stats': {}}
    for name, value in weights.items():
        stage, *unit, kind, part = name.split('.')
        if part in ('num_batches_tracked', 'weight') and kind == 'bn':
            continue
        value = value.numpy()
        if part == 'weight':
            part, value = 'kernel', value.transpose(2, 3, 4, 1, 0)
        if part.startswith('running_'):
            value = value.reshape(1, 1, 1, 1, -1)
            part = part.removeprefix('running_')
        place = tree['batch_stats' if part in ('mean', 'var') else 'params']
        if stage == 'logits':
            place = place.setdefault('Logits/Conv3d_0c_1x1', {})
        else:
            place = place.setdefault(stage, {})
        if unit:
            place = place.setdefault(BRANCHES[unit[0]], {})
        kind = {'conv3d': 'Conv_0', 'bn': 'BatchNorm_0'}[kind]
        place.setdefault(kind, {})[part] = np.ascontiguousarray(value)
    return tree


def lpips_tree(network, convs, heads):
    """Lay out convolutions and weights of heads as the published package."""
    layers = {}
    for i, conv in enumerate(convs):
        kernel = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        kernel = np.ascontiguousarray(kernel)
        bias = conv.bias.detach().numpy()
        layers[f'Conv_{i}'] = {'kernel': kernel, 'bias': bias}
    tree = {network: layers}
    for i, head in enumerate(heads):
        kernel = head.detach().numpy().reshape(1, 1, -1, 1)
        tree[f'NetLinLayer_{i}'] = {'Conv_0': {'kernel': kernel}}
    return tree


def write_package(path, name, trees, monkeypatch):
    """Write a package, and pin it in the place of the published one.

    Args:
        path: Of the package.
        name: Of the detector.
        trees: Name of a member to what it holds.
        monkeypatch: Of the test.
    """
    members = {}
    with tarfile.open(path, 'w:gz', compresslevel=0) as tar:
        for member, tree in trees.items():
            content = pickle.dumps(tree, 4)
            place = SOURCES[name].members[member].path
            info = tarfile.TarInfo(place)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            digest = hashlib.sha256(content).hexdigest()
            members[member] = Member(place, len(content), digest)
    content = path.read_bytes()
    archive = SOURCES[name].archive._replace(
        size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    source = SOURCES[name]._replace(
        archive=archive, members=members, sha256='unknown'
    )
    monkeypatch.setitem(SOURCES, name, source)
    with pytest.raises(InputError, match='not unknown') as error:
        make_detector_file(name, path)
    digest = re.search('[0-9a-f]{64}', str(error.value))[0]
    monkeypatch.setitem(SOURCES, name, source._replace(sha256=digest))


def real_file(name):
    """Give the path of a real file of weights, or skip the test."""
    path = DETECTORS / f'{name}.safetensors'
    if not path.is_file():
        pytest.skip(
            f'{path} is not there: python tools/get_detectors.py {name}, or '
            'set STYLEGAN_V_DETECTORS'
        )
    return path
