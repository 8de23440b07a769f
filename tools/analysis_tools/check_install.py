"""Check this machine's install and say what to do about each finding.

Prints versions, devices, codecs and what mmcv was compiled for, then runs
small networks forward, backward and twice backward, and the detectors that are
there; on a CUDA machine it also compares the GPU's numbers with the CPU's.
Takes about ten seconds. Ends with status 1 where something is broken.
"""

import argparse
from pathlib import Path

from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.self_check.checks import findings

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Print the findings; return 1 where something is broken."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    counts = {'ok': 0, 'warn': 0, 'fail': 0}
    for name, status, text, advice in findings(ROOT):
        counts[status] += 1
        print(f'{status:5}{name}: {text}', flush=True)
        if advice:
            print(f'     -> {advice}', flush=True)
    print('{ok} ok, {warn} to look at, {fail} broken'.format(**counts))
    return 1 if counts['fail'] else 0


if __name__ == '__main__':
    run_tool(main)
