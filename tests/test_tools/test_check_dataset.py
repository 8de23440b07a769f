"""The tool that shows what a data set holds, run as users run it."""

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from stylegan_v_mm.config import load_config
from stylegan_v_mm.datasets.sources.video_files import VideoFile
from stylegan_v_mm.video.encoding import VideoWriter, write_video

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/check_dataset.py'


def run(*args):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def run_here(run_script):
    """Run the tool as :func:`run` does, without the start of a process."""
    return partial(run_script, TOOL)


def rows(result):
    """The table as a dict."""
    assert (result.returncode, result.stderr) == (0, '')
    lines = [
        re.split(' {2,}', x, maxsplit=1) for x in result.stdout.split('\n')
    ]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def config(result):
    """The proposed lines as a config's variables."""
    assert (result.returncode, result.stderr) == (0, '')
    variables = {}
    exec(result.stdout.split('\nlines for a config\n')[1], {}, variables)
    return variables


def write_clip(path, num_frames, width=64, height=48, fps=25, grey=90):
    frames = np.full((num_frames, 3, height, width), grey, np.uint8)
    write_video(path, frames, fps)


def write_frames(folder, num_frames, size=40):
    folder.mkdir(parents=True)
    for i in range(num_frames):
        image = np.full((size, size, 3), 8 * i, np.uint8)
        assert cv2.imwrite(str(folder / f'{i}.png'), image)


def test_table_of_video_files(tmp_path):
    root = tmp_path / 'data'
    for i in range(3):
        write_clip(root / 'run' / f'{i}.mp4', 10 + i)
    write_clip(root / 'walk' / 'a.mp4', 30, 200, 160, fps=12.5)
    write_clip(root / 'walk' / 'b.mp4', 2)
    (root / 'walk' / 'c.mp4').write_bytes(b'x' * 500)
    result = run(root, '--labels', 'folder')
    table = rows(result)
    assert table['layout'] == 'video files'
    assert table['videos'] == '6, 4 usable'
    assert table['frames'] == '65; per video 0 to 30, median 10.5'
    assert table['looked at'] == 'all frames'
    assert table['sizes'] == '64x48 (4), 200x160 (1)'
    assert table['frame rates'] == '25 (4), 12.5 (1)'
    assert table['codecs'] == 'h264 (5)'
    assert table['key frames'] == 'every 13 frames, on average'
    assert 'advice' not in table
    assert table['classes'] == '2: run (3), walk (3)'
    assert 'walk/c.mp4' in table['damaged']
    assert table['under 3 frames'] == 'walk/b.mp4 (2)'
    variables = config(result)
    assert variables == {
        'data_root': str(root),
        'labels': 'folder',
        'num_classes': 2,
        'resolution': 32,
        'fps': 25,
        'max_num_frames': 30,
    }
    # They are variables of the configs.
    base = Path(__file__).parents[2] / 'configs/stylegan_v/ucf101.py'
    known = load_config(base, variables | {'motion_period': 16})
    assert known.num_classes == known.model.generator.c_dim == 2


@pytest.mark.parametrize('zipped', [False, True])
def test_table_of_frame_folders(tmp_path, run_here, zipped):
    root = tmp_path / 'data'
    for name, num_frames in [('a', 5), ('b', 7), ('c', 4)]:
        write_frames(root / name, num_frames)
    (root / 'c' / '0.png').write_bytes(b'not a picture')
    labels = [[name, [1, 2, 3]] for name in 'abc']
    (root / 'dataset.json').write_text(json.dumps({'labels': labels}))
    layout = 'frame folders'
    if zipped:
        shutil.make_archive(str(root), 'zip', root)
        root = root.with_suffix('.zip')
        layout = 'frame folders in a zip'
    result = run_here(root, '--labels', 'dataset.json')
    table = rows(result)
    assert table['layout'] == layout
    assert table['frames'] == '16; per video 4 to 7, median 5'
    assert table['looked at'] == '3 of 16 frames; --thorough decodes all'
    assert table['sizes'] == '40x40 (2)'
    assert table['labels'] == '3 numbers per video'
    assert table['damaged'] == 'c (first frame is not an image)'
    assert table['under 3 frames'] == 'none, all are usable'
    assert table['videos'] == '3, 2 usable'
    variables = config(result)
    assert variables['resolution'] == 32
    assert variables['num_classes'] == 3
    assert variables['max_num_frames'] == 16  # more than any video has
    assert 'fps' not in variables
    assert 'frame rates' not in table
    assert 'key frames' not in table


