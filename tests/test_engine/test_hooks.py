"""What training shows of itself, and when it stops."""

import json
import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from PIL import Image
from real_process import train_two

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import (
    DeferredLogsHook,
    DivergenceHook,
    TrainingSpeedHook,
    VideoGANRunner,
    VideoPreviewHook,
    VideoVisualizer,
)
from stylegan_v_mm.engine.hooks.preview import write_filmstrip
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

    def sampler(self):
        return self

    def latents(self, seeds, c, motion_seeds):
        self.calls += tuple(zip(seeds, map(tuple, c.tolist())))
        return torch.tensor([seeds, motion_seeds])

    def stream(self, latents, t):
        size = len(latents[0]), len(t), 3, 8, 8
        frames = torch.zeros(size, dtype=torch.uint8)
        content, motion = 40 * latents[:, :, None, None, None, None]
        frames[..., :4] = content
        frames[..., 4:] = motion
        yield frames[:, :3]
        yield frames[:, 3:]


@pytest.fixture
def runner(tmp_path):
    dataset = SimpleNamespace(labels=np.eye(2, dtype=np.float32))
    return SimpleNamespace(
        hooks=[],
        model=Painter(),
        train_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(tmp_path),
        logger=MMLogger.get_current_instance(),
        visualizer=VideoVisualizer.get_instance(
            tmp_path.name,
            vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path),
        ),
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


def test_previews_reach_tensorboard(runner, tmp_path):
    events = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator'
    )
    runner.visualizer = VideoVisualizer.get_instance(
        f'{tmp_path.name}_tensorboard',
        vis_backends=[dict(type='TensorboardVisBackend')],
        save_dir=str(tmp_path),
    )
    hook = VideoPreviewHook(10, num_videos=4, num_frames=5, fps=10)
    hook.after_train_iter(runner, 9)
    runner.visualizer.close()
    log = events.EventAccumulator(str(tmp_path / 'vis_data'))
    log.Reload()
    (event,) = log.Images('preview')
    assert (event.step, event.width, event.height) == (10, 40, 18)
    path = tmp_path / 'a.gif'
    path.write_bytes(event.encoded_image_string)
    with av.open(str(path)) as container:
        frame = next(container.decode()).to_ndarray(format='rgb24')
    # The last video of each grid.
    assert (frame[10:, 10:14] == 120).all()
    assert (frame[10:, 14:18] == 120).all()
    assert (frame[10:, 32:36] == 120).all()
    assert (frame[10:, 36:40] == 0).all()


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


@pytest.fixture
def train(config, tmp_path):
    """Train, and do something to the model after one of the iterations."""

    def train(iteration, harm, **options):
        class Harm(Hook):
            def after_train_iter(self, runner, *args, **kwargs):
                if runner.iter + 1 == iteration:
                    harm(runner.model)

        options['custom_hooks.2.num_frames'] = 2  # of the previews
        run = load_config(str(config), options | {'work_dir': str(tmp_path)})
        run.experiment_name = tmp_path.name
        runner = VideoGANRunner.from_cfg(run)
        runner.register_hook(Harm())
        runner.train()

    return train


def poison(model, network, value):
    """Overwrite one number of the weights."""
    last = [*getattr(model, network).parameters()][-1]
    with torch.no_grad():
        last.view(-1)[-1] = value


def assert_good(folder, *numbers):
    """Exactly these checkpoints are there, and finite."""
    names = {path.name for path in folder.glob('*.pth*')}
    assert names == {f'iter_{number}.pth' for number in numbers}
    assert not list(folder.glob('.*.pth*'))
    for name in names:
        weights = load_checkpoint(folder / name)['state_dict']
        assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize(
    ('network', 'value', 'iteration'),
    [
        ('generator', float('nan'), 4),
        ('generator', float('inf'), 5),
        ('discriminator', -float('inf'), 4),
        ('generator_ema', float('nan'), 4),
    ],
)
def test_weights_that_are_not_finite_stop_training(
    train, tmp_path, network, value, iteration
):
    # A checkpoint and a preview were due after the fourth iteration, and the
    # older checkpoint would have been removed.
    with pytest.raises(InputError) as error:
        train(
            iteration,
            lambda model: poison(model, network, value),
            **{'default_hooks.checkpoint.max_keep_ckpts': 1},
        )
    last_good = (iteration - 1) // 2 * 2
    where = f'iterations {last_good + 1} to {last_good + 2}'
    # An iteration later, losses are not finite either.
    found = 'loss_g' if iteration < last_good + 2 else f'{network}.'
    assert f'in {where}: {found}' in str(error.value)
    assert f'--resume {tmp_path}/iter_{last_good}.pth' in str(error.value)
    assert_good(tmp_path, last_good)
    previews = sorted(path.name for path in tmp_path.glob('previews/*'))
    assert previews[-1] == f'iter_{last_good:07d}.mp4'


def scale_logits(model, factor):
    """Let the discriminator exaggerate."""
    model.discriminator.register_forward_hook(
        lambda network, inputs, logits: logits * factor
    )


def test_a_loss_that_is_not_finite_stops_training(train, tmp_path):
    with pytest.raises(
        InputError, match='iterations 3 to 4: loss_g is '
    ) as error:
        train(3, lambda model: scale_logits(model, torch.inf))
    assert f'{tmp_path}/iter_2.pth' in str(error.value)
    # The weights are finite, yet they lead nowhere.
    assert_good(tmp_path, 2)


