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

# Prefix of the average generator in a state dict.
AVERAGE = 'generator_ema.'
# Keys of the state dict in a file, and the networks' names in other libraries.
_STATE_KEYS = ('state_dict', 'model')
_NETWORKS = {'G_ema': 'generator_ema', 'G': 'generator', 'D': 'discriminator'}
# What DistributedDataParallel and torch.compile insert into names.
_WRAPPERS = ('module', '_orig_mod')


def _history_method(owner: type, name: str) -> Callable:
    """Replace ``getattr``, with which a log history refers to its methods."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'it asks for {owner}.{name}')


_MADE_BY = {'_reconstruct': np.zeros(1), 'scalar': np.float64(0)}
# The types of the log history, which mmengine's checkpoints hold besides
# tensors and plain containers. ``weights_only`` rejects all others.
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
            the user's cache), or the name of a model in
            :mod:`stylegan_v_mm.zoo`. A ``.safetensors`` file holds weights
            only. So may other files, as one state dict or one per network.

    Returns:
        dict: ``state_dict`` with the names of the file, and whatever else
        mmengine saved, on the CPU.

    Raises:
        InputError: The file is missing or damaged, holds more than weights
            and plain data, or is not a checkpoint.
    """
    named = zoo_model(str(path))
    file = local_file(
        named.weights if named else path,
        'training writes iter_*.pth into its work dir; named models: '
        f'{", ".join(zoo_models())}',
    )
    try:
        if file.suffix == '.safetensors':
            return {'state_dict': load_file(file)}
        _check_uncompressed(file)
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
    """Find the weights in the content of a file; None if there are none."""
    if not isinstance(content, dict):
        return None
    keys = [key for key in _STATE_KEYS if isinstance(content.get(key), dict)]
    if keys:
        content = content[keys[0]]
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
    # A state dict holds only weights; a file without one may hold more.
    good = len(dense) == len(weights) if keys else bool(dense)
    return dense if good else None


def plain_names(weights: dict, ours: Container[str] = ()) -> dict:
    """Rename weights as if networks were neither wrapped nor saved apart.

    Args:
        weights (dict): A state dict. ``module.`` and ``_orig_mod.`` are
            removed from its names, and ``G_ema``, ``G`` and ``D`` are replaced
            by our names. The state dict of a single generator is treated as
            that of the average generator.
        ours (container): Names of the model's weights, which are kept.

    Returns:
        dict: The same weights by their new names.
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


def _check_uncompressed(file: Path) -> None:
    """Raise if a zip is compressed, as a bomb is; torch never compresses."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type for entry in archive.infolist()):
                raise ValueError('it is compressed')


def _is_dense(value: object) -> bool:
    """Whether a value is a dense tensor, as a network's weights are."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_nested or value.is_quantized)
    )


def config_values(text: str) -> dict[str, str]:
    """Parse the values in the text of a config, such as a checkpoint's.

    Args:
        text (str): mmengine's ``Config.pretty_text``. Damaged text gives no
            values.

    Returns:
        dict: The values as Python expressions, by dotted keys.
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
        # Thousands of brackets raise one of the last two.
        return {}
    return values


def weight_differences(ours: dict, theirs: dict) -> list[str]:
    """List the differences between two state dicts in names and shapes.

    Args:
        ours (dict): The expected state dict.
        theirs (dict): The actual one.

    Returns:
        list: Phrases whose subject is ``theirs``; empty if they agree.
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

    A checkpoint with the average generator may lack the generator that is
    trained, the discriminator and the counters, as sampling and evaluation
    use the average alone. What it lacks keeps its values.

    Args:
        model (nn.Module): The model to load the weights into.
        checkpoint (dict): From :func:`load_checkpoint`.
        path (str): Path of the file, for messages.

    Raises:
        InputError: Names or shapes differ, so the architecture is another.
    """
    ours = model.state_dict()
    theirs = plain_names(checkpoint['state_dict'], ours)
    parts = {name.partition('.')[0] for name in theirs}
    if 'generator_ema' in parts and 'generator' not in parts:
        ours = {x: ours[x] for x in ours if x.partition('.')[0] in parts}
    _check_architecture(ours, theirs, path)
    load_state_dict(model, model.state_dict() | theirs, strict=True)


def average_weights(checkpoint: dict) -> dict:
    """Select the weights of the average generator.

    Args:
        checkpoint (dict): From :func:`load_checkpoint`.

    Returns:
        dict: The weights whose names start with :data:`AVERAGE`.
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
        generator (nn.Module): The generator to load the weights into.
        weights (dict): From :func:`average_weights`.
        path (str): Path of the file, for messages.

    Raises:
        InputError: Names or shapes differ, so the architecture is another.
    """
    state = generator.state_dict()
    ours = plain_names({AVERAGE + name: x for name, x in state.items()})
    _check_architecture(ours, weights, path)
    for name, value in ours.items():
        value.copy_(weights[name])


def _check_architecture(ours: dict, theirs: dict, path: str) -> None:
    """Check that the weights in a file fit a model.

    Raises:
        InputError: Names or shapes differ.
    """
    problems = weight_differences(ours, theirs)
    if problems:
        shown = '; '.join(problems[:3])
        raise InputError(
            f'{path} has another architecture than the config, with '
            f'{len(problems)} differences, such as: {shown}. Use the config '
            'that it was trained with'
        )
