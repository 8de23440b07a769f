"""Checks of a config whose formulas are computed: names, types, keys.

Whether values make sense is for the constructors of the parts to say, and
whether parts fit each other for the runner.
"""

import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, UnionType
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import LogProcessor, Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from .. import registry
from ..errors import InputError, nearest

# Keys that mmengine's tools and config reader know besides Runner's arguments.
READER_KEYS = {
    'custom_imports',
    'launcher',
    'model_wrapper_cfg',
    'runner_type',
}

# Dicts that need no type, and who takes their keys.
_TAKERS = {
    'train_dataloader': DataLoader,
    'val_dataloader': DataLoader,
    'test_dataloader': DataLoader,
    'randomness': Runner.set_randomness,
    'env_cfg.mp_cfg': set_multi_processing,
    'log_processor': LogProcessor,
}
# Dicts without which nothing can be built,
_PARTS = re.compile(
    r'\w+_dataloader\.(dataset|sampler)|custom_hooks\.\d+'
    r'|(val|test)_evaluator\.\d+(\.detector)?'
    r'|train_dataloader\.dataset\.pipeline\.\d+'
    r'|optim_wrapper\.\w+\.optimizer|visualizer\.vis_backends\.\d+'
)
# those that may be None,
_OPTIONAL_PARTS = re.compile(
    r'default_hooks\.\w+|visualizer'
    r'|model\.(generator|discriminator|augment|data_preprocessor)'
)
# whose types, as a rule, are these,
_USUAL = {
    'model.generator': 'StyleGANVGenerator',
    'model.discriminator': 'StyleGANVDiscriminator',
    'model.augment': 'VideoAugment',
    'model.data_preprocessor': 'BaseDataPreprocessor',
}
# and those that need no type.
_DICTS = re.compile(r'env_cfg\.(mp_cfg|dist_cfg)')
# What mmengine's runner adds to loops and samplers.
_SUPPLIED = ('runner', 'dataloader', 'dataset')
_SCOPE = 'stylegan_v_mm'
# The libraries whose annotations tell the truth.
_ANNOTATED = (_SCOPE, 'mmengine', 'torch')
_LISTS = (list, tuple, Sequence)
_WORDS: dict[Any, str] = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a finite number',
    str: 'a string',
    type(None): 'None',
    Mapping: 'a dict',
    dict: 'a dict',
    **dict.fromkeys(_LISTS, 'a list'),
}


def runner_arguments() -> set[str]:
    """Name what a config's top level may hold."""
    return {*_arguments(Runner), *READER_KEYS}


def check_parts(config: Config) -> None:
    """Refuse unknown types and keys, and values of another type.

    Args:
        config (Config): Without formulas.

    Raises:
        InputError: Names the first mistake, and the nearest valid name.
    """
    known = _registered(root) | _registered(registry)
    scope = config.get('default_scope', _SCOPE)
    content = config._cfg_dict
    given = {key: content[key] for key in content if key != 'work_dir'}
    _check_types('', given, Runner)
    # Variables beside them may be completed where they are used.
    in_use = runner_arguments()
    for path, value in _walk(content):
        name = '.'.join(map(str, path))
        kind = value.get('type') if isinstance(value, Mapping) else None
        if kind is None:
            if _PARTS.fullmatch(name) or (
                value is not None and _OPTIONAL_PARTS.fullmatch(name)
            ):
                _refuse_untyped(name, value, content)
            if _DICTS.fullmatch(name) and not isinstance(value, Mapping):
                raise InputError(f'{name}={value!r} must be a dict')
            if isinstance(value, Mapping) and name in _TAKERS:
                taker = _TAKERS[name]
                _check_keys(name, value, taker)
                if taker is DataLoader and value.get('dataset') is None:
                    raise InputError(f'{name} must have a dataset')
                _check_types(name, value, taker)
            continue
        if isinstance(kind, str):
            prefix, _, short = kind.rpartition('.')
            own = prefix or value.get('_scope_') or scope
            if own not in (_SCOPE, 'mmengine'):
                continue  # Of another library: it is for that to say.
            if short not in known:
                raise InputError(
                    f'unknown type {kind!r} of {name}: no part is registered '
                    f'by that name{nearest(short, known)}'
                )
            kind = known[short]
        if not callable(kind):
            raise InputError(f'{name}.type={kind!r} must be a name or a class')
        _check_keys(name, value, kind)
        library = kind.__module__.split('.')[0]
        # What calls a function gives it the rest of its arguments.
        if path[0] in in_use and library == _SCOPE and inspect.isclass(kind):
            _check_complete(name, value, kind)
        if library in _ANNOTATED:
            _check_types(name, value, kind)


