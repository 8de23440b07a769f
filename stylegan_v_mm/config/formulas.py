"""Formulas of configs: strings that start with "="."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from ..errors import InputError, nearest
from ..registry import is_formula


def _power(base: float, exponent: float) -> float:
    """Raise to a power, unless the number would fill the memory."""
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and base.bit_length() * exponent > 10_000
    ):
        raise OverflowError('the number is too large')
    return base**exponent


_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable] = {
    'min': min,
    'max': max,
    'round': round,
    'int': int,
}


def _dotted(path: tuple) -> str:
    return '.'.join(map(str, path))


def compute_formulas(config: Config, builtins: dict) -> set[str]:
    """Replace all formulas; return the names of the variables they use."""
    used: set[str] = set()

    def variable(name: str, pending: tuple[str, ...]) -> Any:
        if name in builtins:
            return builtins[name]
        if name not in config:
            raise InputError(
                f'unknown variable {name!r}{nearest(name, config)}'
            )
        if name in pending:
            cycle = ' -> '.join([*pending, name])
            raise InputError(f'variables depend on themselves: {cycle}')
        return resolve(config[name], (name,), (*pending, name))

    def evaluate(node: ast.AST, pending: tuple[str, ...]) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return variable(node.id, pending)
            case ast.BinOp():
                left = evaluate(node.left, pending)
                right = evaluate(node.right, pending)
                for operand in (left, right):
                    if not isinstance(operand, int | float):
                        raise TypeError(f'{operand!r} is no number')
                return _OPERATORS[type(node.op)](left, right)
            case ast.UnaryOp():
                operand = evaluate(node.operand, pending)
                return _OPERATORS[type(node.op)](operand)
            case ast.Compare(ops=[op], comparators=[right]):
                left = evaluate(node.left, pending)
                return _OPERATORS[type(op)](left, evaluate(right, pending))
            case ast.IfExp():
                test = evaluate(node.test, pending)
                return evaluate(node.body if test else node.orelse, pending)
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return _FUNCTIONS[name](
                    *[evaluate(arg, pending) for arg in node.args]
                )
        raise InputError(
            'only numbers, variables, arithmetic, comparison, "a if b else '
            'c", min, max, round and int are known'
        )

    def compute(formula: str, pending: tuple[str, ...]) -> Any:
        try:
            tree = ast.parse(formula[1:].strip(), mode='eval')
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            # The latter for thousands of brackets.
            raise InputError(f'wrong formula {formula!r}: {error}') from error
        # Whichever way an `if` goes now, the other one uses its variables.
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        used.update(names - builtins.keys())
        try:
            return evaluate(tree.body, pending)
        except InputError as error:
            raise InputError(f'formula {formula!r}: {error}') from error
        except (
            KeyError, TypeError, ValueError, ArithmeticError, RecursionError
        ) as error:  # fmt: skip
            values = ', '.join(
                f'{name}={config[name]!r}'
                for name in sorted(names & set(config))
            )
            raise InputError(
                f'wrong formula {formula!r} with {values}: {error}'
            ) from error

    def resolve(value: Any, path: tuple, pending: tuple[str, ...] = ()) -> Any:
        if isinstance(value, dict):
            for key in list(value):
                value[key] = resolve(value[key], (*path, key), pending)
        elif isinstance(value, list | tuple):
            return type(value)(
                resolve(child, (*path, i), pending)
                for i, child in enumerate(value)
            )
        elif is_formula(value):
            try:
                return compute(value, pending)
            except InputError as error:
                raise InputError(f'{_dotted(path)}: {error}') from error
        return value

    resolve(config._cfg_dict, ())
    return used
