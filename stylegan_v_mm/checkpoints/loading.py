"""Read checkpoints without executing anything in them."""

import ast
import pickle
import zipfile
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import load_state_dict
from safetensors.torch import load_file
from torch import nn

from ..errors import InputError
from ..zoo import zoo_model, zoo_models
from .downloads import local_file

# Where a state dict has the average generator.
AVERAGE = 'generator_ema.'
# Where a file may have its state dict, and what others call the networks.
_PLACES = ('state_dict', 'model')
_NETWORKS = {'G_ema': 'generator_ema', 'G': 'generator', 'D': 'discriminator'}
# What DistributedDataParallel and torch.compile put into names.
_WRAPPERS = ('module', '_orig_mod')


def _history_method(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, by which a log history names its methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'it asks for {owner}.{name}')


_MADE_BY = {'_reconstruct': np.zeros(1), 'scalar': np.float64(0)}
# What mmengine's own checkpoints hold besides tensors and plain containers:
# the log history. Everything else is refused by ``weights_only``.
LOG_HISTORY: list[Any] = [
    HistoryBuffer,
    (_history_method, 'builtins.getattr'),
    # numpy 2 calls their module _core; files of either version are read.
    *(
        (value.__reduce__()[0], f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name, value in _MADE_BY.items()
    ),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
]


def load_checkpoint(path: str) -> dict:
    """Read a checkpoint file of a training run.

    Args:
        path (str): A local file or ``https://...#sha256=CHECKSUM`` (kept in
            the user's cache); or the name of a model in
            :mod:`stylegan_v_mm.zoo`. A ``.safetensors`` file holds weights
            alone; so may another, as a state dict or one for each network.

    Returns:
        dict: ``state_dict``, named as in the file, and what else mmengine
        saved; on the CPU.

    Raises:
        InputError: The file is missing, damaged, holds more than weights and
            plain data, or is no checkpoint.
    """
    named = zoo_model(str(path))
    file = local_file(
        named.weights if named else path,
        'training writes iter_*.pth into its work dir; by name there is '
        f'{", ".join(zoo_models())}',
    )
    try:
        if file.suffix == '.safetensors':
            return {'state_dict': load_file(file)}
        _refuse_compressed(file)
        with torch.serialization.safe_globals(LOG_HISTORY):
            checkpoint = torch.load(
                file, map_location='cpu', weights_only=True
            )
    except Exception as error:
        # torch raises a dozen types here, from EOFError to UnpicklingError.
        reason = str(error).split('\n')[0]
        raise InputError(
            f'{path} is not a checkpoint that can be read safely '
            f'({type(error).__name__}: {reason})'
        ) from error
    weights = _find_weights(checkpoint)
    if weights is None:
        raise InputError(f'{path} is not a checkpoint of this library')
    return {**checkpoint, 'state_dict': weights}


def _find_weights(content: Any) -> dict | None:
    """Find the weights in what a file holds; None if there are none."""
    if not isinstance(content, dict):
        return None
    places = [x for x in _PLACES if isinstance(content.get(x), dict)]
    if places:
        content = content[places[0]]
    weights: dict[Any, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            weights |= {f'{name}.{key}': x for key, x in value.items()}
        else:
            weights[name] = value
    dense = {
        name: value
        for name, value in weights.items()
        if isinstance(name, str) and _is_dense(value)
    }
    # A state dict holds nothing else; a file may.
    good = len(dense) == len(weights) if places else bool(dense)
    return dense if good else None


def plain_names(weights: dict, ours: Container[str] = ()) -> dict:
    """Name weights as if networks had not been wrapped or saved apart.

    Args:
        weights (dict): A state dict. ``module.`` and ``_orig_mod.`` go from
            its names, and ``G_ema``, ``G`` and ``D`` get ours; if it is that
            of a generator, it is the average one.
        ours (container): Names that stay, those of the model at hand.

    Returns:
        dict: The same weights.
    """

    def plain(name: str) -> str:
        parts = [x for x in name.split('.') if x not in _WRAPPERS]
        return '.'.join([_NETWORKS.get(x, x) for x in parts[:1]] + parts[1:])

    names = {name: name if name in ours else plain(name) for name in weights}
    if any(name.startswith('synthesis.') for name in names.values()):
        for name, ours_name in names.items():
            if ours_name not in ours:
                names[name] = AVERAGE + ours_name
    return {names[name]: value for name, value in weights.items()}


def _refuse_compressed(file: Path) -> None:
    """Refuse what unpacks to a thousand times its size; torch never packs."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type for entry in archive.infolist()):
                raise ValueError('it is compressed')


def _is_dense(value: object) -> bool:
    """Whether something is a tensor as a network's weights are."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_nested or value.is_quantized)
    )


def config_values(text: str) -> dict[str, str]:
    """Read the values of a config's text, such as a checkpoint holds.

    Args:
        text (str): mmengine's ``Config.pretty_text``. Damaged text has no
            values.

    Returns:
        dict: The values as Python writes them, by their dotted keys.
    """
    values = {}

    def visit(key: str, node: ast.expr) -> None:
        match node:
            case ast.Call(func=ast.Name(id='dict'), args=[]):
                for keyword in node.keywords:
                    visit(f'{key}.{keyword.arg}', keyword.value)
            case ast.Dict():
                for name, value in zip(node.keys, node.values):
                    visit(f'{key}.{name and ast.unparse(name)}', value)
            case ast.List() | ast.Tuple():
                for i, value in enumerate(node.elts):
                    visit(f'{key}.{i}', value)
            case _:
                values[key] = ast.unparse(node)

    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign):
                visit(ast.unparse(statement.targets[0]), statement.value)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # The latter for thousands of brackets.
        return {}
    return values


