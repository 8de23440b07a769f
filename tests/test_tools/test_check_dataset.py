"""The tool that shows what a data set holds, run as users run it."""

import json
import re
import shutil
import zipfile
from functools import partial

import cv2
import numpy as np
import pytest
from drawn_videos import write_clip, write_frames
from PIL import Image
from real_process import ROOT, run_tool

from stylegan_v_mm.config import load_config
from stylegan_v_mm.video.encoding import VideoWriter

TOOL = ROOT / 'tools/analysis_tools/check_dataset.py'
run = partial(run_tool, 'analysis_tools/check_dataset.py')


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
    base = ROOT / 'configs/stylegan_v/ucf101.py'
    known = load_config(base, variables | {'motion_period': 16})
    assert known.num_classes == known.model.num_classes == 2


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
        'animated images (2), frame folders (2), video files (1)'
    )
    assert table['videos'] == '5, 3 usable'
    assert table['frame rates'] == '25 (1), 20 (1)'
    assert 'half.webp (not an image' in table['damaged']
    for left_out in ('a link to nothing (1: b.mp4)', 'text (1: notes)'):
        assert f'left out        {left_out}' in result.stdout


def test_pixels_that_are_not_square(tmp_path, run_here):
    write_clip(tmp_path / 'a.mp4', 5)
    assert 'pixels' not in rows(run_here(tmp_path))
    with VideoWriter(tmp_path / 'b.mp4', 25, pixel_aspect=1.5) as writer:
        writer.append(np.zeros((5, 3, 48, 64), np.uint8))
    text = rows(run_here(tmp_path))['pixels']
    assert text.startswith('not square, width to height: b.mp4 (1.5); ')
    assert '--square-pixels' in text


def test_pictures_are_written(tmp_path, run_here):
    root = tmp_path / 'data'
    write_frames(root / 'a', 11)
    sheet, plot = tmp_path / 'sheet.png', tmp_path / 'plot.jpg'
    result = run_here(root, '--preview', sheet, '--plot', plot, '--thorough')
    assert rows(result)['looked at'] == 'all frames'
    end = f'\npicture in {sheet}\n\npicture in {plot}\n'
    assert result.stdout.endswith(end)
    # In colours, the channels in their order.
    assert cv2.imread(str(sheet)).shape == (128, 6 * 128 + 5 * 2, 3)
    assert cv2.imread(str(plot)).shape == (700, 1000, 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {'data', 'sheet.png', 'plot.jpg'}


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
        r'(\d+) frames are decoded for a clip; .* would be (\d+)',
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
