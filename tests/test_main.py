"""python -m stylegan_v_mm, in a checkout."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*words):
    return subprocess.run(
        [sys.executable, '-m', 'stylegan_v_mm', *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_it_lists_the_tools():
    result = run('--help')
    assert result.returncode == 0, result.stderr
    listed = {line.split()[0]: line for line in result.stdout.splitlines()[2:]}
    scripts = {
        path.stem
        for path in (ROOT / 'tools').rglob('*.py')
        if 'run_tool(' in path.read_text()
    }
    assert listed.keys() == scripts
    assert listed['generate'].endswith('Generate videos with a trained model.')


def test_it_runs_a_tool_as_python_does(tmp_path):
    # Beside its script lies what this one imports.
    result = run('donkey_tubs', 'no/tub', tmp_path / 'out')
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert 'no/tub' in result.stderr
    assert run('train', '--help').stdout.startswith('usage: train.py')


def test_an_unknown_tool_is_named():
    result = run('generated')
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: there is no tool 'generated'; there are ")
    assert ' generate,' in line
