r"""Compare two files of measurements, as far as they compare.

Example:
    python tools/analysis_tools/compare_metrics.py \
        work_dirs/a/metrics.jsonl work_dirs/b/metrics.jsonl

Files are those of tools/test.py (metrics.jsonl) and of --out of
compare_datasets.py. They say how each number was measured: by which detector,
from which file and in which precision, on which data, on how many clips of how
many frames. Where that differs, the numbers are not compared, the difference
is named, and the status is 2. Of a number measured several times, the last one
counts; --checkpoint chooses.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from stylegan_v_mm.cli import run_tool, tool_parser
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.results import format_table

#: Where the data lie says nothing, unlike their digest.
NO_MATTER = ('data',)
#: What compare_datasets.py writes beside a protocol.
OF_A_LINE = (
    'metric',
    'value',
    'standard_error',
    'real',
    'fake',
    'date',
    'version',
)
#: Ends the names of what says how far a number is right.
ABOUT_NUMBERS = ('-se', '-std')


class Number(NamedTuple):
    """A measurement.

    Attributes:
        value: The number.
        error: Its standard error, if there is one.
        protocol: How it was measured; empty if that is not known.
    """

    value: float
    error: float | None
    protocol: dict[str, Any]


def read_numbers(path: Path, checkpoint: str | None) -> dict[str, Number]:
    """Read a file of measurements.

    Args:
        path: The file, or the work dir with its ``metrics.jsonl``.
        checkpoint: Name of a checkpoint's file, whose numbers alone count.

    Returns:
        The last measurement of each number, by its name.

    Raises:
        InputError: The file cannot be read, or has no such numbers.
    """
    if path.is_dir():
        path = path / 'metrics.jsonl'
    try:
        lines = path.read_text(errors='replace').splitlines()
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    found: dict[str, Number] = {}
    for number, line in enumerate(lines, 1):
        try:
            result = json.loads(line)
            where = Path(result.get('checkpoint', '')).name
            if checkpoint in (None, where):
                found |= numbers_of(result)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f'{path}, line {number} is damaged: remove it'
            ) from error
    if not found:
        of = f' of {checkpoint}' if checkpoint else ''
        raise InputError(f'{path} holds no measurements{of}')
    return found


def numbers_of(result: dict) -> dict[str, Number]:
    """Return the numbers of a line of a file."""
    if 'metric' in result:
        protocol = {k: v for k, v in result.items() if k not in OF_A_LINE}
        return {
            result['metric']: Number(
                result['value'], result.get('standard_error'), protocol
            )
        }
    protocols: dict[str, dict] = {}
    for each in result.get('protocols', []):
        protocol = {k: v for k, v in each.items() if k != 'results'}
        protocols |= dict.fromkeys(each['results'], protocol)
    # Others than metrics are integers, but for kimg.
    return {
        name: Number(value, result.get(f'{name}-se'), protocols.get(name, {}))
        for name, value in result.items()
        if isinstance(value, float) and name != 'kimg'
    }


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Name what prevents a comparison of numbers, if anything does.

    Args:
        a: Protocol of the one.
        b: Protocol of the other.
    """
    for which, protocol in (('first', a), ('second', b)):
        if not protocol:
            return [f'the {which} file does not say how it was measured']
    return [
        f'{key} is {a.get(key, "not said")} and {b.get(key, "not said")}'
        for key in {**a, **b}
        if key not in NO_MATTER and a.get(key) != b.get(key)
    ]


def compare(a: Number, b: Number) -> list[str]:
    """Lay out two numbers: both, their difference, in standard errors."""
    cells = [f'{a.value:.4f}', f'{b.value:.4f}', f'{b.value - a.value:+.4f}']
    if not a.error or not b.error:
        return [*cells, '']
    error = math.hypot(a.error, b.error)
    return [*cells, f'{(b.value - a.value) / error:+.1f}']


def main() -> None:
    """Read the command line and both files; print the table."""
    parser = tool_parser(__doc__)
    parser.add_argument('first', type=Path, help='file, or work dir')
    parser.add_argument('second', type=Path, help='file, or work dir')
    parser.add_argument(
        '--checkpoint',
        nargs=2,
        metavar='NAME',
        default=(None, None),
        help='of the first file and of the second, such as iter_4000.pth',
    )
    args = parser.parse_args()
    first = read_numbers(args.first, args.checkpoint[0])
    second = read_numbers(args.second, args.checkpoint[1])
    both = [
        name
        for name in first
        if name in second and not name.endswith(ABOUT_NUMBERS)
    ]
    rows, refused = [], []
    for name in both:
        reasons = differences(first[name].protocol, second[name].protocol)
        if reasons:
            refused.append(f'{name}: {", ".join(reasons)}')
        else:
            rows.append([name, *compare(first[name], second[name])])
    if rows:
        heads = [
            'metric',
            'first',
            'second',
            'difference',
            'in standard errors',
        ]
        print(format_table([heads, *rows]))
    for path, numbers, others in (
        (args.first, first, second),
        (args.second, second, first),
    ):
        alone = [
            name
            for name in numbers
            if name not in others and not name.endswith(ABOUT_NUMBERS)
        ]
        if alone:
            print(f'only in {path}: {", ".join(alone)}')
    if refused:
        raise InputError(f'cannot be compared: {"; ".join(refused)}')
    if not both:
        raise InputError('the files have no number in common')


if __name__ == '__main__':
    run_tool(main)
