"""Data that goes while a run reads it, and workers that die."""

import re
import shutil

import cv2
import numpy as np
import pytest
from faults import (
    NUM_ITERS,
    assert_same_end,
    at,
    checkpoints,
    error_line,
    resume,
)
from real_process import run_tool

from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.errors import InputError

# What befalls one of the eight videos before the fourth iteration.
HARMS = {
    'deleted': 'os.unlink(path)',
    'truncated': 'os.truncate(path, 400)',
    'replaced by another video': 'os.replace(other, path)',
    'replaced by noise': "open(path, 'wb').write(os.urandom(5000))",
    'replaced by a folder': 'os.unlink(path); os.mkdir(path)',
}


@pytest.fixture
def data(job, tmp_path):
    """A copy of the videos."""
    return shutil.copytree(job.data, tmp_path / 'videos')


def warnings_about(process, name):
    """Lines of the log that name a file."""
    return [
        line
        for line in process.said.splitlines()
        if 'WARNING' in line and str(name) in line
    ]


@pytest.mark.parametrize('harm', HARMS)
def test_a_video(job, data, tmp_path, tried, moment, harm):
    name = f'{moment.randrange(8):05d}.mp4'
    made = run_tool(
        'dataset_converters/moving_shapes.py',
        *(tmp_path / 'other', '--num-videos=1', '--num-frames=9'),
    )
    assert made.poll() == 0, made.said
    files = f"""
path, other = {str(data / name)!r}, {str(tmp_path / 'other/00000.mp4')!r}
"""
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path / 'work', '--cfg-options'),
        *(f'data_root={data}', 'num_workers=2'),
        before=at(3, files + HARMS[harm]),
    )
    assert process.poll() == 0, process.said
    assert checkpoints(tmp_path / 'work')[-1] == NUM_ITERS
    # Once, though two workers and several rounds meet it.
    (line,) = warnings_about(process, data / name)
    assert 'using other videos instead' in line
    tried(f'a video {harm} while training', 'warns once, goes on')


@pytest.mark.parametrize('kind', ['folders', 'zip'])
def test_frames(job, tmp_path, tried, moment, kind):
    frames = tmp_path / ('frames' if kind == 'folders' else 'frames.zip')
    made = run_tool('dataset_converters/videos_to_frames.py', job.data, frames)
    assert made.poll() == 0, made.said
    if kind == 'folders':
        video = f'{moment.randrange(8):05d}'
        harm = f"""
for i in range(40):
    os.unlink(f'{frames}/{video}/{{i:06d}}.png')
"""
    else:
        # Videos lie in it one after another.
        harm = f'os.truncate({str(frames)!r}, {frames.stat().st_size // 2})'
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path / 'work', '--cfg-options'),
        f'data_root={frames}',
        before=at(3, harm),
    )
    assert process.poll() == 0, process.said
    said = warnings_about(process, frames)
    assert said
    videos = [re.search('[0-9]{5}', line)[0] for line in said]
    assert len(set(videos)) == len(videos) < 8
    tried(f'{kind} of frames damaged while training', 'warns once, goes on')


def test_all_data(job, data, tmp_path, tried, moment):
    work_dir = tmp_path / 'work'
    iteration = moment.randrange(1, NUM_ITERS)
    gone = at(iteration, f'os.rename({str(data)!r}, {str(data) + "2"!r})')
    words = (job.config, '--work-dir', work_dir)
    option = ('--cfg-options', f'data_root={data}')
    process = run_tool('train.py', *words, *option, before=gone)
    if process.poll():
        line = error_line(process)
        assert f'{data}: none of 8 videos can be decoded' in line
    else:  # The last batches had been read.
        assert iteration > NUM_ITERS - 4
    (tmp_path / 'videos2').rename(data)
    lost = resume(job, work_dir, *option)
    assert_same_end(work_dir, job)
    tried('all data gone while training', 'one error, then --resume', lost)


def test_a_lost_disk_is_noticed_soon(tmp_path, tried):
    for i in range(150):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.zeros((8, 8, 3), np.uint8))
    pipeline = [dict(type='SampleClip', num_frames=1), dict(type='LoadClip')]
    dataset = VideoDataset(tmp_path, pipeline, images=True, seed=0)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(InputError, match='none of 100 videos can be decoded'):
        dataset[0]
    tried('a disk of data gone', 'one error after 100 videos')


def test_a_worker(job, tmp_path, tried, moment):
    kill = """
from multiprocessing import active_children
active_children()[0].kill()
"""
    process = run_tool(
        'train.py',
        *(job.config, '--work-dir', tmp_path),
        before=at(moment.randrange(1, NUM_ITERS - 3), kill),
    )
    assert process.poll() == 0, process.said
    assert process.said.count('starting new workers') == 1
    assert_same_end(tmp_path, job)
    tried('a data worker killed', 'a new one, the same run')


# Whatever worker reads the clip at this place of the stream dies.
DEADLY_CLIP = """
import os, signal
from stylegan_v_mm.datasets import VideoDataset
read = VideoDataset.__getitem__
def deadly(self, key):
    if key.seed[1] == 26:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(self, key)
VideoDataset.__getitem__ = deadly
"""


def test_workers_again_and_again(job, tmp_path, tried):
    words = (job.config, '--work-dir', tmp_path)
    process = run_tool('train.py', *words, before=DEADLY_CLIP)
    # Clip 26 is of iteration 7, in batches of 4, and read ahead.
    assert re.search('die before iteration [567]:', error_line(process))
    lost = resume(job, tmp_path)
    assert_same_end(tmp_path, job)
    tried('each data worker killed', 'one error, then --resume', lost)
