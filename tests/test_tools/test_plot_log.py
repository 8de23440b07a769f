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


def write_results(work_dir, *lines):
    """Write results as tools/test.py does."""
    more = dict(checkpoint='x.pth', config='c.py', num_runs=1, date='today')
    text = ''.join(json.dumps({**more, **line}) + '\n' for line in lines)
    (work_dir / 'metrics.jsonl').write_text(text)


def test_what_was_measured_later_is_among_the_metrics(tool, tmp_path):
    write_log(
        tmp_path,
        '1',
        [
            training_line(10, 1),
            training_line(20, 1),
            metric_line(20, 9, 'FID'),
        ],
    )
    write_results(
        tmp_path,
        {'iter': 20, 'kimg': 2.0, 'FVD16': 50.0, 'FVD16-se': 3.0, 'FID': 8.0},
        {'iter': 10, 'kimg': 1.0, 'FVD16': 80.0, 'FVD16-se': 4.0},
        {'iter': 20, 'kimg': 2.0, 'FVD16': 60.0, 'Frozen': 0},
    )
    run = tool['read_run'](str(tmp_path))
    assert run.curves['FVD16'].tolist() == [[1, 2], [80, 60]]
    assert run.curves['Frozen'].tolist() == [[2], [0]]
    # What training has measured, with clips of its own, stays.
    assert run.curves['FID'].tolist() == [[2], [9]]
    assert run.metrics == ['FID', 'FVD16', 'FVD16-se', 'Frozen']
    panels = titles(tool['draw']([run]))
    assert panels == ['Losses', 'FID', 'FVD16', 'Frozen']
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"FVD16": 3}\n')
    with pytest.raises(InputError, match='jsonl, line 4 has no kimg'):
        tool['read_run'](str(tmp_path))


# References


def curves_of(panel):
    return [line.get_xydata().tolist() for line in panel.lines]


def write_good_run(work_dir, steps=(10, 20, 30, 40, 50)):
    lines = [
        training_line(i, i / 2, loss_d=-i / 2, r1_penalty=i, frames_per_sec=9)
        for i in steps
    ]
    write_log(work_dir, '1', [*lines, metric_line(10, 700)])
    return work_dir


def test_a_run_over_a_reference(tool, tmp_path):
    a, b = (tool['read_run'](str(p)) for p in write_two_runs(tmp_path))
    good = tool['read_run'](str(write_good_run(tmp_path / 'good')))
    figure = tool['draw']([b], good)
    # A panel for what the run has, nothing for what only the reference has.
    assert titles(figure) == ['Losses', 'Augmentation p']
    panel = figure.axes[0]
    # The run has come to 2 kimg, of the reference's 5 there are 4.
    assert curves_of(panel) == [
        [[1, 5], [2, 10], [3, 15], [4, 20]],
        [[1, -10], [2, -20]],
    ]
    wide, narrow = panel.lines
    assert wide.get_linewidth() > 2 * narrow.get_linewidth()
    assert wide.get_alpha() < 0.5
    # One colour: both are the loss of the generator.
    assert wide.get_color() == narrow.get_color()
    assert panel.get_xlim() == pytest.approx((0, 4.08))
    title = figure.get_suptitle()
    assert title.startswith(f'{tmp_path}/b (2 kimg)')
    assert title.endswith(f'wide and pale: {tmp_path}/good')
    # A run that has come further shows all of it, and where it ends.
    longer = tool['draw']([good], b).axes[0]
    assert curves_of(longer)[0] == [[1, -10], [2, -20]]
    assert longer.get_xlim() == pytest.approx((0, 5.1))

    figure = tool['draw']([a, b], good)
    panels = dict(zip(titles(figure), figure.axes))
    assert curves_of(panels['R1 penalty'])[0] == [
        [i, 10 * i] for i in (1, 2, 3, 4, 5)
    ]
    assert len(curves_of(panels['FID'])) == 1
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[2:] == [f'{tmp_path}/good']
    colours = [line.get_color() for line in panels['R1 penalty'].lines]
    assert len({*colours}) == 2
    assert legend.get_lines()[2].get_color() == colours[0]


def test_curves_are_saved_and_are_a_reference(
    run_here, tool, tmp_path, monkeypatch
):
    good = write_good_run(tmp_path / 'good')
    file = tmp_path / 'rc_track.curves.json'
    result = run_here(good, '--save-curves', file)
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout.endswith(f'\ncurves in {file}\n')
    run = tool['read_run'](str(good))
    saved = tool['read_reference'](str(file))
    assert (saved.name, saved.end) == ('rc_track', 5)
    assert saved.metrics == run.metrics == ['FVD16']
    # Speed is of the machine; iterations and times are of no use.
    left = {'loss_g', 'loss_d', 'r1_penalty', 'FVD16'}
    assert saved.curves.keys() == left
    for key in left:
        np.testing.assert_allclose(saved.curves[key], run.curves[key])

    # By name, where the package keeps them; a path of this name wins.
    read_reference = tool['read_reference']
    monkeypatch.setitem(read_reference.__globals__, 'ZOO', tmp_path)
    assert read_reference('rc_track').end == 5
    monkeypatch.chdir(tmp_path)
    write_good_run(tmp_path / 'rc_track', steps=(10, 20))
    assert read_reference('rc_track').end == 2
    with pytest.raises(InputError, match=r'nowhere: .* known are rc_track$'):
        read_reference('nowhere')

    b = tmp_path / 'b'
    write_log(b, '1', [training_line(i, 3.0) for i in (10, 20)])
    for reference in (good, file):
        result = run_here(b, '--reference', reference)
        assert (result.returncode, result.stderr) == (0, '')
    assert Image.open(b / 'report.png').format == 'PNG'


def test_long_curves_are_saved_as_means(tool, tmp_path):
    y = np.random.default_rng(0).normal(size=1000)
    y[7] = np.nan
    lines = [training_line(i + 1, loss) for i, loss in enumerate(y)]
    write_log(tmp_path, '1', lines)
    file = tmp_path / 'x.json'
    tool['save_curves'](tool['read_run'](str(tmp_path)), file)
    assert 'NaN' not in file.read_text()
    curve = tool['read_reference'](str(file)).curves['loss_g']
    assert curve.shape == (2, 200)
    # 999 points: 199 times five, and one of four.
    kept = np.delete(np.stack([np.arange(1, 1001) / 10, y]), 7, axis=1)
    means = kept[:, :995].reshape(2, 199, 5).mean(2)
    np.testing.assert_allclose(curve[:, :199], means, rtol=1e-4)
    np.testing.assert_allclose(curve[:, 199], kept[:, 995:].mean(1), rtol=1e-4)


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
    assert 'nowhere/y.json cannot be written' in result.stderr


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
