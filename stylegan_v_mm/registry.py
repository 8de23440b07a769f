"""The registries of this library: children of mmengine's, one scope.

A config of another OpenMMLab library names our parts with the scope in
front, e.g. ``type='stylegan_v_mm.StyleGANVGenerator'``.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mmengine import registry as root

from .errors import InputError

_SCOPE = 'stylegan_v_mm'


def is_formula(value: object) -> bool:
    """Return whether a value of a config is still to be computed."""
    return isinstance(value, str) and value.startswith('=')


def argument_takers(kind: Callable) -> list[Callable]:
    """List the functions that take the arguments of a part's config.

    Args:
        kind (Callable): The part's type, a class or a function.

    Returns:
        list: The function; or the constructors of a class and its parents,
        to the first one that has no ``**kwargs`` to hand on.
    """
    if not inspect.isclass(kind):
        return [kind]
    takers = []
    for each in kind.__mro__[:-1]:
        if '__init__' in vars(each):
            takers.append(vars(each)['__init__'])
            arguments = inspect.signature(takers[-1]).parameters.values()
            if all(a.kind is not a.VAR_KEYWORD for a in arguments):
                break
    return takers


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
