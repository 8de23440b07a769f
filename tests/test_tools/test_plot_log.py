"""The picture of a training log, against logs of known numbers."""

import json
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_process import run_tool

from stylegan_v_mm.errors import InputError

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/plot_log.py'


@pytest.fixture(scope='module')
def tool():
    """What the tool's file defines."""
    return runpy.run_path(str(TOOL))


@pytest.fixture
def run_here(run_script):
    return partial(run_script, TOOL)


def training_line(step, loss, kimg=None, **more):
    kimg = step / 10 if kimg is None else kimg
    return dict(loss_g=loss, kimg=kimg, iter=step, step=step, **more)


def metric_line(step, value, name='FVD16'):
    return {name: value, 'data_time': 0.1, 'time': 0.5, 'step': step}


def write_log(work_dir, date, lines, end=''):
    folder = work_dir / date / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text + end)


def test_a_resumed_run_replaces_what_it_repeats(tool, tmp_path):
    # Killed after 45, in the middle of a line; resumed from 20, killed at
    # once; resumed from 20 with other intervals.
    first = [training_line(step, 1) for step in range(5, 46, 5)]
    write_log(
        tmp_path,
        '20260101_000000',
        [*first[:6], metric_line(30, 900), *first[6:]],
        '{"loss_g": 1, "ki',
    )
    write_log(tmp_path, '20260101_000100', [training_line(25, 2)])
    write_log(tmp_path, '20260101_000200', [])
    write_log(
        tmp_path,
        '20260101_000300',
        [
            training_line(24, 3),
            training_line(28, 3),
            training_line(32, 3),
            metric_line(32, 800),
        ],
    )
    run = tool['read_run'](str(tmp_path))
    x, y = run.curves['loss_g']
    assert x == pytest.approx([0.5, 1, 1.5, 2, 2.4, 2.8, 3.2])
    assert y.tolist() == [1, 1, 1, 1, 3, 3, 3]
    x, y = run.curves['FVD16']
    assert x == pytest.approx([3.2])
    assert y.tolist() == [800]
    assert run.restarts == pytest.approx([2.4])
    assert run.end == pytest.approx(3.2)


def test_iterations_of_metrics_become_kimg(tool, tmp_path):
    # 0.1 kimg an iteration up to 20, then 0.4: the batch was enlarged.
    write_log(
        tmp_path,
        '1',
        [
            metric_line(5, 70),
            training_line(10, 1, 1.0),
            training_line(20, 1, 2.0),
            metric_line(20, 60),
            training_line(30, 1, 6.0),
            metric_line(25, 50),
            metric_line(35, 40),
        ],
    )
    run = tool['read_run'](str(tmp_path))
    assert run.metrics == ['FVD16']
    x, y = run.curves['FVD16']
    assert x == pytest.approx([0.5, 2, 4, 8])
    assert y.tolist() == [70, 60, 50, 40]


def test_smoothing_is_a_centred_mean(tool):
    # By brute force.
    y = np.random.default_rng(0).normal(size=412)
    expected = [y[max(i - 4, 0) : i + 5].mean() for i in range(len(y))]
    assert tool['smooth'](y) == pytest.approx(expected)
    # What is not a number stays where it is.
    y[200:250] = np.nan
    smooth = tool['smooth'](y)
    assert smooth[:196] == pytest.approx(expected[:196])
    assert np.isnan(smooth[200:250]).all()
    assert smooth[254:] == pytest.approx(expected[254:])


def titles(figure):
    return [ax.get_title(loc='left') for ax in figure.axes]


def write_two_runs(tmp_path):
    signs = dict(signs_real=0.5, signs_fake=-0.5)
    a, b = tmp_path / 'a', tmp_path / 'b'
    lines = [training_line(i, i, **signs, r1_penalty=i) for i in (10, 20, 30)]
    write_log(a, '1', [*lines, metric_line(30, 5, 'FID')])
    write_log(b, '1', [training_line(i, -i, augment_p=0.1) for i in (10, 20)])
    return a, b


def test_there_is_a_panel_for_what_is_there(tool, tmp_path):
    a, b = (tool['read_run'](str(p)) for p in write_two_runs(tmp_path))
    left = ['Losses', 'Signs of logits', 'R1 penalty']
    assert titles(tool['draw']([a])) == [*left, 'FID']
    assert titles(tool['draw']([b])) == ['Losses', 'Augmentation p']
    both = tool['draw']([a, b])
    assert titles(both) == [*left, 'Augmentation p', 'FID']
    curves = [line.get_xydata().tolist() for line in both.axes[0].lines]
    assert curves == [[[1, 10], [2, 20], [3, 30]], [[1, -10], [2, -20]]]
    real, fake = both.axes[1].lines
    assert real.get_ydata().tolist() == [0.5] * 3
    assert fake.get_ydata().tolist() == [-0.5] * 3
    # A run has one colour everywhere; the legend says which.
    colours = [line.get_color() for line in both.axes[0].lines]
    assert real.get_color() == fake.get_color() == colours[0] != colours[1]
    assert real.get_linestyle() != fake.get_linestyle()
    (legend,) = both.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [f'{tmp_path}/a (3 kimg)', f'{tmp_path}/b (2 kimg)']
    shown = [line.get_color() for line in legend.get_lines()]
    assert shown == colours
    # Alone, each curve of a panel has its own.
    real, fake = tool['draw']([a]).axes[1].lines
    assert real.get_color() != fake.get_color()


def test_a_metric_of_real_videos_is_in_the_same_panel(tool, tmp_path):
    line = metric_line(20, 13, 'FrameDiff') | {'FrameDiff-real': 26}
    write_log(tmp_path, '1', [training_line(20, 2), line])
    figure = tool['draw']([tool['read_run'](str(tmp_path))])
    assert titles(figure) == ['Losses', 'FrameDiff']
    panel = figure.axes[1]
    curves = [line.get_ydata().tolist() for line in panel.lines]
    assert curves == [[13], [26]]
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts == ['generated', 'real']


def test_more_runs_than_colours(tool, tmp_path):
    write_log(tmp_path, '1', [training_line(10, 1), training_line(20, 2)])
    run = tool['read_run'](str(tmp_path))
    figure = tool['draw']([run] * 10)
    assert len(figure.legends[0].get_texts()) == 10


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


def test_mistakes_are_named(run_here, tool, tmp_path):
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
        (tmp_path / 'nowhere/a.png', 'cannot be written'),
    ):
        result = run_here(a, '--out', out)
        assert result.returncode == 2
        assert f'{out}' in result.stderr
        assert words in result.stderr
    log = a / '1/vis_data/scalars.json'
    lines = log.read_text().splitlines()
    log.write_text('\n'.join([lines[0], lines[1][:9], *lines[2:]]))
    with pytest.raises(InputError, match=f'{log}, line 2 is damaged'):
        tool['read_run'](str(a))
    assert not list(tmp_path.rglob('*.png'))