def _registered(module: ModuleType) -> dict[str, Callable]:
    """List what the registries of a module hold."""
    parts: dict[str, Callable] = {}
    for each in vars(module).values():
        if isinstance(each, Registry):
            each.import_from_location()
            parts |= each.module_dict
    return parts


def _walk(value: object, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield what is in a config, and the keys that lead to it."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return
    for key, child in items:
        yield (*path, key), child
        yield from _walk(child, (*path, key))


def _refuse_untyped(name: str, value: object, content: Mapping) -> None:
    parent, _, key = name.removesuffix('.optimizer').rpartition('.')
    hint = f', as a rule {_USUAL[name]!r}' if name in _USUAL else ''
    if parent in ('default_hooks', 'optim_wrapper'):
        others = {k for k, v in content[parent].items() if v and k != key}
        hint = nearest(key, others)
    shown = textwrap.shorten(repr(value), 100)
    raise InputError(f'{name}={shown} must be a dict with a type{hint}')


def _constructors(kind: Callable) -> list[Callable]:
    """List who takes the arguments of a function or class.

    ``**kwargs`` of a class go on to its parent.
    """
    if not inspect.isclass(kind):
        return [kind]
    found = []
    for each in kind.__mro__[:-1]:
        if '__init__' in vars(each):
            found.append(vars(each)['__init__'])
            if not _is_open(found[-1]):
                break
    return found


def _is_open(function: Callable) -> bool:
    """Whether a function takes keys of any name."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _arguments(kind: Callable) -> dict[str, inspect.Parameter]:
    """List the arguments that have a name."""
    found: dict[str, inspect.Parameter] = {}
    for function in reversed(_constructors(kind)):
        found |= inspect.signature(function).parameters
    return {
        name: parameter
        for name, parameter in found.items()
        if name != 'self'
        and parameter.kind
        not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def _check_keys(path: str, part: Mapping, kind: Callable) -> None:
    """Refuse keys that the class or function does not take."""
    constructors = _constructors(kind)
    if not constructors or _is_open(constructors[-1]):
        return
    known = {*_arguments(kind), 'type', '_scope_'}
    for key in part:
        if key not in known:
            raise InputError(
                f'unknown key {f"{path}.{key}"!r}: {kind.__name__} takes no '
                f'{key!r}{nearest(key, known)}'
            )


def _check_complete(path: str, part: Mapping, kind: Callable) -> None:
    """Refuse parts that lack an argument without a default."""
    needed: list[str] = []
    for constructor in _constructors(kind):
        parameters = inspect.signature(constructor).parameters.values()
        needed += [
            p.name
            for p in parameters
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        # One that names what its parent needs may set some of that itself.
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            break
    missing = [
        name
        for name in needed
        if name not in ('self', *_SUPPLIED) and name not in part
    ]
    if missing:
        raise InputError(f'{path}: {kind.__name__} needs {", ".join(missing)}')


def _check_types(path: str, part: Mapping, kind: Callable) -> None:
    """Refuse values that are not of the annotated type."""
    hints: dict[str, Any] = {}
    for function in reversed(_constructors(kind)):
        try:
            hints |= typing.get_type_hints(function)
        except NameError:  # Names that are imported for type checkers only.
            continue
    for name, parameter in _arguments(kind).items():
        if name not in part or name not in hints:
            continue
        value, hint = part[name], hints[name]
        if not (value == parameter.default or _fits(value, hint)):
            raise InputError(
                f'{f"{path}.{name}".lstrip(".")}={value!r} must be '
                f'{_describe(hint)}'
            )


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config is of an annotated type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Literal:
        return value in inner
    if hint is Any:
        return True
    if isinstance(value, Mapping) and 'type' in value:
        return True  # What is built of it counts.
    hint = origin or hint
    if hint in (int, float):
        numbers = int | float if hint is float else int
        is_number = isinstance(value, numbers) and not isinstance(value, bool)
        most = 2**63 - 1 if hint is int else sys.float_info.max
        return is_number and abs(value) <= most
    if hint in _LISTS:
        return isinstance(value, list | tuple) and (
            hint is tuple
            or all(_fits(each, kind) for each in value for kind in inner)
        )
    return not inspect.isclass(hint) or isinstance(value, hint)


def _describe(hint: Any) -> str:
    """Say what an annotation wants."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return ' or '.join(dict.fromkeys(map(_describe, inner)))
    if origin is typing.Literal:
        return ' or '.join(map(repr, inner))
    hint = origin or hint
    return _WORDS.get(hint, getattr(hint, '__name__', str(hint)))
