"""Find and load trained models."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import DefaultScope

from ..checkpoints.loading import (
    average_weights,
    load_average,
    load_checkpoint,
)
from ..checkpoints.saving import newest_checkpoint
from ..config.loading import load_config
from ..errors import InputError, refusals
from ..models.sampler import Sampler
from ..models.shared import network_config
from ..registry import MODELS
from ..zoo import zoo_model, zoo_models

# Suffixes of configs that mmengine reads.
_CONFIGS = ('.py', '.json', '.yaml', '.yml')


class ModelFiles(NamedTuple):
    """The files of a trained model."""

    config: str
    checkpoint: str


def find_model(
    model: str, weights: str | None = None, metric: str | None = None
) -> ModelFiles:
    """Find the config and the checkpoint of a model.

    Args:
        model (str): A config file, a work dir, the name of a model in
            :mod:`stylegan_v_mm.zoo`, or ``OWNER/NAME`` on the Hugging Face
            hub, which is downloaded once into the hub's cache. A path that
            exists takes precedence over a name.
        weights (str, optional): A checkpoint file or URL, a work dir, or a
            name in the zoo. Defaults to None, the weights of ``model``.
        metric (str, optional): Metric that chooses among the checkpoints of a
            work dir; ``tools/test.py`` must have measured it. Defaults to
            None: the best checkpoint if training kept it, else the newest.

    Returns:
        ModelFiles: The two files; the checkpoint may be a URL.

    Raises:
        InputError: A file, folder or name does not exist.
    """
    folder, named = Path(model), zoo_model(model)
    if named is not None:
        config, weights = Path(named.config), weights or named.weights
    elif folder.suffix in _CONFIGS:
        if weights is None:
            raise InputError(
                f'{model} is a config: give a checkpoint or a work dir, too'
            )
        config = folder
    else:
        if not folder.is_dir():
            folder = download_from_hub(model)
        configs = sorted(folder.glob('*.py'))
        if len(configs) != 1:
            raise InputError(
                f'{folder} holds {len(configs)} configs (*.py): name the '
                'config and the checkpoint instead'
            )
        (config,) = configs
        weights = weights or str(folder)
    if Path(weights).is_dir():
        weights = str(best_checkpoint(Path(weights), metric))
    return ModelFiles(str(config), weights)


def best_checkpoint(folder: Path, metric: str | None = None) -> Path:
    """Choose a checkpoint of a work dir, see :func:`find_model`.

    Raises:
        InputError: There is none, or the metric was measured for none.
    """
    if metric is not None:
        return _best_measured(folder, metric)
    kept = sorted(folder.glob('best_*.pth'))
    if len(kept) == 1:
        return kept[0]
    newest = newest_checkpoint(folder)
    if newest is not None:
        return newest
    others = [
        path
        for suffix in ('pth', 'safetensors')
        for path in folder.glob(f'*.{suffix}')
    ]
    if len(others) != 1:
        raise InputError(
            f'{folder} holds {len(others)} checkpoints (*.pth, *.safetensors) '
            'none of which is named iter_N.pth: name one instead'
        )
    return others[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is too long.
        return False


# Of these metrics, greater values are better; of all others, smaller ones.
_GREATER_IS_BETTER = ('IS', 'Precision', 'Recall', 'Density', 'Coverage')


def _best_measured(folder: Path, metric: str) -> Path:
    """Find the checkpoint with the best value in ``metrics.jsonl``."""
    file = folder / 'metrics.jsonl'
    hint = (
        f'python tools/test.py CONFIG {folder} --work-dir {folder} measures '
        'all checkpoints'
    )
    if not file.is_file():
        raise InputError(f'there is no file {file}: {hint}')
    values, names = {}, set()
    lines = file.read_text(errors='replace').splitlines()
    for number, line in enumerate(lines, 1):
        try:
            result = json.loads(line)
            path = folder / Path(result.get('checkpoint', '')).name
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise InputError(
                f'{file}, line {number} is damaged: remove it'
            ) from None
        names |= {k for k, v in result.items() if isinstance(v, float)}
        if isinstance(result.get(metric), int | float) and _is_file(path):
            values[path] = result[metric]
    if not values:
        raise InputError(
            f'{file} has no {metric} of a checkpoint that is there, only '
            f'{", ".join(sorted(names)) or "nothing"}: {hint}'
        )
    greater = metric.startswith(_GREATER_IS_BETTER)
    return (max if greater else min)(values, key=values.__getitem__)


def download_from_hub(name: str) -> Path:
    """Download a model from the Hugging Face hub into its cache.

    Only config, weights and measurements are downloaded. A config is a
    program: use only models of people whom you trust.

    Args:
        name (str): ``OWNER/NAME``.

    Returns:
        Path: The folder.

    Raises:
        InputError: The name is not valid, there is no such model, or the hub
            cannot be reached.
    """
    if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
        raise InputError(
            f'there is no folder {name}, and no model of that name: there is '
            f'{", ".join(zoo_models())}'
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import HfHubHTTPError
    except ImportError as error:
        raise InputError(
            f'there is no folder {name}; to look for it on the Hugging Face '
            'hub, pip install huggingface_hub'
        ) from error
    try:
        folder = snapshot_download(
            name,
            allow_patterns=['*.py', '*.pth', '*.safetensors', '*.jsonl'],
        )
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise InputError(
            f'there is no folder {name}, and the Hugging Face hub does not '
            f'give it either: {reason}'
        ) from error
    return Path(folder)


def load_sampler(
    config: str,
    checkpoint: str,
    device: str | None = None,
    options: dict | None = None,
) -> Sampler:
    """Build the generator of a config and load its average weights.

    Args:
        config (str): Config file.
        checkpoint (str): Checkpoint of a training run, a local path or https
            URL; or a name in the zoo.
        device (str, optional): Defaults to the GPU if there is one.
        options (dict, optional): Config settings to override.

    Returns:
        Sampler: Sampler of the generator.

    Raises:
        InputError: A file is missing or damaged, the device is not there, or
            the checkpoint is of another architecture.
    """
    return build_sampler(load_config(config, options), checkpoint, device)


def fps_of(config: dict) -> float:
    """Return the frames per second of the data, 25 if a config has no fps.

    Raises:
        InputError: It is not positive.
    """
    fps = float(config.get('fps', 25))
    if not fps > 0:
        raise InputError(f'fps={fps} in the config must be positive')
    return fps


def build_sampler(
    config: dict, checkpoint: str, device: str | None = None
) -> Sampler:
    """Build the sampler of a config that is read; see :func:`load_sampler`."""
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = config.get('model', {})
    if 'type' not in model.get('generator', {}):
        raise InputError('model.generator must be a dict with a type')
    weights = average_weights(load_checkpoint(checkpoint))
    # A run of another library may have left its scope.
    scope = config.get('default_scope', MODELS.scope)
    with DefaultScope.overwrite_default_scope(scope), refusals('model'):
        generator = MODELS.build(network_config(model, 'generator'))
    load_average(generator, weights, checkpoint)
    try:
        generator.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'device {device} cannot be used: {error}') from error
    return Sampler(generator.eval().requires_grad_(False))
