"""The registries of this library: children of mmengine's, one scope.

A config of another OpenMMLab library names our parts with the scope in
front, e.g. ``type='stylegan_v_mm.StyleGANVGenerator'``.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from mmengine import registry as root

from .errors import InputError

_SCOPE = 'stylegan_v_mm'


def is_formula(value: object) -> bool:
    """Return whether a value of a config is still to be computed."""
    return isinstance(value, str) and value.startswith('=')


class Arguments(NamedTuple):
    """What a class or function takes.

    Attributes:
        parameters (dict): By name.
        types (dict): Annotations, by name.
        others (bool): Whether it takes other names, too.
    """

    parameters: dict[str, inspect.Parameter]
    types: dict[str, Any]
    others: bool


@functools.cache
def arguments_of(kind: Callable) -> Arguments:
    """Find the arguments of a part of a config.

    Args:
        kind (Callable): The part's type, a function or a class: then its
            constructor and those of its parents count, to the first one that
            has no ``**kwargs`` to hand on.
    """
    takers = [kind]
    if inspect.isclass(kind):
        classes = map(vars, kind.__mro__[:-1])
        takers = [each['__init__'] for each in classes if '__init__' in each]
    parameters: dict[str, inspect.Parameter] = {}
    types: dict[str, Any] = {}
    for taker in takers:
        found = inspect.signature(taker).parameters
        parameters = {**found, **parameters}
        with suppress(NameError):  # Names that type checkers alone import.
            types = {**typing.get_type_hints(taker), **types}
        if all(x.kind is not x.VAR_KEYWORD for x in found.values()):
            return Arguments(parameters, types, others=False)
    return Arguments(parameters, types, others=True)


def _build_model(cfg: dict, *args: Any, **kwargs: Any) -> Any:
    """Build a network, a model or a detector, as mmengine does.

    Raises:
        InputError: The config holds formulas that have not been computed.
    """
    for key, value in dict(cfg).items():
        if is_formula(value):
            raise InputError(
                f'{key}={value!r} of {cfg.get("type")} is a formula: build '
                'what stylegan_v_mm.config.load_config(FILE) or '
                'resolve_config(config) returns'
            )
    return root.MODELS.build_func(cfg, *args, **kwargs)


def _child(
    parent: root.Registry, *packages: str, build_func: Callable | None = None
) -> root.Registry:
    return root.Registry(
        parent.name,
        build_func=build_func,
        parent=parent,
        scope=_SCOPE,
        locations=[f'{_SCOPE}.{package}' for package in packages],
    )


MODELS = _child(root.MODELS, 'models', 'evaluation', build_func=_build_model)

MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, 'engine')

DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')

METRICS = _child(root.METRICS, 'evaluation')

HOOKS = _child(root.HOOKS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
RUNNERS = _child(root.RUNNERS, 'engine')

# These are empty, but mmengine warns at each look-up in a scope without them.
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets')
EVALUATOR = _child(root.EVALUATOR, 'evaluation')
FUNCTIONS = _child(root.FUNCTIONS, 'datasets')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
LOOPS = _child(root.LOOPS, 'engine')
OPTIMIZERS = _child(root.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine')
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'engine')
VISBACKENDS = _child(root.VISBACKENDS, 'engine')
VISUALIZERS = _child(root.VISUALIZERS, 'engine')