def test_the_log_shows_what_was_found(train, tmp_path):
    with pytest.raises(InputError):
        train(3, lambda model: poison(model, 'generator', float('nan')),
              log_interval=1)  # fmt: skip
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    assert [line.count('"iter": ') for line in log.open()] == [1, 1, 1]


def test_a_discriminator_that_wins_outright_stops_training(train, tmp_path):
    with pytest.raises(InputError, match=r'4: logits_real=.+e\+.*fake'):
        train(3, lambda model: scale_logits(model, 1e7))
    assert_good(tmp_path, 2)


def test_logs_that_are_read_late_are_mmengines(train, tmp_path):
    histories, lines = [], []
    for kind in ('DeferredLogsHook', 'RuntimeInfoHook'):
        train(0, None, **{'default_hooks.runtime_info.type': kind})
        checkpoint = load_checkpoint(tmp_path / 'iter_8.pth')
        histories.append(checkpoint['message_hub']['log_scalars'])
        (log,) = tmp_path.glob('*/vis_data/scalars.json')
        lines.append([json.loads(line) for line in log.open()])
        for path in tmp_path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ours, theirs = histories
    assert ours.keys() == theirs.keys() > {'train/loss_g', 'train/kimg'}
    for name, history in theirs.items():
        if 'time' not in name and 'per_sec' not in name:
            assert (ours[name].data[0] == history.data[0]).all(), name
    for left, right in zip(*lines, strict=True):
        assert left.keys() == right.keys()
        assert left['loss_d'] == right['loss_d']


def test_without_a_checkpoint_training_starts_anew(train, tmp_path):
    with pytest.raises(InputError, match='no checkpoint was written before'):
        train(1, lambda model: poison(model, 'generator', float('nan')))
    assert_good(tmp_path)


def look(tmp_path, gaps, iteration=60):
    """Let the hook look at a run whose logits had these gaps."""
    hub = MessageHub.get_instance(f'{tmp_path.name}_{len(gaps)}_{gaps[-1]}')
    runner = SimpleNamespace(
        hooks=[],
        message_hub=hub,
        model=torch.nn.Linear(2, 2),
        work_dir=str(tmp_path),
        iter=iteration,
    )
    hook = DivergenceHook()
    hook.before_train(runner)
    outputs = dict(logits_real=0, logits_fake=0)
    for gap in gaps:
        hub.update_scalar('train/logits_real', gap / 2 + 7)
        hub.update_scalar('train/logits_fake', -gap / 2 + 7)
    hook.after_train_iter(runner, iteration, {}, outputs)


def test_only_lasting_gaps_of_logits_count(tmp_path):
    look(tmp_path, [0] * 49 + [4.9e5])
    look(tmp_path, [1e6] * 10 + [9.9e3] * 50)
    look(tmp_path, [-9.9e3] * 50)
    with pytest.raises(InputError):
        look(tmp_path, [0] * 49 + [5.1e5])
    with pytest.raises(InputError):
        look(tmp_path, [0] * 9 + [-1.1e4] * 50)


def test_a_resumed_run_is_looked_at_when_values_are_read(tmp_path):
    """And not whenever mmengine notes its times, which is always."""
    hub = MessageHub.get_instance(f'{tmp_path.name} resumed')
    for name in ('time', 'loss_g'):
        hub.update_scalar(f'train/{name}', 1.0)
    logs = DeferredLogsHook()
    logs._unread, logs._interval = [], 50
    runner = SimpleNamespace(
        hooks=[logs],
        message_hub=hub,
        model=torch.nn.Linear(2, 2),
        work_dir=str(tmp_path),
        iter=60,
        train_dataloader=range(1000),
    )
    hook = DivergenceHook()
    hook.before_train(runner)
    outputs = {'loss_g': torch.tensor(torch.nan)}
    for each in (logs, hook):
        each.after_train_iter(runner, 60, {}, outputs)
    hub.update_scalar('train/time', 1.0)
    hook.after_train_iter(runner, 60, {}, outputs)
    logs.read(runner)
    with pytest.raises(InputError, match='loss_g is nan'):
        hook.after_train_iter(runner, 60, {}, outputs)


def test_checkpoints_of_later_iterations_are_not_named(tmp_path):
    for number in (20, 40, 60, 100, 9):
        (tmp_path / f'iter_{number}.pth').touch()
    with pytest.raises(InputError, match=r'before is \S+/iter_40\.pth'):
        look(tmp_path, [1e5], 59)
    with pytest.raises(InputError, match=r'before is \S+/iter_60\.pth'):
        look(tmp_path, [2e5], 60)


POISON = """
import torch
from mmengine.dist import get_rank
from stylegan_v_mm.engine import DivergenceHook
from stylegan_v_mm.registry import HOOKS

@HOOKS.register_module()
class Poison(DivergenceHook):
    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 3 and get_rank() == 1:
            with torch.no_grad():
                next(runner.model.generator.parameters()).mul_(torch.nan)
"""


@pytest.mark.slow
def test_all_processes_stop_together(config, tmp_path):
    (tmp_path / 'poison.py').write_text(POISON)
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = ['{config}']\n"
        "custom_imports = dict(imports=['poison'])\n"
        "custom_hooks = [dict(type='Poison'), dict(type='DivergenceHook')]\n"
    )
    # The weights of one process go wrong, and both say so.
    message = 'error: training has gone wrong in iterations 3 to 4: generator.'
    for process in train_two(path, tmp_path, cwd=tmp_path):
        assert process.returncode != 0
        assert process.stderr.count(message) == 1
    assert_good(tmp_path, 2)
