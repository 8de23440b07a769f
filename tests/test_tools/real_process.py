"""Running the tools as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_tool(tool, *args, cwd=ROOT, **env):
    """Run a script under tools/ as a user does; return the process."""
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *map(str, args)],
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
