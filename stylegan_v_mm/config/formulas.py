"""Formulas of configs: strings that start with "="."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from ..errors import InputError, nearest
from ..registry import is_formula

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
_MISTAKES = ArithmeticError, SyntaxError, TypeError, ValueError


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

    def evaluate(node: ast.AST, pending: tuple[str, ...]) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return variable(node.id, pending)
            case ast.UnaryOp(op=ast.USub()):
                return -evaluate(node.operand, pending)
            case ast.BinOp() if compute := _OPERATORS.get(type(node.op)):
                left = evaluate(node.left, pending)
                return compute(left, evaluate(node.right, pending))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                values = [evaluate(arg, pending) for arg in args]
                if name in _FUNCTIONS:
                    return _FUNCTIONS[name](*values)
        known = 'numbers, variables, arithmetic, min, max, round and int'
        raise InputError(f'only {known} are known')

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
                tree = ast.parse(value[1:].strip(), mode='eval')
                return evaluate(tree.body, pending)
            except _MISTAKES as error:
                where = f'{path}: formula {value!r}'
                raise InputError(f'{where}: {error}') from error
        return value

    resolve(config._cfg_dict, '')
    return used
