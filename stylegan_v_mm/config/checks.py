"""Checks of names, types and keys; values are for constructors to check."""

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

from .. import registry
from ..errors import InputError, nearest

# Dicts that need no type, and what takes their keys.
_TAKERS = {
    **{f'{x}_dataloader': DataLoader for x in ('train', 'val', 'test')},
    'randomness': Runner.set_randomness,
    'log_processor': LogProcessor,
}
# What has to be a dict with a type, or for some None.
_PARTS = re.compile(
    r'\w+_dataloader\.(dataset|sampler)|custom_hooks\.\d+'
    r'|(val|test)_evaluator\.\d+(\.detector)?|optim_wrapper\.\w+\.optimizer'
    r'|train_dataloader\.dataset\.pipeline\.\d+|model\.(generator|discriminator)'
    r'|(?P<optional>default_hooks\.\w+|visualizer'
    r'|model\.(augment|data_preprocessor))'
)


def runner_arguments() -> set[str]:
    """List what a config's top level may hold, for runners and tools."""
    more = {'custom_imports', 'model_wrapper_cfg', 'runner_type'}
    return more | inspect.signature(Runner).parameters.keys()


def check_parts(config: Config) -> None:
    """Check the types, keys and values of all parts, without formulas.

    Raises:
        InputError: Names the first mistake, and the nearest valid name.
    """
    known: dict[str, Callable] = {}
    for each in [*vars(root).values(), *vars(registry).values()]:
        if isinstance(each, root.Registry):
            each.import_from_location()
            known |= each.module_dict
    default_scope = config.get('default_scope', registry.MODELS.scope)

    def visit(name: str, value: Any) -> None:
        kind, inner = None, ()
        if isinstance(value, Mapping):
            kind, inner = value.get('type', _TAKERS.get(name)), value.items()
        elif isinstance(value, list | tuple):
            inner = enumerate(value)
        part = _PARTS.fullmatch(name)
        if part and kind is None and (value or not part['optional']):
            raise InputError(f'{name}={value!r} must be a dict with a type')
        if isinstance(kind, str):
            scope, _, short = kind.rpartition('.')
            scope = scope or value.get('_scope_', default_scope)
            kind = known.get(short)
            if scope not in (registry.MODELS.scope, 'mmengine'):
                kind = None  # Another library's type: it validates itself.
            elif kind is None:
                raise InputError(
                    f'unknown type {value["type"]!r} of {name}: no part is '
                    f'registered by that name{nearest(short, known)}'
                )
        if kind is DataLoader and 'dataset' not in value:
            raise InputError(f'{name} must have a dataset')
        if callable(kind):
            _check_arguments(f'{name}.', value, kind)
        for key, child in inner:
            visit(f'{name}.{key}'.lstrip('.'), child)

    arguments = inspect.signature(Runner).parameters.keys() - {'work_dir'}
    given = {key: config[key] for key in arguments if key in config}
    _check_arguments('', given, Runner)
    visit('', config._cfg_dict)


def _check_arguments(prefix: str, part: Mapping, kind: Callable) -> None:
    """Check keys and values against what a class or function takes."""
    taken, hints, others = registry.arguments_of(kind)
    if others:
        return
    for key, value in part.items():
        if key in ('type', '_scope_'):
            continue
        if key not in taken:
            raise InputError(
                f'unknown key {prefix + key!r}: {kind.__name__} takes no '
                f'{key!r}{nearest(key, taken)}'
            )
        if value != taken[key].default and not _fits(value, hints.get(key)):
            wanted = inspect.formatannotation(hints[key])
            raise InputError(f'{prefix}{key}={value!r} must be {wanted}')


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value of a config is of an annotated type."""
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Union, UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if isinstance(value, Mapping) and 'type' in value:
        return True  # What is built of it counts.
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is Any or not inspect.isclass(kind):
        return True
    kinds = {float: int | float, list: list | tuple, tuple: list | tuple}
    return isinstance(value, kinds.get(kind, kind))
