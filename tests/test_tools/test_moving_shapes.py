"""The tool that makes a data set, run as users run it."""

from functools import partial

import av
import numpy as np
import pytest
from real_process import ROOT, run_tool

TOOL = ROOT / 'tools/dataset_converters/moving_shapes.py'
run = partial(run_tool, 'dataset_converters/moving_shapes.py')


@pytest.fixture
def run_here(run_script):
    """Run the tool as :func:`run` does, without the start of a process."""
    return partial(run_script, TOOL)


def read(path):
    """All frames, [T, H, W, 3], and the frame rate."""
    with av.open(str(path)) as file:
        rate = float(file.streams.video[0].average_rate)
        frames = [f.to_ndarray(format='rgb24') for f in file.decode(video=0)]
    return np.stack(frames), rate


def shape_mask(frames):
    """Where the bright shape is, [T, H, W], bool."""
    return frames.max(axis=3) > 140


def path_of(frames):
    """Centre [T, 2] and area [T] of the shape, in picture widths."""
    size = frames.shape[1]
    mask = shape_mask(frames)
    area = mask.sum(axis=(1, 2))
    rows, columns = np.indices(mask.shape[1:]) + 0.5
    centre = np.stack(
        [(mask * axis).sum(axis=(1, 2)) / area for axis in (columns, rows)],
        axis=1,
    )
    return centre / size, area / size**2


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes') / 'data'
    result = run(
        *[out, '--num-videos', 20, '--num-frames', 44],
        *['--fps', 12.5, '--by-class', 'motion'],
    )
    assert (result.returncode, result.stderr) == (0, '')
    assert result.stdout == f'20 videos in {out}\n'
    return out


def test_files_sizes_and_rates(data):
    files = sorted(path.relative_to(data) for path in data.rglob('*.*'))
    motions = ['bounce', 'orbit', 'spin', 'swing', 'zoom']
    assert sorted({file.parts[0] for file in files}) == motions
    assert sorted(file.name for file in files) == [
        f'{i:05d}.mp4' for i in range(20)
    ]
    for file in files:
        frames, rate = read(data / file)
        assert frames.shape == (44, 64, 64, 3)
        assert rate == 12.5


def test_laws_of_motion(data):
    """What is seen in the pictures tells the five laws apart."""
    for path in data.rglob('*.mp4'):
        centre, area = path_of(read(path)[0])
        travel = np.ptp(centre, axis=0)
        law = path.parent.name
        # The shape is there, and whole, in every frame.
        assert area.min() > 0.01
        if law in ('spin', 'zoom'):
            assert travel.max() < 0.1
        if law == 'zoom':
            # The radius goes from 0.6 to 1.4 of the mean one.
            assert area.max() / area.min() == pytest.approx(5.4, rel=0.35)
        else:
            assert area.max() / area.min() < 1.5
        if law == 'orbit':
            radius = np.linalg.norm(centre - 0.5, axis=1)
            assert np.abs(radius - 0.22).max() < 0.05
            assert travel.min() > 0.35
        if law == 'swing':
            radius = np.linalg.norm(centre - [0.5, 0.08], axis=1)
            assert np.abs(radius - 0.5).max() < 0.06
            assert np.abs(centre[:, 0] - 0.5).max() > 0.15
        if law == 'bounce':
            # Constant speed between turns: the steps hardly differ.
            assert travel.min() > 0.25
            steps = np.abs(np.diff(centre[:, 0]))
            assert np.median(steps) == pytest.approx(
                np.percentile(steps, 80), rel=0.4
            )


def test_spinning_shapes_turn(data):
    for path in (data / 'spin').iterdir():
        mask = shape_mask(read(path)[0])
        # Discs look the same at all times, others do not.
        changed = (mask[0] != mask[1:]).mean(axis=(1, 2)).max()
        is_disc = int(path.stem) % 4 == 0
        assert changed < 0.02 if is_disc else changed > 0.02


def test_seed_decides_each_byte(tmp_path, run_here):
    settings = ['--num-videos', 4, '--num-frames', 5, '--resolution', 48]
    blobs = []
    for name, seed, start in [
        ('a', 3, run),
        ('b', 3, run_here),
        ('c', 4, run_here),
    ]:
        result = start(tmp_path / name, *settings, '--seed', seed)
        assert result.returncode == 0
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == [
            f'{i:05d}.mp4' for i in range(4)
        ]
        blobs.append([file.read_bytes() for file in files])
    assert blobs[0] == blobs[1]
    assert len({*blobs[0], *blobs[2]}) == 8
    assert read(tmp_path / 'a' / '00000.mp4')[0].shape == (5, 48, 48, 3)


@pytest.mark.parametrize(
    ('args', 'text'),
    [
        (['full'], 'full exists: remove it or give another one'),
        (['full/file'], 'file exists: remove it or give another one'),
        (['full/file/out'], 'cannot be written'),
        (['.'], '. exists: remove it or give another one'),
    ],
)
def test_bad_input_gives_one_line(tmp_path, monkeypatch, run_here, args, text):
    (tmp_path / 'full' / 'empty').mkdir(parents=True)
    (tmp_path / 'full' / 'file').write_text('')
    monkeypatch.chdir(tmp_path / 'full/empty' if args == ['.'] else tmp_path)
    result = run_here(*args)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert text in result.stderr
    assert result.stderr.count('\n') == 1
    assert sorted(path.name for path in tmp_path.rglob('*')) == [
        'empty',
        'file',
        'full',
    ]


def test_exit_status_of_the_process(tmp_path):
    (tmp_path / 'file').write_text('')
    result = run(tmp_path, '--num-videos', 1)
    assert result.returncode == 2
    assert result.stderr == (
        f'error: {tmp_path} exists: remove it or give another one\n'
    )


def test_unknown_words_give_the_usage(run_here, tmp_path):
    result = run_here(tmp_path / 'out', '--by-class', 'size')
    assert result.returncode == 2
    assert 'usage: ' in result.stderr
    assert 'Traceback' not in result.stderr


def test_classes_of_colour(tmp_path, run_here):
    out = tmp_path / 'out'
    settings = ['--num-videos', 9, '--num-frames', 3, '--by-class', 'colour']
    assert run_here(out, *settings).returncode == 0
    for channel, name in enumerate(('red', 'green', 'blue')):
        files = sorted((out / name).iterdir())
        assert [int(path.stem) % 3 for path in files] == [channel] * 3
        for path in files:
            frames, _ = read(path)
            paint = frames[shape_mask(frames)].mean(axis=0)
            assert paint.argmax() == channel
