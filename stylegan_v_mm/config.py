"""Reading configs: formulas over their variables.

A string that starts with ``=`` is a formula over the config's top-level
variables, as in a spreadsheet::

    resolution = 256
    batch_size = 64
    model = dict(r1_gamma='= 0.0002 * resolution**2 / batch_size', ...)

Formulas are computed after all inheritance and command-line options, so that
a config which sets ``resolution = 128`` changes every place that uses it.
"""

import ast
import operator
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.config import DELETE_KEY

from .config_checks import check_parts, runner_arguments
from .errors import InputError, nearest


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

# What a run needs together to train, and to measure.
_PHASES = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def load_config(
    path: str, options: dict | None = None, num_processes: int = 1
) -> Config:
    """Read a config file, compute its formulas and check its keys.

    Args:
        path (str): A python config, with mmengine's ``_base_`` inheritance.
        options (dict, optional): ``--cfg-options``: dotted keys to values.
        num_processes (int): A variable for formulas: how many processes
            train together. Defaults to 1.

    Returns:
        Config: Without formulas.

    Raises:
        InputError: The file is missing or no config; a formula is wrong; a
            key or type is unknown, or a value of another type.
    """
    if not Path(path).is_file():
        raise InputError(f'there is no config file {path}')
    try:
        tempfile.gettempdir()  # mmengine needs one, and says so less clearly
        config = Config.fromfile(path)
    except Exception as error:
        # A config is a program: it can raise anything.
        reason = ' '.join(str(error).split())
        raise InputError(f'{path} cannot be read: {reason}') from error
    try:
        for option in options or {}:
            _check_option(option, config)
        try:
            config.merge_from_dict(options or {})
        except (TypeError, KeyError, ValueError) as error:
            # mmengine's, where an option is a dict and the config has none.
            reason = ' '.join(str(error).split())
            raise InputError(f'the options do not fit: {reason}') from error
        _drop_delete_keys(config._cfg_dict)
        used = _compute_formulas(config, {'num_processes': num_processes})
        _check_top_level(config, used)
        check_parts(config)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    return config


def _drop_delete_keys(value: object) -> None:
    """Remove ``_delete_`` where there was nothing to inherit."""
    if isinstance(value, dict):
        value.pop(DELETE_KEY, None)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for child in value:
            _drop_delete_keys(child)


def _check_option(option: str, config: Config) -> None:
    """Refuse an option that leads nowhere."""
    keys = option.split('.')
    known = runner_arguments() | set(config)
    if keys[0] not in known:
        raise InputError(
            f'unknown key {keys[0]!r} of the option {option!r}'
            f'{nearest(keys[0], known)}'
        )
    value = config._cfg_dict
    for i, key in enumerate(keys):
        place = '.'.join(keys[:i])
        if _is_formula(value):
            raise InputError(
                f'the option {option!r}: {place} is the formula {value!r}; '
                'set what it names, or the whole'
            )
        if isinstance(value, list | tuple):
            if not (key.isdecimal() and int(key) < len(value)):
                raise InputError(
                    f'the option {option!r}: {place} is a list, with places 0 '
                    f'to {len(value) - 1}'
                )
            value = value[int(key)]
        else:
            value = value.get(key, {}) if isinstance(value, dict) else {}


def _dotted(path: tuple) -> str:
    return '.'.join(map(str, path))


def _is_formula(value: object) -> bool:
    return isinstance(value, str) and value.startswith('=')


def _compute_formulas(config: Config, builtins: dict) -> set[str]:
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
        elif _is_formula(value):
            try:
                return compute(value, pending)
            except InputError as error:
                raise InputError(f'{_dotted(path)}: {error}') from error
        return value

    resolve(config._cfg_dict, ())
    return used


def _check_top_level(config: Config, used: set[str]) -> None:
    """Refuse top-level values that nothing uses: most are misspelt.

    A variable counts as used if a formula uses it, or other lines of the
    file do, or an inherited file has it: what used it may have been replaced.
    In the copy that a run leaves in its work dir, formulas are computed, and
    variables left over.
    """
    if not used and {'launcher', 'work_dir'} <= config.keys():
        return
    known = runner_arguments() | used
    for base in Config._get_base_files(config.filename):
        base, _ = Config._get_cfg_path(base, config.filename)
        known |= set(Config.fromfile(base, import_custom_modules=False))
    if config.filename.endswith('.py'):
        source = Path(config.filename).read_text('utf-8')
        known |= {
            node.id
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
    for key, value in config.items():
        hint = nearest(key, known)
        # A part that has no place may be there for a command line to use.
        is_part = isinstance(value, dict | list | tuple)
        if key not in known and (hint or not is_part):
            raise InputError(
                f'unknown key {key!r}: neither an argument of the runner nor '
                f'a variable of a formula{hint}'
            )


def load_runner_config(
    path: str,
    options: dict | None,
    launcher: str,
    work_dir: str | None,
) -> Config:
    """Read a config for the runner of a tool.

    Args:
        path (str): See :func:`load_config`.
        options (dict, optional): See :func:`load_config`.
        launcher (str): 'none', 'pytorch' (torchrun) or 'slurm'.
        work_dir (str, optional): Instead of the config's, or of
            ``work_dirs/NAME_OF_THE_CONFIG``.

    Returns:
        Config: With ``launcher`` and ``work_dir`` set.

    Raises:
        InputError: See :func:`load_config`; or the model or another part of
            a run is not there, the batch cannot be divided, or the work dir
            cannot be written to.
    """
    variable = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS'}.get(launcher)
    num_processes = int(os.environ.get(variable, 1)) if variable else 1
    config = load_config(path, options, num_processes)
    if 'type' not in config.get('model', {}):
        raise InputError(f'{path}: model must be a dict with a type')
    for phase in _PHASES:
        missing = [part for part in phase if config.get(part) is None]
        if 0 < len(missing) < len(phase):
            raise InputError(
                f'{path}: {missing[0]} is None or not there: of '
                f'{", ".join(phase)} set all or none'
            )
    parts = config.get('accumulative_counts', 1)
    batch_size = config.get('batch_size', num_processes * parts)
    if min(batch_size, parts) < 1 or batch_size % (num_processes * parts):
        raise InputError(
            f'{path}: batch_size={batch_size} must be a multiple of the '
            f'{num_processes} processes times accumulative_counts={parts}'
        )
    config.launcher = launcher
    config.work_dir = (
        work_dir or config.get('work_dir') or f'work_dirs/{Path(path).stem}'
    )
    try:
        os.makedirs(config.work_dir, exist_ok=True)
    except OSError as error:
        raise InputError(
            f'the work dir {config.work_dir} cannot be made: {error.strerror}'
        ) from error
    if not os.access(config.work_dir, os.W_OK):
        raise InputError(f'the work dir {config.work_dir} is not writable')
    return config