def weight_differences(ours: dict, theirs: dict) -> list[str]:
    """Say how two state dicts differ in names and shapes.

    Args:
        ours (dict): The state dict that is wanted.
        theirs (dict): The one that is there.

    Returns:
        list: Phrases with ``theirs`` as subject; none if they agree.
    """
    return [
        *(f'lacks {name}' for name in ours if name not in theirs),
        *(
            f'{name} is {list(theirs[name].shape)}, the config wants '
            f'{list(value.shape)}'
            for name, value in ours.items()
            if name in theirs and theirs[name].shape != value.shape
        ),
        *(f'has extra {name}' for name in theirs if name not in ours),
    ]


def load_weights(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Load a checkpoint's weights, all of them or none.

    A checkpoint may also lack the generator that training steps, as
    generating takes its average alone and measuring no more; so may it lack
    the discriminator and the counters then. What it lacks stays as it is.

    Args:
        model (nn.Module): Whose names and shapes are wanted.
        checkpoint (dict): From :func:`load_checkpoint`.
        path (str): Of the file, for messages.

    Raises:
        InputError: Names or shapes differ: another architecture.
    """
    ours = model.state_dict()
    theirs = plain_names(checkpoint['state_dict'], ours)
    parts = {name.partition('.')[0] for name in theirs}
    if 'generator_ema' in parts and 'generator' not in parts:
        ours = {x: ours[x] for x in ours if x.partition('.')[0] in parts}
    _check_architecture(ours, theirs, path)
    load_state_dict(model, model.state_dict() | theirs, strict=True)


def average_weights(checkpoint: dict) -> dict:
    """Pick the weights of the average generator.

    Args:
        checkpoint (dict): From :func:`load_checkpoint`.

    Returns:
        dict: Those whose names start with :data:`AVERAGE`.
    """
    weights = plain_names(checkpoint['state_dict'])
    return {
        name: value
        for name, value in weights.items()
        if name.startswith(AVERAGE)
    }


@torch.no_grad()
def load_average(generator: nn.Module, weights: dict, path: str) -> None:
    """Load the weights of the average generator, all of them or none.

    Args:
        generator (nn.Module): Whose names and shapes are wanted.
        weights (dict): From :func:`average_weights`.
        path (str): Of the file, for messages.

    Raises:
        InputError: Names or shapes differ: another architecture.
    """
    state = generator.state_dict()
    ours = plain_names({AVERAGE + name: x for name, x in state.items()})
    _check_architecture(ours, weights, path)
    for name, value in ours.items():
        value.copy_(weights[name])


def _check_architecture(ours: dict, theirs: dict, path: str) -> None:
    """Check that the weights in a file are those that a model takes.

    Raises:
        InputError: Names or shapes differ.
    """
    problems = weight_differences(ours, theirs)
    if problems:
        shown = '; '.join(problems[:3])
        raise InputError(
            f'{path} is of another architecture than the config: '
            f'{len(problems)} differences, such as: {shown}. Use the config '
            'that it was trained with'
        )
