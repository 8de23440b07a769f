"""Read configs, compute their formulas and check them."""

import ast
import os
import tempfile
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config
from mmengine.config.config import DELETE_KEY
from mmengine.dist import get_world_size, is_distributed

from ..errors import InputError, nearest
from ..registry import is_formula
from .checks import check_parts, runner_arguments
from .formulas import compute_formulas

# What a run needs together to train, and to measure.
_PHASES = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


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
        InputError: The file is missing or no config, an option leads nowhere,
            or see :func:`resolve_config`.
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
        config.merge_from_dict(options or {})
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    except (TypeError, KeyError, ValueError) as error:
        # mmengine's, where an option is a dict and the config has none.
        reason = ' '.join(str(error).split())
        raise InputError(
            f'{path}: the options do not fit: {reason}'
        ) from error
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
        Config: Without formulas. Of one that has none, a copy.

    Raises:
        InputError: A formula is wrong; a key or type is unknown, or a value
            of another type.
    """
    config = Config(config) if isinstance(config, dict) else deepcopy(config)
    builtins = {'num_processes': num_processes or _num_processes(config)}
    try:
        _drop_delete_keys(config._cfg_dict)
        used = compute_formulas(config, builtins)
        if used:
            _check_top_level(config, used)
        check_parts(config)
    except InputError as error:
        raise InputError(f'{_name(config)}: {error}') from error
    return config


def resolve_run(config: Config | dict) -> Config:
    """Resolve the config of a run, and check what training needs of it.

    Args:
        config (Config): See :func:`resolve_config`.

    Returns:
        Config: With a ``work_dir`` that is there, by default
        ``work_dirs/NAME_OF_THE_CONFIG``.

    Raises:
        InputError: See :func:`resolve_config`; or the model or another part
            of a run is not there, the batch cannot be divided, or the work
            dir cannot be written to.
    """
    config = resolve_config(config)
    name, num_processes = _name(config), _num_processes(config)
    if 'type' not in config.get('model', {}):
        raise InputError(f'{name}: model must be a dict with a type')
    for phase in _PHASES:
        missing = [part for part in phase if config.get(part) is None]
        if 0 < len(missing) < len(phase):
            raise InputError(
                f'{name}: {missing[0]} is None or not there: of '
                f'{", ".join(phase)} set all or none'
            )
    parts = config.get('accumulative_counts', 1)
    batch_size = config.get('batch_size', num_processes * parts)
    if min(batch_size, parts) < 1 or batch_size % (num_processes * parts):
        raise InputError(
            f'{name}: batch_size={batch_size} must be a multiple of the '
            f'{num_processes} processes times accumulative_counts={parts}'
        )
    if config.get('work_dir') is None:
        config.work_dir = f'work_dirs/{Path(name).stem}'
    try:
        os.makedirs(config.work_dir, exist_ok=True)
    except OSError as error:
        raise InputError(
            f'the work dir {config.work_dir} cannot be made: {error.strerror}'
        ) from error
    if not os.access(config.work_dir, os.W_OK):
        raise InputError(f'the work dir {config.work_dir} is not writable')
    return config


def _name(config: Config) -> str:
    """Return the config's file, for messages."""
    return config.filename or 'config'


def _num_processes(config: Config) -> int:
    """Count the processes of a run, which may not have met yet."""
    if is_distributed():
        return get_world_size()
    names = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS'}
    return int(os.environ.get(names.get(config.get('launcher'), ''), 1))


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
        if is_formula(value):
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


def _check_top_level(config: Config, used: set[str]) -> None:
    """Refuse top-level values that nothing uses: most are misspelt.

    A variable counts as used if a formula uses it, or other lines of the
    file do, or an inherited file has it: what used it may have been replaced.
    """
    known = runner_arguments() | used
    if config.filename:
        for base in Config._get_base_files(config.filename):
            base, _ = Config._get_cfg_path(base, config.filename)
            known |= set(Config.fromfile(base, import_custom_modules=False))
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
