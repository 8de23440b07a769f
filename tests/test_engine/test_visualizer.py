"""Where numbers and videos of training go, read back by other libraries."""

import io
import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from real_process import run_program

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoVisualizer
from stylegan_v_mm.engine.visualizer import encode_gif
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.encoding import write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture
def visualizer(tmp_path):
    """Make a visualizer of some backends that writes to ``tmp_path``."""

    def visualizer(*backends):
        return VideoVisualizer.get_instance(
            tmp_path.name, vis_backends=[*backends], save_dir=str(tmp_path)
        )

    return visualizer


@pytest.fixture
def frames():
    """Five frames [5, 3, 12, 16] of few colours, none like another."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, [8, 3], np.uint8)
    return torch.from_numpy(colours[rng.integers(0, 8, [5, 12, 16])]).permute(
        0, 3, 1, 2
    )


def decode(gif):
    """Frames [T, 3, H, W] of a GIF, by FFmpeg."""
    with av.open(io.BytesIO(gif)) as container:
        images = [f.to_ndarray(format='rgb24') for f in container.decode()]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def tensorboard_log(folder):
    events = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    log = events.EventAccumulator(str(folder))
    log.Reload()
    return log


def test_tensorboard_has_the_numbers_and_the_video(
    visualizer, frames, tmp_path
):
    pytest.importorskip('tensorboard')
    vis = visualizer(dict(type='TensorboardVisBackend'))
    for step in (10, 20):
        vis.add_scalars({'loss_g': step / 8, 'kimg': step}, step)
    vis.add_video('preview', tmp_path / 'unused.mp4', frames, 25, 20)
    vis.close()
    log = tensorboard_log(tmp_path / 'vis_data')
    points = [(e.step, e.value) for e in log.Scalars('loss_g')]
    assert points == [(10, 1.25), (20, 2.5)]
    (event,) = log.Images('preview')
    assert (event.step, event.width, event.height) == (20, 16, 12)
    assert torch.equal(decode(event.encoded_image_string), frames)


@pytest.mark.parametrize(
    ('fps', 'hundredths'), [(25, 4), (10, 10), (12.5, 8), (60, 2)]
)
def test_gifs_play_at_the_speed_of_the_video_for_ever(frames, fps, hundredths):
    with Image.open(io.BytesIO(encode_gif(frames, fps))) as image:
        assert image.info['loop'] == 0
        for i in range(image.n_frames):
            image.seek(i)
            assert image.info['duration'] == 10 * hundredths


def test_large_gifs_are_shrunk_by_averaging():
    frames = torch.zeros(2, 3, 9, 1302, dtype=torch.uint8)
    frames[:, :, ::3] = 120  # every third row
    frames[1] *= 2
    small = decode(encode_gif(frames, 25))
    assert small.shape == (2, 3, 3, 434)
    assert (small[0] == 40).all()
    assert (small[1] == 80).all()


def wandb_records(folder):
    """What W&B's file of an offline run holds: a log as of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob('wandb/offline-run-*/run-*.wandb')
    data, block, header = path.read_bytes(), 2**15, 7
    place, record = header, b''
    while place < len(data):
        if block - place % block < header:
            place += block - place % block
        length, kind = struct.unpack_from('<HB', data, place + 4)
        place += header + length
        record += data[place - length : place]
        if kind in (1, 4):  # whole, last part
            yield Record.FromString(record)
            record = b''


WANDB_RUN = """
import numpy as np
import torch
from mmengine.config import Config
from stylegan_v_mm.engine import VideoVisualizer

init = dict(mode='offline', project='test')
backend = dict(type='WandbVisBackend', init_kwargs=init)
vis = VideoVisualizer('test', vis_backends=[backend], save_dir='.')
vis.add_config(Config(dict(resolution=16)))
vis.add_scalars({'loss_g': 1.25, 'iter': 10}, 10)
frames = torch.from_numpy(np.load('frames.npy'))
vis.add_video('preview', 'preview.mp4', frames, 25, 10)
vis.close()
"""


@pytest.mark.slow
def test_wandb_has_the_numbers_and_the_video(frames, tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text('secret = 1')
    video = tmp_path / 'preview.mp4'
    write_video(video, frames, 25)
    np.save('frames.npy', frames)
    # A process of its own, as W&B writes to the end of one.
    process = run_program(WANDB_RUN, tmp_path)
    assert process.returncode == 0, process.said
    folder = tmp_path / 'vis_data'
    records = [*wandb_records(folder)]
    history = [
        {
            item.key or '.'.join(item.nested_key): item.value_json
            for item in record.history.item
        }
        for record in records
        if record.HasField('history')
    ]
    assert history[0]['loss_g'] == '1.25'
    assert history[1]['iter'] == '10'
    assert any(
        item.key == 'resolution' and item.value_json == '16'
        for record in records
        for item in [*record.config.update, *record.run.config.update]
    )
    (copy,) = folder.glob('wandb/offline-run-*/files/media/videos/*.mp4')
    assert copy.read_bytes() == video.read_bytes()
    assert copy.name in ''.join(history[1].values())
    # Code stays where it is.
    assert not any(record.HasField('artifact') for record in records)
    assert not any(
        record.request.HasField('log_artifact') for record in records
    )


@pytest.mark.parametrize(
    ('backend', 'package'),
    [('TensorboardVisBackend', 'tensorboard'), ('WandbVisBackend', 'wandb')],
)
def test_a_missing_package_is_named(visualizer, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    visualizer(dict(type='LocalVisBackend'))
    with pytest.raises(
        InputError, match=f'{backend} .*pip install.*{package}'
    ):
        VideoVisualizer(
            vis_backends=[dict(type=backend)], save_dir='never made'
        )
    assert not Path('never made').exists()


@pytest.mark.skipif(
    find_spec('clearml') is not None, reason='clearml is installed'
)
def test_a_package_that_is_not_there_is_named():
    with pytest.raises(InputError, match='clearml'):
        VideoVisualizer(
            vis_backends=[dict(type='ClearMLVisBackend')], save_dir='x'
        )


@pytest.mark.parametrize('on', [False, True])
def test_a_variable_switches_tensorboard(on, tmp_path):
    pytest.importorskip('tensorboard')
    config = load_config(
        ROOT / 'configs/stylegan_v/ucf101.py', {'tensorboard': on}
    )
    settings = {**config.visualizer, 'save_dir': str(tmp_path)}
    assert settings.pop('type') == 'VideoVisualizer'
    visualizer = VideoVisualizer(**settings)
    kinds = ['LocalVisBackend'] + ['TensorboardVisBackend'] * on
    assert [*visualizer._vis_backends] == kinds
