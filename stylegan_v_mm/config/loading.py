"""Read configs, compute their formulas and check them."""

import ast
import os
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed

from ..errors import InputError, nearest
from .checks import check_parts, runner_arguments
from .formulas import compute_formulas


def load_config(
    path: str, options: dict | None = None, num_processes: int | None = None
) -> Config:
    """Read a config file, compute its formulas and check its keys.

    Args:
        path (str): A python config, with mmengine's ``_base_`` inheritance.
        options (dict, optional): ``--cfg-options``: dotted keys to values.
        num_processes (int, optional): See :func:`resolve_config`.

    Returns:
        Config: Without formulas.

    Raises:
        InputError: The file is missing or no config, an option does not fit,
            or see :func:`resolve_config`.
    """
    if not Path(path).is_file():
        raise InputError(f'there is no config file {path}')
    problem = 'cannot be read'
    try:
        config = Config.fromfile(path)
        problem = 'the options do not fit (of a formula, set what it names)'
        config.merge_from_dict(options or {})
    except Exception as error:
        # A config is a program: it can raise anything.
        reason = ' '.join(str(error).split())
        raise InputError(f'{path}: {problem}: {reason}') from error
    return resolve_config(config, num_processes)


def resolve_config(
    config: Config | dict, num_processes: int | None = None
) -> Config:
    """Compute the formulas of a config and check its names, types and keys.

    Args:
        config (Config): As mmengine's ``Config.fromfile`` reads it, and
            changed at will since. Not modified.
        num_processes (int, optional): A variable for formulas: how many
            processes train together. Defaults to None: as many as the
            config's ``launcher`` has started.

    Returns:
        Config: A copy without formulas.

    Raises:
        InputError: A formula is wrong; a key or type is unknown, or a value
            of another type.
    """
    config = Config(config) if isinstance(config, dict) else deepcopy(config)
    builtins = {'num_processes': num_processes or count_processes(config)}
    try:
        used = compute_formulas(config, builtins)
        if used:
            _check_variables(config, used)
        check_parts(config)
    except InputError as error:
        where = config.filename or 'the config'
        raise InputError(f'{where}: {error}') from error
    return config


def count_processes(config: Config) -> int:
    """Count the processes of a run, which may not have met yet."""
    if is_distributed():
        return get_world_size()
    names = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS'}
    return int(os.environ.get(names.get(config.get('launcher'), ''), 1))


def _check_variables(config: Config, used: set[str]) -> None:
    """Check that no variable is misspelt: nothing uses it or has it before."""
    known = runner_arguments() | used
    if config.filename:
        for base in Config._get_base_files(config.filename):
            base, _ = Config._get_cfg_path(base, config.filename)
            known |= set(Config.fromfile(base, import_custom_modules=False))
        tree = ast.parse(Path(config.filename).read_text('utf-8'))
        known |= {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
    for key in config.keys() - known:
        if hint := nearest(key, known):
            raise InputError(
                f'unknown key {key!r}: neither an argument of the runner nor '
                f'a variable of a formula{hint}'
            )