def test_all_kinds_and_what_is_left_out(tmp_path, run_here):
    write_clip(tmp_path / 'a.mp4', 9)
    write_frames(tmp_path / 'v', 5)
    images = [Image.new('RGB', (64, 64), (9 * i, 0, 0)) for i in range(8)]
    options = dict(save_all=True, append_images=images[1:], duration=50)
    images[0].save(tmp_path / 'm.webp', **options)
    (tmp_path / 'w').mkdir()
    images[0].save(tmp_path / 'w/still.webp')
    (tmp_path / 'half.webp').write_bytes(
        (tmp_path / 'm.webp').read_bytes()[:99]
    )
    (tmp_path / 'b.mp4').symlink_to('nowhere')
    (tmp_path / 'notes').write_text('words')
    result = run_here(tmp_path)
    table = rows(result)
    assert table['layout'] == (
        'moving pictures (2), frame folders (2), video files (1)'
    )
    assert table['videos'] == '5, 3 usable'
    assert table['frame rates'] == '25 (1), 20 (1)'
    assert 'half.webp (not an image' in table['damaged']
    for left_out in ('a link to nothing (1: b.mp4)', 'text (1: notes)'):
        assert f'left out        {left_out}' in result.stdout


def damage_middle(path):
    """Write a video of 40 frames, of which 11 to 19 are damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as file:
        options = {'sc_threshold': '1000000000'}
        stream = file.add_stream('mpeg4', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.gop_size = 10
        for image in np.random.default_rng(0).integers(
            0, 255, (40, 48, 64, 3)
        ):
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), 'rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(str(path)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    start, size = packets[11]
    blob = bytearray(path.read_bytes())
    blob[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(blob)


def test_it_says_how_much_it_looked_at(tmp_path, run_here):
    root, sheet = tmp_path / 'data', tmp_path / 'sheet.png'
    damage_middle(root / 'a.mp4')
    write_clip(root / 'b.mp4', 12)
    # The first and the last ten of a.mp4, and b.mp4.
    table = rows(run_here(root))
    assert table['looked at'] == '32 of 52 frames; --thorough decodes all'
    assert table['damaged'] == 'none found'
    table = rows(run_here(root, '--thorough', '--preview', sheet))
    assert table['looked at'] == 'all frames'
    assert table['damaged'] == 'a.mp4 (frames 11 to 19 are damaged)'
    assert table['videos'] == '2, 2 usable'
    assert cv2.imread(str(sheet)).shape[0] == 2 * 128 + 2
    # Frames 0 to 10 and 20 to 39 are not enough for a clip of 32.
    many = ('--num-frames', 32, '--max-dist', 64)
    assert run_here(root, *many).returncode == 0
    result = run_here(root, *many, '--thorough')
    assert result.returncode == 2
    assert 'none of 2 videos can be used: damaged: a.mp4' in result.stderr


def test_thorough_look_at_pictures(tmp_path, run_here):
    write_frames(tmp_path / 'a', 5)
    write_frames(tmp_path / 'b', 5)
    (tmp_path / 'b' / '3.png').write_bytes(b'not a picture')
    assert rows(run_here(tmp_path))['damaged'] == 'none found'
    table = rows(run_here(tmp_path, '--thorough'))
    assert table['looked at'] == 'all frames'
    assert table['damaged'] == 'b (3.png cannot be decoded)'


def test_pixels_that_are_not_square(tmp_path, run_here):
    write_clip(tmp_path / 'a.mp4', 5)
    assert 'pixels' not in rows(run_here(tmp_path))
    with VideoWriter(tmp_path / 'b.mp4', 25, pixel_aspect=1.5) as writer:
        writer.append(np.zeros((5, 3, 48, 64), np.uint8))
    text = rows(run_here(tmp_path))['pixels']
    assert text.startswith('not square, width to height: b.mp4 (1.5); ')
    assert '--square-pixels' in text


def test_clip_settings_decide_what_is_usable(tmp_path, run_here):
    for i, num_frames in enumerate([4, 9, 40]):
        write_clip(tmp_path / f'{i}.mp4', num_frames)
    table = rows(run_here(tmp_path, '--num-frames', 6))
    # The shortest span of six frames is 8.
    assert table['videos'] == '3, 2 usable'
    assert table['under 9 frames'] == '0.mp4 (4)'
    result = run_here(tmp_path, '--num-frames', 6, '--max-dist', 7)
    assert result.returncode == 2
    assert 'max_dist=7' in result.stderr


def test_preview_shows_frames_from_start_to_end(tmp_path, run_here):
    root, sheet = tmp_path / 'data', tmp_path / 'sheet.png'
    for i, name in enumerate(['clip10', 'clip9']):
        write_frames(root / name, 11 + 10 * i)
    result = run_here(root, '--preview', sheet)
    assert result.returncode == 0
    assert result.stdout.endswith(f'picture in {sheet}\n')
    image = cv2.imread(str(sheet))
    assert image.shape == (2 * 128 + 2, 6 * 128 + 5 * 2, 3)
    cells = image[64::130, 64::130, 0]
    # Frame i is filled with 8 i; natural order: clip9 first.
    assert cells.tolist() == [
        [8 * i for i in (0, 4, 8, 12, 16, 20)],
        [8 * i for i in (0, 2, 4, 6, 8, 10)],
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'data',
        'sheet.png',
    ]


@pytest.mark.parametrize(
    ('make', 'args', 'text'),
    [
        (None, [], 'no such file or folder'),
        (lambda root: root.mkdir(), [], 'no videos found'),
        (
            lambda root: write_clip(root / 'a.mp4', 2),
            [],
            'none of 1 videos can be used.*a.mp4 \\(2\\)',
        ),
        (
            lambda root: write_clip(root / 'a.mp4', 9),
            ['--labels', 'folder'],
            'needs one folder per class',
        ),
        (
            lambda root: write_clip(root / 'a.mp4', 9),
            ['--labels', 'labels.csv'],
            'no such label file',
        ),
        (
            lambda root: write_clip(root / 'a.mp4', 9),
            ['--preview', 'sheet.txt'],
            'sheet.txt: give a .png',
        ),
        (
            lambda root: write_clip(root / 'a.mp4', 9),
            ['--plot', 'nowhere/plot.png'],
            'there is no folder nowhere',
        ),
    ],
)
def test_bad_input_gives_one_line(
    tmp_path, monkeypatch, run_here, make, args, text
):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / 'data'
    if make:
        make(root)
    result = run_here(root, *args)
    assert result.returncode == 2
    assert result.stderr.startswith('error: ')
    assert re.search(text, result.stderr)
    assert result.stderr.count('\n') == 1
    assert {path.name for path in tmp_path.iterdir()} <= {'data'}


def test_folders_whose_pictures_are_all_damaged(tmp_path, run_here):
    (tmp_path / 'a').mkdir()
    for i in range(5):
        (tmp_path / 'a' / f'{i}.png').write_bytes(b'not a picture')
    result = run_here(tmp_path)
    assert result.returncode == 2
    assert re.search(
        r'none of 1 videos can be used.*a \(first frame', result.stderr
    )


def waves(period, num_frames=300, seed=0):
    """Blocks that brighten and darken, [T, 3, 64, 64], uint8.

    Frames that lie L apart differ by |sin(pi L / period)| of the most.
    """
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (4, 4))
    t = np.arange(num_frames)[:, None, None]
    blocks = 127 + 100 * np.sin(2 * np.pi * t / period + phases)
    frames = blocks.repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
    return frames[:, None].repeat(3, axis=1)


@pytest.mark.parametrize(
    ('period', 'expected'),
    [(8, 16), (20, 16), (48, 32), (90, 64), (180, 128), (400, 256)],
)
def test_motion_period_is_not_above_that_of_waves(
    tmp_path, run_here, period, expected
):
    for i in range(3):
        write_video(tmp_path / f'{i}.mp4', waves(period, seed=i), 25)
    variables = config(run_here(tmp_path))
    assert variables['motion_period'] == expected
    assert variables['max_num_frames'] == 300


def test_noise_and_a_still_video_do_not_disturb(tmp_path, run_here):
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = rng.normal(0, 20, (300, 1, 64, 64))
        video = np.clip(waves(180, seed=i) + noise, 0, 255).astype(np.uint8)
        write_video(tmp_path / f'{i}.mp4', video, 25)
    write_clip(tmp_path / 'still.mp4', 300)
    assert config(run_here(tmp_path))['motion_period'] == 128


def test_slower_shapes_have_a_longer_motion_period(
    tmp_path, run_here, run_script
):
    """Periods are from 24 to 40 frames, then four times as long."""
    shapes = TOOL.parents[1] / 'dataset_converters/moving_shapes.py'
    run_script(
        *(shapes, tmp_path / 'fast', '--num-videos', 5),
        *('--num-frames', 64, '--resolution', 32),
    )
    for path in (tmp_path / 'fast').iterdir():
        with av.open(str(path)) as file:
            images = [f.to_ndarray(format='rgb24') for f in file.decode()]
        frames = np.stack(images).transpose(0, 3, 1, 2)
        write_video(tmp_path / 'slow' / path.name, frames.repeat(4, 0), 25)
    assert config(run_here(tmp_path / 'fast'))['motion_period'] == 16
    assert config(run_here(tmp_path / 'slow'))['motion_period'] in (64, 128)


def test_no_motion_period_where_nothing_moves(tmp_path, run_here):
    for i in range(3):
        write_clip(tmp_path / f'{i}.mp4', 40, grey=60 * i)
    result = run_here(tmp_path)
    assert 'motion_period' not in config(result)
    assert '# motion_period: too little moves' in result.stdout


def test_motion_period_is_not_above_max_num_frames(tmp_path, run_here):
    write_video(tmp_path / 'a.mp4', waves(500, num_frames=50), 25)
    variables = config(run_here(tmp_path))
    assert variables['max_num_frames'] == 50
    assert variables['motion_period'] == 32


def test_plot_shows_what_is_there(tmp_path, monkeypatch, run_here):
    root, plot = tmp_path / 'data', tmp_path / 'plot.png'
    for i, num_frames in enumerate([2, 12, 12, 40]):
        write_clip(root / f'{i}.mp4', num_frames, 64, 48 + 16 * i, fps=5 + i)
    write_video(root / '4.mp4', waves(20, num_frames=50), 25)
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, 'savefig', lambda *a: figures.append(a[0]) or save(*a)
    )
    result = run_here(root, '--plot', plot)
    assert result.stdout.endswith(f'picture in {plot}\n')
    assert cv2.imread(str(plot)).shape == (700, 1000, 3)
    assert {path.name for path in tmp_path.iterdir()} == {'data', 'plot.png'}

    def counts(axes, values):
        """How many are in the bars that hold some values."""
        return [
            sum(
                bar.get_height()
                for bar in axes.patches
                if 0 <= value - bar.get_x() <= bar.get_width()
            )
            for value in values
        ]

    (figure,) = figures
    lengths, sizes, rates, change = figure.axes
    assert counts(lengths, [2, 12, 40, 50, 30]) == [1, 2, 1, 1, 0]
    assert sum(bar.get_height() for bar in sizes.patches) == 10
    assert counts(rates, [5, 6, 7, 8, 25, 15]) == [1, 1, 1, 1, 1, 0]
    # Curves of the four usable videos, of which one has waves.
    still, *_, moving = sorted(
        (curve.get_data() for curve in change.lines), key=lambda c: max(c[1])
    )
    assert len(change.lines) == 4
    assert max(still[1]) < 1
    truth = abs(np.sin(np.pi * moving[0] / 20))
    np.testing.assert_allclose(moving[1] / max(moving[1]), truth, atol=0.12)


def test_exit_status_of_the_process(tmp_path):
    result = run(tmp_path / 'nowhere')
    assert result.returncode == 2
    text = f'error: {tmp_path / "nowhere"}: no such file or folder\n'
    assert result.stderr == text


def follow(result, run_script, out):
    """Run the command that the advice ends with."""
    command = rows(result)['advice'].split(': python ')[1]
    tool, *args = command.split()
    done = run_script(
        TOOL.parents[2] / tool,
        *(out if arg.startswith('OUT') else arg for arg in args),
    )
    assert done.returncode == 0, done.stderr


def test_advice_to_set_more_key_frames(
    tmp_path, monkeypatch, run_here, run_script
):
    monkeypatch.syspath_prepend(TOOL.parents[1] / 'dataset_converters')
    for i in range(2):
        # x264 sets no key frames of its own in a still picture.
        write_clip(tmp_path / 'data' / f'{i}.mp4', 200)
    result = run_here(tmp_path / 'data', '--num-frames', 1)
    assert rows(result)['key frames'] == 'every 200 frames, on average'
    passed, would = re.search(
        r'takes decoding (\d+) frames; .* would take (\d+)',
        rows(result)['advice'],
    ).groups()
    # Frame i takes i + 1 frames from frame 0, and i % 4 + 1 from key frames.
    assert abs(int(passed) - 100.5) < 30
    assert int(would) in (2, 3)
    assert 'pixels' not in rows(result)['advice']
    follow(result, run_script, tmp_path / 'out')
    after = rows(run_here(tmp_path / 'out', '--num-frames', 1))
    assert after['key frames'] == 'every 4 frames, on average'
    assert 'advice' not in after


@pytest.mark.parametrize('kind', ['files', 'folders', 'zip'])
def test_advice_to_shrink(tmp_path, monkeypatch, run_here, run_script, kind):
    monkeypatch.syspath_prepend(TOOL.parents[1] / 'dataset_converters')
    root, out = tmp_path / 'data', tmp_path / 'out'
    if kind == 'files':
        write_clip(root / 'a.mp4', 5, 96, 96)
    else:
        write_frames(root / 'a', 5, size=96)
    if kind == 'zip':
        with zipfile.ZipFile(tmp_path / 'data.zip', 'w') as archive:
            for file in (root / 'a').iterdir():
                archive.write(file, file.relative_to(root))
        root, out = tmp_path / 'data.zip', tmp_path / 'out.zip'
    assert 'advice' not in rows(run_here(root))
    assert 'advice' not in rows(run_here(root, '--resolution', 48))
    result = run_here(root, '--resolution', 32)
    assert '9.0 times the pixels' in rows(result)['advice']
    assert rows(result)['reading'].endswith('one core, at 32 px')
    assert config(result)['resolution'] == 32
    follow(result, run_script, out)
    after = rows(run_here(out, '--resolution', 32))
    assert after['sizes'] == '32x32 (1)'
    assert 'advice' not in after


def test_advice_to_store_pictures(tmp_path, run_here):
    write_frames(tmp_path / 'data' / 'a', 5)
    shutil.make_archive(str(tmp_path / 'data'), 'zip', tmp_path / 'data')
    assert 'zip -0' in rows(run_here(tmp_path / 'data.zip'))['advice']


def test_reading_is_timed(tmp_path, monkeypatch, run_here):
    write_clip(tmp_path / 'a.mp4', 20)
    read = VideoFile.read

    def slow_read(*args):
        time.sleep(0.1)
        return read(*args)

    monkeypatch.setattr(VideoFile, 'read', slow_read)
    rate = float(rows(run_here(tmp_path))['reading'].split()[0])
    assert 4 < rate < 10
