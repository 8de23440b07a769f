"""Numbers out of range are refused when a command line is read."""

import argparse
import runpy
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from real_process import ROOT

SCRIPTS = [
    path
    for folder in ('tools', 'projects')
    for path in sorted((ROOT / folder).rglob('*.py'))
    if 'run_tool(' in path.read_text()
]
# What no number of any option may be.
WILD = [
    *('nan', '-nan', 'inf', '-inf', '1e999', '1e30', '-1e30'),
    *('9' * 20, '-' + '9' * 20, '1' * 5000, '', ' ', 'x', '0x10', '1,5'),
]


class Parsed(Exception):
    """A script reads its command line, by the parser that this holds."""


def numeric_options(script, monkeypatch):
    """List the options of a script, and of its commands, that are numbers."""

    def stop(parser, *_):
        raise Parsed(parser)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        patch.setattr(sys, 'argv', [str(script)])
        patch.syspath_prepend(str(script.parent))
        with pytest.raises(Parsed) as caught:
            runpy.run_path(str(script), run_name='__main__')
    parsers, found = [caught.value.args[0]], []
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif action.type not in (None, str, Path):
                found.append(action)
    # Launchers pass the last one; nothing reads it.
    return [action for action in found if action.dest != 'local_rank']


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_every_number_has_a_range(script, monkeypatch):
    for action in numeric_options(script, monkeypatch):
        for text in WILD:
            with pytest.raises(argparse.ArgumentTypeError) as error:
                action.type(text)
            assert len(str(error.value)) < 120, action
        for text in ('0', '-1', '1', '2.5'):
            with suppress(argparse.ArgumentTypeError):
                assert action.type(text) == float(text), action
        default = action.default
        for value in default if isinstance(default, list) else [default]:
            if value is not None:
                assert action.type(str(value)) == value, action
        assert action.choices is None


def test_there_are_many_numbers(monkeypatch):
    generate = ROOT / 'tools/generate.py'
    names = {a.dest for a in numeric_options(generate, monkeypatch)}
    assert names == {
        'num_videos', 'seed', 'motion_seed', 'num_frames', 'fps', 'fps_out',
        'slow_motion', 'time_offset', 'truncation_psi', 'truncation_cutoff',
        'mix_seed', 'quality', 'chunk',
    }  # fmt: skip
    benchmark = ROOT / 'tools/analysis_tools/benchmark.py'
    assert len(numeric_options(benchmark, monkeypatch)) > 20


@pytest.mark.parametrize(
    ('option', 'value'),
    [('--seed', 20 * '9'), ('--fps', '0'), ('--truncation-psi', 'nan')],
)
def test_the_error_names_the_option(option, value, run_script):
    result = run_script(
        ROOT / 'tools/generate.py', 'a', '--out=b', f'{option}={value}'
    )
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"generate.py: error: argument {option}: '{value}'")
    assert 'Traceback' not in result.stderr


def test_ranges_end_where_tools_do(job, run_script, tmp_path):
    """What the ranges allow either works or is one line."""
    extremes = {
        'seed': [0, 2**63 - 1],
        'fps': [1e-3, 1e3],
        'slow-motion': [1e-6, 1e6],
        'time-offset': [2**50 - 2**10, 2**50],
        'truncation-psi': [-1e6, 1e6],
        'chunk': [1, 2**31 - 1],
    }
    model = [job.config, job.checkpoint, '--num-frames=2']
    done = 0
    for name, values in extremes.items():
        for value in values:
            result = run_script(
                ROOT / 'tools/generate.py', *model,
                *(f'--{name}={value}', '--out', tmp_path / f'{name}{value}'),
            )  # fmt: skip
            assert result.returncode in (0, 2), result.stderr
            assert 'Traceback' not in result.stderr
            if result.returncode:
                assert result.stderr.count('error: ') == 1
            done += result.returncode == 0
    assert done >= 9
