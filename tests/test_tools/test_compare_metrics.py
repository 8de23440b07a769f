"""tools/analysis_tools/compare_metrics.py on files of both kinds."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from stylegan_v_mm.evaluation.results import append_results
from stylegan_v_mm.video.encoding import write_video

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'


@pytest.fixture
def compare(run_script):
    return lambda *args: run_script(TOOLS / 'compare_metrics.py', *args)


def rows(result):
    """The printed table, by the names of metrics."""
    lines = [line.split() for line in result.stdout.splitlines()]
    return {
        line[0]: line[1:]
        for line in lines
        if len(line) in (4, 5) and line[0] != 'only'
    }


PROTOCOL = dict(
    type='FrechetVideoDistance',
    detector='I3D',
    checksum='I3D 12ab eps=0.001',
    precision='float32',
    resolution=128,
    num_frames=16,
    num_fake=2048,
    num_real=2048,
    data='data/mine',
    data_digest='34cd',
)


def write(folder, values, **changes):
    """Write what tools/test.py does, in part."""
    file = folder / 'metrics.jsonl'
    folder.mkdir(exist_ok=True)
    protocol = dict(results=list(values), **(PROTOCOL | changes))
    about = dict(checkpoint=f'{folder}/iter_4.pth', iter=4, kimg=0.5)
    append_results(file, [{**about, 'protocols': [protocol], **values}])
    return file


def test_differences_are_shown_in_standard_errors(compare, tmp_path):
    one = {'FVD16': 100.0, 'FVD16-se': 3.0, 'Frozen': 0.5}
    two = {'FVD16': 110.0, 'FVD16-se': 4.0, 'Frozen': 0.25, 'KVD16': 1.0}
    write(tmp_path / 'a', {'FVD16': 99.0})
    write(tmp_path / 'a', one)
    # Where the data lie does not matter.
    write(tmp_path / 'b', two, data='/elsewhere/mine')
    result = compare(tmp_path / 'a', tmp_path / 'b/metrics.jsonl')
    assert result.returncode == 0, result.stderr
    assert rows(result) == {
        'FVD16': ['100.0000', '110.0000', '+10.0000', '+2.0'],
        'Frozen': ['0.5000', '0.2500', '-0.2500'],
    }
    assert result.stdout.splitlines()[-1].endswith('b/metrics.jsonl: KVD16')


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('detector', 'RandomI3D'),
        ('checksum', 'I3D 12ab eps=1e-05'),
        ('precision', 'bfloat16'),
        ('data_digest', '56ef'),
        ('num_fake', 256),
        ('num_real', 512),
        ('resolution', 256),
        ('frame_stride', 8),
    ],
)
def test_what_does_not_compare_is_named_and_the_rest_shown(
    compare, tmp_path, key, value
):
    write(tmp_path / 'a', {'FVD16': 100.0})
    write(tmp_path / 'a', {'KVD16': 2.0})
    write(tmp_path / 'b', {'FVD16': 90.0}, **{key: value})
    write(tmp_path / 'b', {'KVD16': 3.0})
    result = compare(tmp_path / 'a', tmp_path / 'b')
    assert result.returncode == 2
    assert rows(result).keys() == {'KVD16'}
    before = PROTOCOL.get(key, 'not said')
    assert result.stderr.splitlines()[-1] == (
        f'error: cannot be compared: FVD16: {key} is {before} and {value}'
    )


def test_numbers_of_unknown_origin_do_not_compare(compare, tmp_path):
    file = write(tmp_path / 'a', {'FVD16': 100.0})
    old = tmp_path / 'old.jsonl'
    old.write_text(json.dumps({'FVD16': 99.0, 'iter': 4}) + '\n')
    for files, which in (((file, old), 'second'), ((old, file), 'first')):
        result = compare(*files)
        assert result.returncode == 2
        assert not rows(result)
        assert f'the {which} file does not say how' in result.stderr


def test_files_that_are_wrong_are_named(compare, tmp_path):
    file = write(tmp_path / 'a', {'FVD16': 100.0})
    other = write(tmp_path / 'b', {'KVD16': 1.0})
    broken = tmp_path / 'broken.jsonl'
    broken.write_text(file.read_text() + '{"FVD16": 3\n')
    (tmp_path / 'empty.jsonl').write_text('')
    for args, words in (
        ((file, tmp_path / 'none.jsonl'), 'none.jsonl cannot be read'),
        ((file, broken), 'broken.jsonl, line 2 is damaged'),
        ((file, tmp_path / 'empty.jsonl'), 'holds no measurements'),
        ((file, other), 'no number in common'),
        (
            (file, file, '--checkpoint', 'iter_4.pth', 'iter_9.pth'),
            'holds no measurements of iter_9.pth',
        ),
    ):
        result = compare(*args)
        assert result.returncode == 2
        assert words in result.stderr.splitlines()[-1]


def test_data_sets_compare_wherever_they_lie(compare, run_script, tmp_path):
    """Measured in two places, on as many clips and on fewer."""
    rng = np.random.default_rng(0)
    for name, num in (('real', 5), ('fake', 5)):
        for i in range(num):
            noise = rng.integers(0, 256, (16, 3, 32, 32), np.uint8)
            write_video(tmp_path / f'{name}/{i}.mp4', noise, 25)
    shutil.copytree(tmp_path / 'real', tmp_path / 'copy/real')
    shutil.copytree(tmp_path / 'fake', tmp_path / 'more')
    shutil.copy(tmp_path / 'fake/0.mp4', tmp_path / 'more/5.mp4')
    (tmp_path / 'more/5.mp4').rename(tmp_path / 'more/9.mp4')
    files = []
    for real, fake in (
        ('real', 'fake'),
        ('copy/real', 'fake'),
        ('real', 'more'),
        ('more', 'fake'),
    ):
        files.append(tmp_path / f'{len(files)}.jsonl')
        result = run_script(
            TOOLS / 'compare_datasets.py', tmp_path / real, tmp_path / fake,
            '--metrics', 'motion', '--resolution', 32, '--out', files[-1],
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    result = compare(files[0], files[1])
    assert result.returncode == 0, result.stderr
    table = rows(result)
    assert math.isclose(float(table['FrameDiff1'][2]), 0)
    for other, key in ((2, 'num_fake is 5 and 6'), (3, 'data_digest is')):
        result = compare(files[0], files[other])
        assert result.returncode == 2
        assert key in result.stderr
