"""Print a config as a run sees it: inherited, with its formulas computed.

Above each part stand the files that set it, the last one first. What is
printed is itself a config, with the variables as comments, and without
formulas: mmengine reads it, too.

    python tools/analysis_tools/print_config.py CONFIG
    python tools/analysis_tools/print_config.py CONFIG model.r1_gamma
    python tools/analysis_tools/print_config.py CONFIG > resolved.py
"""

import ast
from collections import defaultdict
from os.path import normpath
from pathlib import Path
from textwrap import indent
from typing import Any

from stylegan_v_mm.cli import (
    add_cfg_options,
    positive_int,
    read_options,
    run_tool,
    tool_parser,
)
from stylegan_v_mm.config.checks import runner_arguments
from stylegan_v_mm.config.loading import Config, load_config
from stylegan_v_mm.errors import InputError, nearest


def files_that_set(path: Path) -> dict[str, list[Path]]:
    """List for each top-level key the files that set it, the last one first.

    Args:
        path (Path): A config.
    """
    found = defaultdict(list)
    for statement in ast.parse(path.read_text('utf-8')).body:
        if isinstance(statement, ast.Assign):
            for name in statement.targets:
                found[ast.unparse(name)] = [path]
    for base in Config._get_base_files(str(path)):
        file, _ = Config._get_cfg_path(base, str(path))
        for name, files in files_that_set(Path(normpath(file))).items():
            found[name] += [file for file in files if file not in found[name]]
    return found


def look_up(config: Config, key: str) -> Any:
    """Find the value of a dotted key.

    Raises:
        InputError: There is none.
    """
    value = config._cfg_dict
    for i, part in enumerate(key.split('.')):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif (
            isinstance(value, list | tuple)
            and part.isdecimal()
            and int(part) < len(value)
        ):
            value = value[int(part)]
        else:
            known = value if isinstance(value, dict) else ()
            place = '.'.join(key.split('.')[:i]) or config.filename
            raise InputError(
                f'{key}: there is no {part!r} in {place}{nearest(part, known)}'
            )
    return value


def main() -> None:
    """Print the config."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'key', nargs='?', help='print this one alone, e.g. model.generator'
    )
    parser.add_argument(
        '--num-processes',
        type=positive_int,
        default=1,
        help='how many will train together; formulas depend on it',
    )
    add_cfg_options(parser, 'resolution=128 batch_size=16')
    args = parser.parse_args()
    options = read_options(args.cfg_options)
    given = {'num_processes': args.num_processes}
    config = load_config(args.config, {**given, **options})
    files = files_that_set(Path(args.config))
    set_by = dict.fromkeys(given, '--num-processes')
    set_by |= {key.partition('.')[0]: '--cfg-options' for key in options}
    if args.key is None:
        parts = config.items()
    else:
        name = args.key.rpartition('.')[2]
        name = name if name.isidentifier() else 'value'
        parts = [(name, look_up(config, args.key))]
    for name, value in parts:
        top = args.key.partition('.')[0] if args.key else name
        origins = [set_by[top]] if top in set_by else []
        origins += map(str, files[top])
        text = Config({name: value}).pretty_text
        if args.key is None and name not in runner_arguments():
            text = indent(text, '# ')
        print(f'# {", ".join(origins)}:\n{text}')


if __name__ == '__main__':
    run_tool(main)
