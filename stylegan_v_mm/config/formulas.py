"""Formulas of configs: strings that start with "="."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from ..errors import InputError, nearest
from ..registry import is_formula

# Arithmetic, and nothing that chooses.
_FUNCTIONS: dict[str, Callable] = dict(min=min, max=max, round=round, int=int)
_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


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
        values: dict[str, Any] = {}

        def evaluate(node: ast.AST) -> Any:
            match node:
                case ast.Constant():
                    return node.value
                case ast.Name(id=name):
                    return values.setdefault(name, variable(name, pending))
                case ast.UnaryOp(op=ast.USub()):
                    return -evaluate(node.operand)
                case ast.BinOp() if type(node.op) in _OPERATORS:
                    left, right = evaluate(node.left), evaluate(node.right)
                    return _OPERATORS[type(node.op)](left, right)
                case ast.Call(func=ast.Name(id=name), keywords=[]) if (
                    name in _FUNCTIONS
                ):
                    return _FUNCTIONS[name](*map(evaluate, node.args))
            raise InputError(
                'only numbers, variables, arithmetic, min, max, round and int '
                'are known'
            )

        tree = ast.parse(formula[1:].strip(), mode='eval')
        try:
            return evaluate(tree.body)
        except InputError:
            raise
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
