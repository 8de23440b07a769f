"""tools/test.py as a real process."""

import json
import runpy
import shutil
from datetime import datetime

import numpy as np
import pytest
from real_process import ROOT, run_tool, run_two

from stylegan_v_mm.datasets import SeedDataset, VideoDataset
from stylegan_v_mm.evaluation import RandomI3D
from stylegan_v_mm.reports.curves import read_run


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
    assert one['FVD-random'] > 0
    assert f'FVD-random: {one["FVD-random"]:.4f}' in text
    line = json.loads((tmp_path / 'metrics.jsonl').read_text())
    (protocol,) = (
        each
        for each in line['protocols']
        if each['type'] == 'FrechetVideoDistance'
    )
    assert {'FVD-random', 'FVD-random-se'} <= {*protocol['results']}
    data = VideoDataset(protocol['data'])
    assert protocol == protocol | dict(
        detector='RandomI3D',
        checksum=RandomI3D().digest,
        precision='float32',
        data_digest=data.clip_list['digest'],
        num_fake=6,
        num_real=min(6, len(data)),
    )
    # Each number belongs to one metric.
    known = [name for each in line['protocols'] for name in each['results']]
    assert sorted(known) == sorted(one)
    two, _ = measure(job, tmp_path / 'b.json', 'test_dataloader.batch_size=1')
    assert two['FVD-random'] == pytest.approx(one['FVD-random'], rel=1e-4)


@pytest.mark.slow
def test_two_processes_measure_the_same(job, tmp_path):
    one, _ = measure(job, tmp_path / 'a.json')
    words = [ROOT / 'tools/test.py', job.config, job.checkpoint]
    words += ['--launcher', 'pytorch', '--work-dir', tmp_path]
    for process in run_two([*words, '--out', tmp_path / 'b.json']):
        assert process.returncode == 0, process.stderr
    two = json.loads((tmp_path / 'b.json').read_text())
    assert two['FVD-random'] == pytest.approx(one['FVD-random'], rel=1e-4)


