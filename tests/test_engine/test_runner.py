"""The runner's settings of the process, resuming, and what it refuses."""

import threading
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_device import FakeDevice, needs_fake_device
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner
from real_process import ROOT, run_program, run_program_twice
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import GANOptimWrapperConstructor, VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.registry import DATASETS, MODELS
from stylegan_v_mm.video.encoding import write_video

# How often the kernel had to give a page while large tensors come and go.
SCRIPT = """
import resource
import torch
from stylegan_v_mm.cli import keep_freed_memory

def page_faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.zeros(2**22) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

before = page_faults()
keep_freed_memory()
page_faults()  # the first time, memory has to come from somewhere
print(before, page_faults())
"""


def test_freed_memory_is_reused(tmp_path):
    result = run_program(SCRIPT, tmp_path)
    before, after = map(int, result.stdout.split())
    assert after < before / 20


@pytest.fixture
def backends():
    """Those that round to TF32, and back to what they were."""
    backends = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [backend.allow_tf32 for backend in backends]
    yield backends
    for backend, value in zip(backends, before):
        backend.allow_tf32 = value


@pytest.mark.parametrize('tf32', [False, True])
def test_gpus_round_products_only_if_they_may(
    backends, monkeypatch, tmp_path, tf32
):
    for backend in backends:
        backend.allow_tf32 = not tf32
    runner = VideoGANRunner.__new__(VideoGANRunner)
    for name, value in dict(distributed=False, work_dir=tmp_path).items():
        monkeypatch.setattr(runner, f'_{name}', value, raising=False)
    runner.setup_env(dict(tf32=tf32) if tf32 else {})
    assert [backend.allow_tf32 for backend in backends] == [tf32, tf32]


def test_accumulation_has_one_place():
    cfg = dict(generator=dict(accumulative_counts=2))
    with pytest.raises(InputError, match=r'optim_wrapper\.generator\.accum'):
        GANOptimWrapperConstructor(cfg)


def test_a_wrapped_model_names_the_setting():
    model = DistributedDataParallel.__new__(DistributedDataParallel)
    with pytest.raises(InputError, match=r'model_wrapper_cfg=.*EqualReplicas'):
        GANOptimWrapperConstructor(dict(module={}))(model)


