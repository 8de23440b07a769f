"""What training shows of itself."""

from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from PIL import Image

from stylegan_v_mm.engine import TrainingSpeedHook, VideoPreviewHook
from stylegan_v_mm.engine.hooks import write_filmstrip
from stylegan_v_mm.errors import InputError


def test_the_speed_counts_frames():
    hub = MessageHub.get_instance('test_speed')
    hub.update_scalar('train/time', 0.5)
    batch = {'video': torch.zeros(4, 3, 3, 8, 8)}
    runner = SimpleNamespace(message_hub=hub)
    TrainingSpeedHook().after_train_iter(runner, 0, batch)
    assert hub.get_scalar('train/frames_per_sec').current() == 24


class Painter:
    """Paints the seed of the content left, that of the motion right."""

    calls = ()

    def sample_video(self, seed, t, c, motion_seed):
        self.calls += ((seed, tuple(c.tolist())),)
        frames = torch.zeros(len(t), 3, 8, 8, dtype=torch.uint8)
        frames[..., :4] = 40 * seed
        motion = seed if motion_seed is None else motion_seed
        frames[..., 4:] = 40 * motion
        yield frames[:3]
        yield frames[3:]


@pytest.fixture
def runner(tmp_path):
    dataset = SimpleNamespace(labels=np.eye(2, dtype=np.float32))
    return SimpleNamespace(
        model=Painter(),
        train_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(tmp_path),
        logger=MMLogger.get_current_instance(),
        iter=9,
        max_iters=12,
    )


def test_previews_show_own_and_shared_motion(runner, tmp_path):
    hook = VideoPreviewHook(10, num_videos=4, num_frames=5, fps=10)
    hook.after_train_iter(runner, 9)
    with av.open(str(tmp_path / 'previews/iter_0000010.mp4')) as container:
        frames = [f.to_ndarray(format='rgb24') for f in container.decode()]
    assert len(frames) == 5
    assert frames[0].shape == (18, 2 * 18 + 4, 3)
    # 8 px videos, 2 px between them; 4 px between the grids. The centres of
    # the halves of each cell:
    values = frames[0][:, :, 1].astype(int)
    for left in (0, 22):
        for seed in range(4):
            y, x = seed // 2 * 10 + 4, left + seed % 2 * 10
            assert values[y, x + 1] == pytest.approx(40 * seed, abs=8)
            motion = 0 if left else seed
            assert values[y, x + 6] == pytest.approx(40 * motion, abs=8)
    # Labels of the data take turns, the same in both grids.
    labels = [(s, ((1, 0), (0, 1))[s % 2]) for s in range(4)]
    assert list(runner.model.calls) == labels * 2


@pytest.mark.parametrize(
    ('iteration', 'written'), [(8, False), (9, True), (11, True)]
)
def test_previews_come_at_intervals_and_at_the_end(
    runner, tmp_path, iteration, written
):
    runner.iter = iteration
    VideoPreviewHook(10, 1, 5).after_train_iter(runner, iteration)
    assert (tmp_path / 'preview.png').exists() == written


@pytest.mark.parametrize('name', ['interval', 'num_videos', 'num_frames'])
def test_nonsense_is_named(name):
    with pytest.raises(InputError, match=f'{name}=0'):
        VideoPreviewHook(**{'interval': 1, name: 0})


def test_the_filmstrip_shows_equally_spaced_frames(tmp_path):
    frames = torch.arange(11, dtype=torch.uint8)[:, None, None, None]
    frames = frames.expand(11, 3, 5, 7)
    write_filmstrip(frames, tmp_path / 'a.png', 3)
    image = np.array(Image.open(tmp_path / 'a.png'))
    assert image.shape == (5, 3 * 11, 3)
    assert [image[2, 11 * i, 0] for i in range(3)] == [0, 5, 10]
    assert (image[:, 7:11] == 255).all()
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']