@pytest.fixture
def measured(job, tmp_path):
    """Several checkpoints measured in one go; the process and its results."""
    options = ('--num-runs', '2', '--cfg-options', 'num_test_videos=6')
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    out = work_dir / 'all.json'
    result = run_tool(
        'test.py', job.config, job.work_dir, '--work-dir', work_dir,
        '--out', out, *options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads(out.read_text()), work_dir


@pytest.mark.slow
def test_a_work_dir_gives_a_table_and_the_best(job, measured, tmp_path):
    text, results, work_dir = measured
    paths = [str(job.work_dir / f'iter_{number}.pth') for number in (2, 4)]
    assert list(results) == paths
    values = [results[path]['FVD-random'] for path in paths]
    best = paths[values.index(min(values))]
    assert f'The best by FVD-random, the less the better: {best}' in text
    rows = [line.split() for line in text.splitlines()]
    assert ['iter_2', 'iter_4'] in rows
    assert ['FVD-random', *(f'{value:.4f}' for value in values)] in rows

    # Seeds 0 to 11 in two runs: the first one is that of a single run.
    single, _ = measure(job, tmp_path / 'single.json')
    first = single['FVD-random']
    mean = results[paths[1]]['FVD-random']
    second = 2 * mean - first
    deviation = results[paths[1]]['FVD-random-run-std']
    assert deviation == pytest.approx(
        np.std([first, second], ddof=1), rel=0.01
    )
    assert abs(second - first) > 0.001 * first
    option = 'test_dataloader.dataset.first_seed=6'
    again, _ = measure(job, tmp_path / 'second.json', option)
    assert again['FVD-random'] == pytest.approx(second, rel=1e-3)

    # What is kept.
    lines = (work_dir / 'metrics.jsonl').read_text().splitlines()
    for line, path, number in zip(map(json.loads, lines), paths, (2, 4)):
        assert line.items() >= results[path].items()
        assert not any(name.endswith('-se-run-std') for name in line)
        assert line['checkpoint'] == path
        assert line['config'] == str(job.config)
        assert line['iter'] == number
        assert line['kimg'] == pytest.approx(number * 4 * 3 / 1000)
        assert line['num_runs'] == 2
        datetime.fromisoformat(line['date'])
    # One file, two checkpoints.
    compared = run_tool(
        'analysis_tools/compare_metrics.py', work_dir, work_dir,
        '--checkpoint', 'iter_2.pth', 'iter_4.pth',
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    rows = [line.split() for line in compared.stdout.splitlines()]
    cells = [f'{values[0]:.4f}', f'{values[1]:.4f}']
    assert ['FVD-random', *cells] in [row[:3] for row in rows]
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    steps = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [line['step'] for line in steps] == [2, 4]
    assert [line['test/FVD-random'] for line in steps] == values


def test_results_are_appended_and_do_not_disturb_the_training_log(
    job, tmp_path, run_script
):
    work_dir = tmp_path / 'work'
    shutil.copytree(job.work_dir, work_dir)
    before = read_run(work_dir).curves
    for checkpoint in ('iter_4.pth', 'iter_2.pth'):
        result = run_script(
            ROOT / 'tools/test.py', job.config, work_dir / checkpoint,
            '--work-dir', work_dir,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    lines = (work_dir / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['iter'] for line in lines] == [4, 2]
    after = read_run(work_dir).curves
    assert all((before[key] == after[key]).all() for key in before)
    # The report has what was measured, by kimg.
    results = [json.loads(line) for line in reversed(lines)]
    curve = after['FVD-random'].T.tolist()
    assert curve == [[line['kimg'], line['FVD-random']] for line in results]


def test_every_checkpoint_is_looked_at_before_the_first_is_measured(
    job, tmp_path, run_script
):
    missing = tmp_path / 'iter_9.pth'
    result = run_script(
        ROOT / 'tools/test.py', job.config, job.checkpoint, missing,
        '--work-dir', tmp_path / 'work',
    )  # fmt: skip
    assert result.returncode == 2
    assert f'there is no file {missing}' in result.stderr
    assert not (tmp_path / 'work/metrics.jsonl').exists()


@pytest.fixture(scope='module')
def tool():
    """Names of tools/test.py."""
    return runpy.run_path(str(ROOT / 'tools/test.py'))


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('FVD16', 'The best by FVD16, the less the better: b'),
        ('IS', 'The best by IS, the greater the better: c'),
        ('Frozen', 'Whether more or less Frozen is better is not known'),
    ],
)
def test_the_first_metric_says_which_is_the_best(tool, name, said):
    values = {'a': 2, 'b': 1, 'c': 3}
    results = {
        path: {name: value, 'KID': -value} for path, value in values.items()
    }
    assert tool['name_the_best'](results).startswith(said)


def test_what_some_run_lacks_has_no_mean(tool):
    """A class with too few clips, by chance."""
    runs = [{'FVD16': 1, 'FVD16/a': 5}, {'FVD16': 3, 'FVD16/b': 7}]

    class Runner:
        class test_loop:
            class dataloader:
                dataset = SeedDataset(4, 1)

        def test(self):
            return runs.pop(0)

    assert tool['measure'](Runner(), 2) == {
        'FVD16': 2,
        'FVD16-run-std': pytest.approx(2**0.5),
    }


def test_a_work_dir_is_its_checkpoints_in_the_order_of_training(
    tool, tmp_path
):
    for name in (
        'iter_900.pth', 'iter_1000.pth', 'best_FVD16_iter_1000.pth',
        'best_FVD16x8_iter_80.pth', '.iter_7.pth.tmp', 'other.pth',
    ):  # fmt: skip
        (tmp_path / name).touch()
    found = tool['find_checkpoints'](
        ['a.pth', str(tmp_path), 'https://host/b.pth']
    )
    names = ('best_FVD16x8_iter_80.pth', 'iter_900.pth', 'iter_1000.pth')
    paths = [str(tmp_path / name) for name in names]
    assert found == ['a.pth', *paths, 'https://host/b.pth']


def test_a_folder_without_checkpoints_is_named(job, tmp_path, run_script):
    result = run_script(ROOT / 'tools/test.py', job.config, tmp_path)
    assert result.returncode == 2
    assert f'{tmp_path} holds no checkpoint' in result.stderr


def test_without_a_cache_real_videos_are_measured_anew(
    job, tmp_path, run_script, cache_home
):
    command = (
        ROOT / 'tools/test.py', job.config, job.checkpoint,
        '--work-dir', tmp_path / 'work',
    )  # fmt: skip

    def files():
        paths = cache_home.rglob('*.npz')
        return {path: path.stat().st_mtime_ns for path in paths}

    result = run_script(*command, '--no-cache')
    assert result.returncode == 0, result.stderr
    assert not files()
    run_script(*command)
    assert files()
    for path in files():
        path.write_bytes(b'damaged')
    damaged = files()
    again = run_script(*command, '--no-cache')
    assert again.returncode == 0, again.stderr
    assert files() == damaged
    assert again.stdout.splitlines()[-1] == result.stdout.splitlines()[-1]