# Resuming.

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
resolution = 16
batch_size = 4
max_iters = 1
model = dict(
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
custom_hooks = [
    dict(type='VideoPreviewHook', interval=9, num_videos=2, num_frames=2)
]
"""


@pytest.fixture
def config_file(tmp_path):
    """A config of one iteration, and its data."""
    video = torch.zeros(40, 3, 16, 16, dtype=torch.uint8)
    for name in 'abcd':
        write_video(tmp_path / f'videos/{name}.mp4', video, 25)
    path = tmp_path / 'config.py'
    path.write_text(f"{CONFIG}data_root = '{tmp_path}/videos'\n")
    return path


@pytest.fixture
def train(config_file, tmp_path, monkeypatch):
    """Train, by default for one iteration; return the runner."""
    numbers = count()

    def train(change=lambda config: None, work_dir='work', **options):
        options['work_dir'] = str(tmp_path / work_dir)
        config = load_config(str(config_file), options)
        change(config)
        # mmengine's message hubs are known by name.
        config.experiment_name = f'{tmp_path.name} {next(numbers)}'
        runner = VideoGANRunner.from_cfg(config)
        runner.train()
        return runner

    return train


def test_mmengines_own_runner_trains_and_resumes_the_same(
    train, config_file, tmp_path
):
    wanted = train(max_iters=2).model.state_dict()
    for number in (1, 2):
        options = dict(max_iters=number, resume=number > 1)
        options['work_dir'] = str(tmp_path / 'plain')
        config = load_config(str(config_file), options)
        config.experiment_name = f'{tmp_path.name} plain {number}'
        plain = Runner.from_cfg(config)
        assert type(plain) is Runner
        plain.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    assert (tmp_path / 'plain/previews/iter_0000002.mp4').exists()


def states_of_adam(runner):
    return [
        state
        for wrapper in runner.optim_wrapper.values()
        for state in wrapper.optimizer.state.values()
    ]


class OwnVideos(Dataset):
    """A data set that knows nothing of this package but what training takes.

    With values besides that no network could take.
    """

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rng = np.random.default_rng(index.seed)
        t = np.sort(rng.choice(40, (3, 3), False))
        frames = 50 * np.arange(5)[index] + t[0, :, None, None, None]
        video = np.broadcast_to(frames.astype(np.uint8), (3, 3, 16, 16))
        return dict(
            video=torch.tensor(video),
            t=t[0].astype(float),
            c=np.eye(2, dtype=np.float32)[index % 2],
            gen_t=t[1:].astype(float),
            gen_c=np.eye(2, dtype=np.float32),
            name=f'{index}.npy',
            place=int(index),
            nothing=None,
            ragged=[0] * index,
        )


@pytest.fixture
def own_videos():
    DATASETS.register_module(module=OwnVideos, force=True)
    yield dict(type='OwnVideos')
    DATASETS.module_dict.pop('OwnVideos')


def wrapped(inner):
    return dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[inner, inner]),
    )


@pytest.mark.parametrize('kind', ['wrapped', 'own'])
def test_other_data_sets_train_and_resume(train, own_videos, kind):
    """A run that was stopped is the one that was not."""

    def change(config):
        dataset = config.train_dataloader.dataset
        if kind == 'own':
            config.train_dataloader.dataset = own_videos
        else:
            config.train_dataloader.dataset = wrapped(dataset.to_dict())

    options = {'num_classes': 2} if kind == 'own' else {}
    whole = train(change, 'whole', max_iters=3, **options)
    train(change, max_iters=2, **options)
    resumed = train(change, resume=True, max_iters=3, **options)
    assert resumed.iter == whole.iter == 3
    state = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert list(Path(whole.work_dir, 'previews').iterdir())


@needs_fake_device
@pytest.mark.parametrize('fused', [True, False])
def test_adam_counts_its_steps_where_it_needs_them(train, monkeypatch, fused):
    """A run of a CPU goes on elsewhere; the config has the last word."""
    fresh = states_of_adam(train())
    key = 'optim_wrapper.{}.optimizer.fused'
    networks = ('generator', 'discriminator')
    options = {key.format(name): fused for name in networks}
    with FakeDevice() as device:
        for module in ('mmengine.runner.runner', VideoGANRunner.__module__):
            monkeypatch.setattr(f'{module}.get_device', lambda: 'gpu')
        # The one iteration is done, so that only the state is loaded.
        runner = train(resume=True, **options)
        resumed = states_of_adam(runner)
        assert len(resumed) == len(fresh) > 50
        for ours, theirs in zip(resumed, fresh):
            assert ours['step'].device.type == ('gpu' if fused else 'cpu')
            assert fused or ours['step'] == theirs['step']
            assert ours['exp_avg'].device.type == 'gpu'
        device.reads.clear()
        for name, wrapper in runner.optim_wrapper.items():
            for param in getattr(runner.model, name).parameters():
                param.grad = torch.ones_like(param)
            wrapper.step()
    assert device.reads == []


MEETING = """
    import sys
    from pathlib import Path
    import torch.distributed as dist
    from mmengine.logging import MMLogger
    from mmengine.runner import Runner
    from stylegan_v_mm.engine import VideoGANRunner
    dist.init_process_group('gloo')
    rank, folder = dist.get_rank(), sys.argv[1]
    # What mmengine's own would go on with.
    Runner.load_or_resume = lambda self: print(self._resume, self._load_from)
    for resume, load_from, method in (
        (True, None, 'load_or_resume'),
        (False, 'other.pth', 'resume_if_begun'),
    ):
        runner = VideoGANRunner.__new__(VideoGANRunner)
        runner._work_dir = f'{folder}/{method}{rank}'
        runner._resume, runner._load_from = resume, load_from
        runner.logger = MMLogger.get_current_instance()
        getattr(runner, method)()
        print(Path(str(runner._load_from)).name, runner._resume)
    # Left to the interpreter's end, gloo's threads now and then abort.
    dist.destroy_process_group()
"""


def test_the_main_process_chooses_the_checkpoint(tmp_path):
    """Two real processes, of which each sees other files."""
    for folder, numbers in (
        ('load_or_resume0', (1, 2)),
        ('load_or_resume1', (1, 2, 3)),
        ('resume_if_begun0', (1,)),
        ('resume_if_begun1', ()),
    ):
        (tmp_path / folder).mkdir()
        for number in numbers:
            torch.save({}, tmp_path / folder / f'iter_{number}.pth')
    said = run_program_twice(MEETING, tmp_path, tmp_path)
    newest = tmp_path / 'load_or_resume0/iter_2.pth'
    assert said[0] == f'True {newest}\niter_2.pth True\nNone True\n'
    assert said[1] == said[0]


@pytest.mark.parametrize('build', [VideoGANRunner.from_cfg, RUNNERS.build])
def test_a_config_as_mmengine_reads_it_trains(
    build, config_file, tmp_path, monkeypatch
):
    """What one types in a notebook; mmengine's RUNNERS is what tools call."""
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(config_file)
    config.resolution = 32
    config.experiment_name = f'{tmp_path.name} {build.__qualname__}'
    runner = build(config)
    assert runner.model.generator.resolution == 32
    runner.train()
    group = next(iter(runner.optim_wrapper['discriminator'].param_groups))
    assert group['lr'] == pytest.approx(0.006 * 16 / 17)
    assert Path('work_dirs/config/iter_1.pth').exists()
    # The copy in the work dir has the numbers; the caller's has its formulas.
    copy = load_config('work_dirs/config/config.py')
    assert copy.model.resolution == 32
    assert config.max_iters == 1
    assert config.train_cfg.max_iters == '= max_iters'


def test_mistakes_in_a_config_that_was_changed_are_named(config_file):
    config = Config.fromfile(config_file)
    config.resolutoin = 32
    with pytest.raises(InputError, match=r"'resolutoin'.* 'resolution'"):
        VideoGANRunner.from_cfg(config)
    config.pop('resolutoin')
    config.model.generator.z_dimm = 8
    with pytest.raises(InputError, match=r"'model\.generator\.z_dimm'"):
        RUNNERS.build(config)


@pytest.mark.parametrize('registry', [MODELS, mmengine_registry.MODELS])
def test_a_model_with_formulas_says_what_to_call(registry, config_file):
    config = Config.fromfile(config_file)
    with (
        DefaultScope.overwrite_default_scope('stylegan_v_mm'),
        pytest.raises(
            InputError, match=r'is a formula: .*load_config'
        ) as error,
    ):
        registry.build(config.model)
    assert '\n' not in str(error.value)


def test_a_run_that_cannot_be_built_does_not_block_other_threads(train):
    def change(config):
        config.visualizer.vis_backends = [dict(type='ClearMLVisBackend')]

    with pytest.raises(InputError):
        train(change)
    thread = threading.Thread(target=MMLogger.get_current_instance)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
