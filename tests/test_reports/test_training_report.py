"""The picture of training runs, against logs of known numbers."""

import numpy as np
import pytest
from training_logs import (
    metric_line,
    training_line,
    write_good_run,
    write_log,
    write_results,
    write_two_runs,
)

from stylegan_v_mm.reports.curves import read_run
from stylegan_v_mm.reports.training import draw_runs, smooth


def test_smoothing_is_a_centred_mean():
    # By brute force.
    y = np.random.default_rng(0).normal(size=412)
    expected = [y[max(i - 4, 0) : i + 5].mean() for i in range(len(y))]
    assert smooth(y) == pytest.approx(expected)
    # What is not a number stays where it is.
    y[200:250] = np.nan
    means = smooth(y)
    assert means[:196] == pytest.approx(expected[:196])
    assert np.isnan(means[200:250]).all()
    assert means[254:] == pytest.approx(expected[254:])


def titles(figure):
    return [ax.get_title(loc='left') for ax in figure.axes]


def test_there_is_a_panel_for_what_is_there(tmp_path):
    a, b = (read_run(str(p)) for p in write_two_runs(tmp_path))
    left = ['Losses', 'Signs of logits', 'R1 penalty']
    assert titles(draw_runs([a])) == [*left, 'FID']
    assert titles(draw_runs([b])) == ['Losses', 'Augmentation p']
    both = draw_runs([a, b])
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
    real, fake = draw_runs([a]).axes[1].lines
    assert real.get_color() != fake.get_color()


def test_a_metric_of_real_videos_is_in_the_same_panel(tmp_path):
    line = metric_line(20, 13, 'FrameDiff') | {'FrameDiff-real': 26}
    write_log(tmp_path, '1', [training_line(20, 2), line])
    figure = draw_runs([read_run(str(tmp_path))])
    assert titles(figure) == ['Losses', 'FrameDiff']
    panel = figure.axes[1]
    curves = [line.get_ydata().tolist() for line in panel.lines]
    assert curves == [[13], [26]]
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts == ['generated', 'real']


def curves_of(panel):
    return [line.get_xydata().tolist() for line in panel.lines]


def test_a_run_over_a_reference(tmp_path):
    a, b = (read_run(str(p)) for p in write_two_runs(tmp_path))
    good = read_run(str(write_good_run(tmp_path / 'good')))
    figure = draw_runs([b], good)
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
    longer = draw_runs([good], b).axes[0]
    assert curves_of(longer)[0] == [[1, -10], [2, -20]]
    assert longer.get_xlim() == pytest.approx((0, 5.1))

    figure = draw_runs([a, b], good)
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


def test_more_runs_than_colours(tmp_path):
    write_log(tmp_path, '1', [training_line(10, 1), training_line(20, 2)])
    run = read_run(str(tmp_path))
    figure = draw_runs([run] * 10)
    assert len(figure.legends[0].get_texts()) == 10


def test_errors_of_metrics_have_no_panel(tmp_path):
    write_log(tmp_path, '1', [training_line(10, 1), training_line(20, 1)])
    results = {'FVD16': 50.0, 'FVD16-se': 3.0, 'FVD16-run-std': 2.0}
    write_results(tmp_path, {'iter': 20, 'kimg': 2.0, **results})
    figure = draw_runs([read_run(str(tmp_path))])
    assert titles(figure) == ['Losses', 'FVD16']
