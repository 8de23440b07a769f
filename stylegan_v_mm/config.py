"""Reading configs: formulas over their variables, and checks of their keys.

A string that starts with ``=`` is a formula over the config's top-level
variables, as in a spreadsheet::

    resolution = 256
    batch_size = 64
    model = dict(r1_gamma='= 0.0002 * resolution**2 / batch_size', ...)

Formulas are computed after all inheritance and command-line options, so that
a config which sets ``resolution = 128`` changes every place that uses it.
"""

import ast
import difflib
import inspect
import operator
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner

from . import registry
from .errors import InputError

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS = {'min': min, 'max': max, 'round': round, 'int': int}

# Keys that mmengine's tools and config reader know besides Runner's arguments.
_READER_KEYS = {'runner_type', 'custom_imports', 'launcher'}


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
            key is unknown.
    """
    if not Path(path).is_file():
        raise InputError(f'there is no config file {path}')
    try:
        config = Config.fromfile(path)
        config.merge_from_dict(options or {})
    except Exception as error:
        # A config is a program: it can raise anything.
        raise InputError(f'{path} cannot be read: {error}') from error
    try:
        used = _compute_formulas(config, {'num_processes': num_processes})
        _check_top_level(config, used)
        _check_components(config)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    return config


def _components(value, path: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    """Yield every dict with a ``type``, and the keys that lead to it."""
    items = ()
    if isinstance(value, dict):
        if 'type' in value:
            yield path, value
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, child in items:
        yield from _components(child, (*path, key))


def _dotted(path: tuple) -> str:
    return '.'.join(map(str, path))


def _is_formula(value) -> bool:
    return isinstance(value, str) and value.startswith('=')


def _compute_formulas(config: Config, builtins: dict) -> set[str]:
    """Replace all formulas; return the names of the variables they use."""
    used: set[str] = set()

    def variable(name: str, pending: tuple[str, ...]):
        if name in builtins:
            return builtins[name]
        if name not in config:
            raise InputError(f'unknown variable {name!r}')
        if name in pending:
            cycle = ' -> '.join([*pending, name])
            raise InputError(f'variables depend on themselves: {cycle}')
        used.add(name)
        return resolve(config[name], (name,), (*pending, name))

    def evaluate(node: ast.AST, pending: tuple[str, ...]):
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return variable(node.id, pending)
            case ast.BinOp():
                left = evaluate(node.left, pending)
                right = evaluate(node.right, pending)
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

    def compute(formula: str, pending: tuple[str, ...]):
        try:
            tree = ast.parse(formula[1:].strip(), mode='eval')
        except SyntaxError as error:
            raise InputError(f'wrong formula {formula!r}: {error}') from error
        try:
            return evaluate(tree.body, pending)
        except (KeyError, TypeError, ArithmeticError) as error:
            names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            values = ', '.join(
                f'{name}={config[name]!r}'
                for name in sorted(names & set(config))
            )
            raise InputError(
                f'wrong formula {formula!r} with {values}: {error}'
            ) from error
        except InputError as error:
            raise InputError(f'formula {formula!r}: {error}') from error

    def resolve(value, path: tuple, pending: tuple[str, ...] = ()):
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


def _nearest(name: str, known: set[str]) -> str:
    match = difflib.get_close_matches(name, known, 1)
    return f'; did you mean {match[0]!r}?' if match else ''


def _check_top_level(config: Config, used: set[str]) -> None:
    """Refuse top-level values that nothing uses: most are misspelt.

    A variable counts as used if a formula uses it or an inherited file has
    it: the formula may have been replaced. In the copy that a run leaves in
    its work dir, formulas are computed, and variables left over.
    """
    if not used and {'launcher', 'work_dir'} <= config.keys():
        return
    known = set(inspect.signature(Runner.__init__).parameters) - {'self'}
    known |= _READER_KEYS | used
    for base in Config._get_base_files(config.filename):
        base = base[0] if isinstance(base, tuple) else base
        base = Path(config.filename).parent / base
        known |= set(Config.fromfile(base, import_custom_modules=False))
    for key, value in config.items():
        # Lists and dicts may be parts that the file itself has put in place.
        if key not in known and not isinstance(value, dict | list | tuple):
            raise InputError(
                f'unknown key {key!r}: neither an argument of the runner nor '
                f'a variable of a formula{_nearest(key, known)}'
            )


def _check_components(config: Config) -> None:
    """Refuse keys that the class named by ``type`` does not take."""
    classes = {}
    for parts in vars(registry).values():
        if isinstance(parts, Registry):
            parts.import_from_location()
            classes |= parts.module_dict
    for path, component in _components(config._cfg_dict):
        name = str(component['type']).removeprefix('stylegan_v_mm.')
        if name not in classes:
            continue
        parameters = inspect.signature(classes[name].__init__).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        known = set(parameters) - {'self'} | {'type', '_scope_'}
        for key in component:
            if key not in known:
                raise InputError(
                    f'unknown key {_dotted((*path, key))!r}: {name} takes no '
                    f'{key!r}{_nearest(key, known)}'
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
        InputError: See :func:`load_config`; or the batch cannot be divided,
            or the work dir not be written to.
    """
    variable = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS'}.get(launcher)
    num_processes = int(os.environ.get(variable, 1)) if variable else 1
    config = load_config(path, options, num_processes)
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
