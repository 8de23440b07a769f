"""Formulas of configs: strings that start with "="."""

import ast
from typing import Any

from mmengine.config import Config
from simpleeval import simple_eval

from ..errors import InputError, nearest
from ..registry import is_formula

_CALLS = dict(min=min, max=max, round=round, int=int)


def compute_formulas(config: Config) -> set[str]:
    """Replace all formulas; return the names of the variables they use.

    Raises:
        InputError: Names where the formula is, and what is wrong with it.
    """
    used: set[str] = set()

    def resolve(value: Any, path: str, pending: tuple[str, ...] = ()) -> Any:
        def variable(node: ast.Name) -> Any:
            name = node.id
            used.add(name)
            if name not in config:
                hint = nearest(name, config)
                raise InputError(f'unknown variable {name!r}{hint}')
            if name in pending:
                cycle = ' -> '.join([*pending, name])
                raise InputError(f'variables depend on themselves: {cycle}')
            return resolve(config[name], name, (*pending, name))

        if isinstance(value, dict):
            for key in list(value):
                inner = f'{path}.{key}'.lstrip('.')
                value[key] = resolve(value[key], inner, pending)
        elif isinstance(value, list | tuple):
            return type(value)(
                resolve(child, f'{path}.{i}', pending)
                for i, child in enumerate(value)
            )
        elif is_formula(value):
            try:
                return simple_eval(value[1:], functions=_CALLS, names=variable)
            except Exception as e:
                raise InputError(f'{path}: formula {value!r}: {e}') from e
        return value

    resolve(config._cfg_dict, '')
    return used
