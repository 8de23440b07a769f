"""tools/test.py as a real process."""

import json
import os
import socket
import subprocess
import sys

import pytest
from real_process import ROOT, run_tool


def measure(job, out, *options):
    result = run_tool(
        'test.py', job.config, job.checkpoint, '--out', out,
        '--work-dir', out.parent, '--cfg-options', 'num_test_videos=6',
        *options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text()), result.stdout


def test_the_distance_is_printed_and_does_not_depend_on_batches(job, tmp_path):
    one, text = measure(job, tmp_path / 'a.json')
    assert list(one) == ['FVD-random', 'FrameDiff8', 'FrameDiff8-real']
    assert one['FVD-random'] > 0
    assert f'FVD-random: {one["FVD-random"]:.4f}' in text
    two, _ = measure(job, tmp_path / 'b.json', 'test_dataloader.batch_size=1')
    assert two['FVD-random'] == pytest.approx(one['FVD-random'], rel=1e-4)


@pytest.mark.slow
def test_two_processes_measure_the_same(job, tmp_path):
    one, _ = measure(job, tmp_path / 'a.json')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = str(s.getsockname()[1])
    result = subprocess.run(
        [
            ROOT / 'tools/dist_test.sh', job.config, job.checkpoint, '2',
            '--out', tmp_path / 'b.json', '--work-dir', tmp_path,
        ],
        env={
            **os.environ, 'PORT': port, 'OMP_NUM_THREADS': '1',
            'PYTHON': sys.executable,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    two = json.loads((tmp_path / 'b.json').read_text())
    assert two['FVD-random'] == pytest.approx(one['FVD-random'], rel=1e-4)
