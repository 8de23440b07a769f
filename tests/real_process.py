"""Running the tools as a user does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


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


def train_on_two(config, work_dir, *args, cwd=ROOT):
    """Run tools/dist_train.sh with two processes; return the process."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [ROOT / 'tools/dist_train.sh', config, '2']
    return subprocess.run(
        [*command, '--work-dir', work_dir, *args],
        cwd=cwd,
        env={
            **os.environ,
            'PORT': str(port),
            'OMP_NUM_THREADS': '1',
            'PYTHON': sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
