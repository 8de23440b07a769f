"""The reports on motion, run as users run them."""

import csv
import json
import os
from functools import partial
from itertools import dropwhile, takewhile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylegan_v_mm.video.encoding import write_video

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'
REAL = Path(os.environ.get('STYLEGAN_V_VIDEOS', '/nowhere'))


@pytest.fixture
def run(run_script, monkeypatch):
    # Where a script lies, its neighbours are found.
    monkeypatch.syspath_prepend(TOOLS)
    return lambda tool, *args: run_script(TOOLS / f'{tool}.py', *args)


def table(result):
    """The printed table: name -> column -> number."""
    assert result.returncode == 0, result.stderr
    # The log may come first.
    text = result.stdout.splitlines()
    head, *lines = dropwhile(lambda line: not line.startswith(' '), text)
    columns = head.split()
    rows = {}
    for line in takewhile(str.strip, lines):
        if len(cells := line.split()) > 1 and cells[0] != 'picture':
            numbers = map(float, cells[-len(columns) :])
            if len(cells) > len(columns):
                name = ' '.join(cells[: -len(columns)])
                rows[name] = dict(zip(columns, numbers))
    return rows


def write_noise(path, num_frames, period=99, seed=0):
    """Coarse noise, new in each frame till it repeats itself."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(40, 200, (period, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    frames = frames[np.arange(num_frames) % period]
    write_video(path, frames.astype(np.uint8), 25, crf=10)


def test_two_folders(run, tmp_path):
    periods = dict(real=(99, 99, 1, 99), fake=(1, 6, 1, 99))
    for name, numbers in periods.items():
        for i, period in enumerate(numbers):
            write_noise(tmp_path / f'{name}/{i}.mp4', 24, period, seed=i)
    out, log = tmp_path / 'a.png', tmp_path / 'a.jsonl'
    options = ('--num-frames=24', '--resolution=32', '--out', out)
    sets = (tmp_path / 'real', tmp_path / 'fake')
    result = run('motion_report', *sets, *options, '--json', log)
    rows = table(result)
    assert rows['Frozen'] == {'real': 0.25, 'fake': 0.5}
    assert rows['Loops'] == {'real': 0, 'fake': 0.25}
    # Of differences of two uniform numbers, a third of the range on average.
    assert rows['FrameDiff4']['real'] == pytest.approx(0.75 * 160 / 3, rel=0.1)
    assert rows['FrameDiff4']['fake'] == pytest.approx(0.5 * 160 / 3, rel=0.1)
    assert f'picture in {out}' in result.stdout
    image = np.array(Image.open(out).convert('RGB'))
    for half in np.split(image, [350]):
        for panel in np.split(half, [500], axis=1):
            # The colours of both sets.
            for colour in ((31, 111, 180), (224, 123, 26)):
                assert (np.abs(panel.astype(int) - colour).max(2) < 9).any()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    values = {line['metric']: line['value'] for line in lines}
    assert (values['Frozen'], values['Frozen-real']) == (0.5, 0.25)
    assert values['SpectrumDist'] > 1
    assert {(line['real_clips'], line['num_frames']) for line in lines} == {
        (4, 24)
    }


def test_mistakes_are_named(run, tmp_path, tmp_path_factory):
    write_noise(tmp_path / 'a.mp4', 12)
    report = partial(run, 'motion_report', tmp_path, tmp_path)
    one = tmp_path_factory.mktemp('one')
    write_noise(one / 'long.mp4', 48)
    sensitivity = partial(
        run, 'metric_sensitivity', one, '--num-frames=12', '--detector=random'
    )
    # Too short for FrameDiff8.
    assert 'FrameDiff1' in table(sensitivity())['frozen']
    halves = sensitivity('--halves')
    few = partial(run, 'metric_sensitivity', tmp_path, '--detector=random')
    for result, words in (
        (report('--out', tmp_path / 'a.jpg'), 'must end in .png'),
        (report('--out', tmp_path / 'b/a.png'), 'there is no folder'),
        (report('--out', tmp_path / 'a.png'), 'shorter than 64 frames'),
        (sensitivity('--num-frames=8'), 'at least 9'),
        (few('--num-frames=12'), '1 clips'),
        (halves, '--halves: 4 clips of every other video and 0'),
    ):
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1
        assert words in result.stderr
    assert not list(tmp_path.glob('*.png'))


def test_halves_are_of_different_videos_and_errors_are_shown(run, tmp_path):
    """Frozen clips against moving ones; the first half is the real one."""
    for i in range(10):
        write_noise(tmp_path / f'{i:02}.mp4', 34, seed=i)
    result = run(
        'metric_sensitivity', tmp_path, '--halves', '--num-frames=16',
        '--resolution=32', '--detector=random',
    )  # fmt: skip
    rows = table(result)
    # Of one name, the last column counts: that of FlowDist16.
    assert result.stdout.split()[:4] == [
        'FVD-random', 'above', 'FlowDist16', 'above',
    ]  # fmt: skip
    other = rows['other real clips']
    assert 'itself' not in rows
    assert other['above'] == 0
    assert rows['frozen']['above'] > 3
    assert abs(rows['other hue']['above']) < 3
    assert rows['frozen']['FlowDist16'] > 2 * other['FlowDist16']
    *_, fewer, last = map(str.split, result.stdout.splitlines())
    assert (fewer[0], last[0]) == ('8', '10')
    assert float(last[3]) == pytest.approx(other['FlowDist16'], rel=6e-3)
    # Of fewer clips, a set is farther from another one of the same kind.
    assert float(fewer[3]) > float(last[3])


RC_TRACK = Path(os.environ.get('STYLEGAN_V_RC_TRACK', '/nowhere'))
LIST = TOOLS.parents[1] / 'configs/_lists/rc_track.csv'


@pytest.mark.slow
@pytest.mark.skipif(
    not RC_TRACK.is_dir(), reason='STYLEGAN_V_RC_TRACK names no folder'
)
def test_the_motion_distance_ranks_as_the_eye_does(run, tmp_path):
    """What docs/metrics.md says of rc_track."""
    with LIST.open(newline='') as file:
        for row in csv.DictReader(file):
            if row['split'] == 'train':
                (tmp_path / row['clip']).symlink_to(RC_TRACK / row['clip'])
    rows = table(
        run(
            'metric_sensitivity',
            tmp_path,
            '--halves',
            '--num-clips=352',
            '--detector=random',
        )
    )
    for name in ('half speed', 'shuffled frames', 'frozen', 'backwards'):
        assert rows[name]['above'] > 3
    assert abs(rows.pop('other hue')['above']) < 3
    # Next to real clips are none nearer, but by chance.
    assert min(row['above'] for row in rows.values()) > -0.5


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(), reason='STYLEGAN_V_VIDEOS names no folder of videos'
)
def test_what_metrics_see_in_real_videos(run):
    """What docs/metrics.md says of them."""
    rows = table(run('metric_sensitivity', REAL, '--detector=random'))

    def ranked(column, *names):
        values = [rows[name][column] for name in names]
        assert values == sorted(values)
        assert len(set(values)) == len(values)

    spoilt = ('mild noise', 'heavy noise', 'frozen', 'shuffled frames')
    ranked('FVD-random', 'itself', *spoilt)
    ranked('SpectrumDist', 'itself', 'other real clips', *spoilt[:3])
    ranked('SpectrumDist', 'itself', 'mild noise', 'shuffled frames')
    ranked(
        'MeanFreq',
        *('frozen', 'itself', 'mild noise', 'heavy noise', 'shuffled frames'),
    )
    ranked('FrameDiff1', 'frozen', 'itself', 'mild noise', 'heavy noise')
    assert rows['frozen']['Frozen'] == 1
    assert rows['frozen']['Loops'] == 0
    # But a stretch that was still before.
    assert rows['repeating']['Loops'] > 0.8
    for name in ('itself', 'mild noise', 'shuffled frames', 'backwards'):
        assert rows[name]['Frozen'] < 0.05
        assert rows[name]['Loops'] == 0
    ranked(
        'FlowDist16',
        *('itself', 'mild noise', 'heavy noise', 'harsh noise', 'half speed'),
        *('repeating', 'frozen', 'shuffled frames'),
    )
    # Blind.
    same = rows['itself']
    assert rows['other hue']['FlowDist16'] == 0
    for column in ('FrameDiff1', 'FrameDiff8', 'Frozen', 'Loops'):
        assert rows['backwards'][column] == same[column]
    assert rows['backwards']['SpectrumDist'] < 1
