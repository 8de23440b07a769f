"""Read configs, compute their formulas and check them."""

import os
import re
from collections import Counter
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size, is_distributed

from ..errors import InputError, nearest
from .checks import check_parts, runner_arguments
from .formulas import compute_formulas


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config file, and resolve it with :func:`resolve_config`.

    Args:
        path (str): A python config, with mmengine's ``_base_`` inheritance.
        options (dict, optional): ``--cfg-options``: dotted keys to values.

    Raises:
        InputError: The file or an option is wrong.
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
    return resolve_config(config)


def resolve_config(config: Config | dict) -> Config:
    """Compute the formulas of a config and check its names, types and keys.

    Args:
        config (Config): As mmengine's ``Config.fromfile`` reads it, and
            changed at will since. Not modified.

    Returns:
        Config: A copy without formulas, and with ``num_processes``, if that
        was not set: how many train together.

    Raises:
        InputError: A formula, a key, or the type of a value is wrong.
    """
    config = Config(config) if isinstance(config, dict) else deepcopy(config)
    config.setdefault('num_processes', count_processes(config))
    try:
        if used := compute_formulas(config):
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
    own = Path(config.filename).read_text('utf-8') if config.filename else ''
    # The text of a config is that of all that it inherits, and its own.
    words = re.compile(r'\w+').findall
    everywhere, here = Counter(words(config.text)), Counter(words(own))
    known = runner_arguments() | used | {'num_processes'}
    for key in config:
        stray = key not in known and everywhere[key] == here[key] < 2
        if stray and (hint := nearest(key, known)):
            raise InputError(
                f'unknown key {key!r}: neither an argument of the runner nor '
                f'a variable of a formula{hint}'
            )
