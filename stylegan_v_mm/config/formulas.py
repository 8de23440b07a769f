"""Formulas of configs: strings that start with "="."""

import ast
from typing import Any

from mmengine.config import Config

from ..errors import InputError, nearest
from ..registry import is_formula

_FUNCTIONS = dict(min=min, max=max, round=round, int=int)
# Arithmetic, and nothing that chooses.
_NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call),
    *(ast.BinOp, ast.operator, ast.UnaryOp, ast.USub),
)


def compute_formulas(config: Config, builtins: dict) -> set[str]:
    """Replace all formulas; return the names of the variables they use.

    Variables are the config's top-level values and ``builtins``.

    Raises:
        InputError: Names where the formula is, and what is wrong with it.
    """
    used: set[str] = set()

    def variable(name: str, pending: tuple[str, ...]) -> Any:
        if name in builtins:
            return builtins[name]
        used.add(name)
        if name not in config:
            raise InputError(
                f'unknown variable {name!r}{nearest(name, config)}'
            )
        if name in pending:
            cycle = ' -> '.join([*pending, name])
            raise InputError(f'variables depend on themselves: {cycle}')
        return resolve(config[name], name, (*pending, name))

    def compute(formula: str, pending: tuple[str, ...]) -> Any:
        tree = ast.parse(formula[1:].strip(), mode='eval')
        nodes = list(ast.walk(tree))
        if not all(isinstance(node, _NODES) for node in nodes):
            raise InputError(
                'only numbers, variables, arithmetic, min, max, round and int '
                'are known'
            )
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        values = {n: variable(n, pending) for n in names - _FUNCTIONS.keys()}
        code = compile(tree, formula, 'eval')
        try:
            return eval(code, {'__builtins__': {}}, _FUNCTIONS | values)
        except (ArithmeticError, TypeError, ValueError) as error:
            shown = ', '.join(f'{k}={v!r}' for k, v in sorted(values.items()))
            raise InputError(f'{error}, with {shown}') from error

    def resolve(value: Any, path: str, pending: tuple[str, ...] = ()) -> Any:
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
                return compute(value, pending)
            except (SyntaxError, ValueError) as error:
                raise InputError(
                    f'{path}: formula {value!r}: {error}'
                ) from error
        return value

    resolve(config._cfg_dict, '')
    return used
