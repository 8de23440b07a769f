"""Compare our networks with reference vectors of the published model.

    python tools/analysis_tools/check_fidelity.py FILE.npz...

Each file holds weights, inputs and outputs (keys as documented in
docs/fidelity.md). Prints a line per compared array and ends with status 1 if
one differs, 2 if a file cannot be read.
"""

import argparse
import sys
from pathlib import Path

import torch

from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.self_check.fidelity import compare_file


def main() -> int:
    """Compare all files, print the verdicts and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE.npz')
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu'
    )
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    status = 0
    for path in args.files:
        try:
            for name, error, tolerance in compare_file(path, args.device):
                # Not `>`: an error that is not a number is a failure too.
                passed = error <= tolerance
                print(
                    f'{path.name} {name} max_abs_err={error:.3g} '
                    f'tol={tolerance:.3g} {"PASS" if passed else "FAIL"}'
                )
                if not passed:
                    status = max(status, 1)
        except InputError as error:
            print(f'error: {error}', file=sys.stderr)
            status = 2
    return status


if __name__ == '__main__':
    run_tool(main)
