"""Curves of training runs, from logs of known numbers."""

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

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.reports import curves
from stylegan_v_mm.reports.curves import read_reference, read_run, save_curves


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
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
    run = read_run(str(tmp_path))
    x, y = run.curves['loss_g']
    assert x == pytest.approx([0.5, 1, 1.5, 2, 2.4, 2.8, 3.2])
    assert y.tolist() == [1, 1, 1, 1, 3, 3, 3]
    x, y = run.curves['FVD16']
    assert x == pytest.approx([3.2])
    assert y.tolist() == [800]
    assert run.restarts == pytest.approx([2.4])
    assert run.end == pytest.approx(3.2)


def test_iterations_of_metrics_become_kimg(tmp_path):
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
    run = read_run(str(tmp_path))
    assert run.metrics == ['FVD16']
    x, y = run.curves['FVD16']
    assert x == pytest.approx([0.5, 2, 4, 8])
    assert y.tolist() == [70, 60, 50, 40]


def test_what_was_measured_later_is_among_the_metrics(tmp_path):
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
    run = read_run(str(tmp_path))
    assert run.curves['FVD16'].tolist() == [[1, 2], [80, 60]]
    assert run.curves['Frozen'].tolist() == [[2], [0]]
    # What training has measured, with clips of its own, stays.
    assert run.curves['FID'].tolist() == [[2], [9]]
    assert run.metrics == ['FID', 'FVD16', 'FVD16-se', 'Frozen']
    with (tmp_path / 'metrics.jsonl').open('a') as file:
        file.write('{"FVD16": 3}\n')
    with pytest.raises(InputError, match='jsonl, line 4 has no kimg'):
        read_run(str(tmp_path))


def test_a_damaged_line_is_named(tmp_path):
    a, _ = write_two_runs(tmp_path)
    log = a / '1/vis_data/scalars.json'
    lines = log.read_text().splitlines()
    log.write_text('\n'.join([lines[0], lines[1][:9], *lines[2:]]))
    with pytest.raises(InputError, match=f'{log}, line 2 is damaged'):
        read_run(str(a))


def test_curves_are_saved_and_are_a_reference(tmp_path, monkeypatch):
    good = write_good_run(tmp_path / 'good')
    file = tmp_path / 'rc_track.curves.json'
    run = read_run(str(good))
    save_curves(run, file)
    saved = read_reference(str(file))
    assert (saved.name, saved.end) == ('rc_track', 5)
    assert saved.metrics == run.metrics == ['FVD16']
    # Speed is of the machine; iterations and times are of no use.
    left = {'loss_g', 'loss_d', 'r1_penalty', 'FVD16'}
    assert saved.curves.keys() == left
    for key in left:
        np.testing.assert_allclose(saved.curves[key], run.curves[key])

    # By name, where the package keeps them; a path of this name wins.
    monkeypatch.setattr(curves, 'FOLDER', tmp_path)
    assert read_reference('rc_track').end == 5
    monkeypatch.chdir(tmp_path)
    write_good_run(tmp_path / 'rc_track', steps=(10, 20))
    assert read_reference('rc_track').end == 2
    with pytest.raises(InputError, match=r'nowhere: .* known are rc_track$'):
        read_reference('nowhere')


def test_long_curves_are_saved_as_means(tmp_path):
    y = np.random.default_rng(0).normal(size=1000)
    y[7] = np.nan
    lines = [training_line(i + 1, loss) for i, loss in enumerate(y)]
    write_log(tmp_path, '1', lines)
    file = tmp_path / 'x.json'
    save_curves(read_run(str(tmp_path)), file)
    assert 'NaN' not in file.read_text()
    curve = read_reference(str(file)).curves['loss_g']
    assert curve.shape == (2, 200)
    # 999 points: 199 times five, and one of four.
    kept = np.delete(np.stack([np.arange(1, 1001) / 10, y]), 7, axis=1)
    means = kept[:, :995].reshape(2, 199, 5).mean(2)
    np.testing.assert_allclose(curve[:, :199], means, rtol=1e-4)
    np.testing.assert_allclose(curve[:, 199], kept[:, 995:].mean(1), rtol=1e-4)
