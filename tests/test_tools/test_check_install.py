"""The self-check as a user runs it."""

import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_v_mm.self_check.finding import Finding

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/check_install.py'


@pytest.mark.slow
def test_this_install_is_well(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].endswith(' 0 broken')
    (install,) = (line for line in lines if 'install: ' in line)
    names = {d.name for d in metadata.distributions()}
    if 'mmcv' in names:
        assert 'full (mmcv 2.1.0, ops compiled: CPU yes' in install
    else:
        assert 'quick (mmcv-lite 2.1.0: PyTorch formula)' in install
    assert f'ok   torch: {torch.__version__.split("+")[0]}' in result.stdout
    assert f'ok   numpy: {np.__version__}' in result.stdout
    # No encoder, pip or warning writes about itself.
    assert result.stderr == ''


def test_what_is_broken_ends_with_status_1(monkeypatch, capsys):
    main = runpy.run_path(str(SCRIPT))['main']
    made = [
        Finding('one', 'warn', 'odd', 'look at it'),
        Finding('two', 'fail', 'RuntimeError: boom'),
    ]
    monkeypatch.setitem(main.__globals__, 'findings', lambda root: made)
    monkeypatch.setattr(sys, 'argv', ['check_install.py'])
    assert main() == 1
    assert capsys.readouterr().out.splitlines() == [
        'warn one: odd',
        '     -> look at it',
        'fail two: RuntimeError: boom',
        '0 ok, 1 to look at, 1 broken',
    ]
