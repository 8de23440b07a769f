"""The tool that draws the curves of training runs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_process import run_tool
from training_logs import (
    training_line,
    write_good_run,
    write_log,
    write_two_runs,
)

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/plot_log.py'


@pytest.fixture
def run_here(run_script):
    return partial(run_script, TOOL)


def test_the_report_of_a_real_run(job):
    """As a user does it; the picture is beside the checkpoints."""
    result = run_tool('analysis_tools/plot_log.py', job.work_dir)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == f'report in {job.work_dir}/report.png\n'
    image = np.array(Image.open(job.work_dir / 'report.png').convert('RGB'))
    # Six panels: losses, signs, logits, R1, p, frames a second.
    assert image.shape == (670, 1500, 3)
    # Each has some ink.
    for y in (0, 1):
        for x in (0, 1, 2):
            panel = image[60 + 305 * y :, 500 * x :][:300, :500]
            assert (panel.min(2) < 128).mean() > 0.003
    assert not list(job.work_dir.glob('.*'))


def test_several_runs_in_a_file_of_ones_choice(run_here, tmp_path):
    a, b = write_two_runs(tmp_path)
    out = tmp_path / 'both.png'
    result = run_here(a, b, '--out', out)
    assert (result.returncode, result.stderr) == (0, '')
    assert Image.open(out).format == 'PNG'
    assert not (a / 'report.png').exists()


def test_curves_are_saved_and_drawn_over(run_here, tmp_path):
    good = write_good_run(tmp_path / 'good')
    file = tmp_path / 'good.curves.json'
    result = run_here(good, '--save-curves', file)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.endswith(f'\ncurves in {file}\n')
    b = tmp_path / 'b'
    write_log(b, '1', [training_line(i, 3.0) for i in (10, 20)])
    for reference in (good, file):
        result = run_here(b, '--reference', reference)
        assert (result.returncode, result.stderr) == (0, '')
    assert Image.open(b / 'report.png').format == 'PNG'


def test_references_that_are_none(run_here, tmp_path):
    a, b = write_two_runs(tmp_path)
    (tmp_path / 'empty').mkdir()
    file = tmp_path / 'x.json'
    for content in ('', '[]', '{"end": 1, "metrics": [], "curves": {"a": 1}}'):
        file.write_text(content)
        result = run_here(a, '--reference', file)
        assert result.returncode == 2
        expected = f'error: {file} does not hold curves as --save-curves'
        assert result.stderr.startswith(expected)
    for options, words in [
        (['--reference', 'no_such_model'], 'no_such_model: there is no such'),
        (['--reference', ''], 'there is no such work dir'),
        (['--reference', 'x' * 5000], 'there is no such work dir'),
        (['--reference', tmp_path / 'empty'], 'empty has no training log'),
        (['--save-curves', tmp_path / 'x.txt'], 'ends in .json'),
        ([b, '--save-curves', tmp_path / 'y.json'], 'give one work dir'),
    ]:
        result = run_here(a, *options)
        assert result.returncode == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob('*.png'))
    result = run_here(a, '--save-curves', tmp_path / 'nowhere/y.json')
    assert 'nowhere/y.json: there is no folder' in result.stderr


def test_mistakes_are_named(run_here, tmp_path):
    a, _ = write_two_runs(tmp_path)
    empty = tmp_path / 'empty'
    write_log(empty, '1', [], '{"loss_g": 0.')
    for folder in (empty, tmp_path, tmp_path / 'nowhere'):
        result = run_here(a, folder)
        assert result.returncode == 2
        assert result.stderr.startswith(f'error: {folder} has no training log')
        assert len(result.stderr.splitlines()) == 1
    for out, words in (
        (tmp_path / 'a.pdf', 'must end in .png'),
        (tmp_path / 'nowhere/a.png', 'there is no folder'),
    ):
        result = run_here(a, '--out', out)
        assert result.returncode == 2
        assert f'{out}' in result.stderr
        assert words in result.stderr
    assert not list(tmp_path.rglob('*.png'))
