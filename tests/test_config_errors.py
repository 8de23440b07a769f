"""Misspelt and inconsistent configs: one line each, before training starts."""

import random
import signal

import numpy as np
import pytest
from mmengine.runner import IterBasedTrainLoop
from real_process import ROOT, run_tool

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import ClipTrainLoop, VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.video.encoding import write_video

CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = '{{data}}'
resolution = 16
batch_size = 4
max_iters = 4
num_test_videos = 6
model = dict(
    augment=dict(_delete_=True, type='VideoAugment'),
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8, mbstd_group_size=2),
)
"""


class Started(Exception):
    """Training would have begun."""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Videos in two classes, 20 frames of 16 px."""
    folder = tmp_path_factory.mktemp('data')
    frames = np.random.default_rng(0).integers(0, 255, (20, 3, 16, 16))
    for name in ('a/0', 'a/1', 'a/2', 'b/0', 'b/1', 'b/2'):
        write_video(folder / f'{name}.mp4', frames.astype(np.uint8), 25)
    return folder


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """Everything but iterations, and what would take longer than all else."""

    def start(*_):
        raise Started

    for loop in (ClipTrainLoop, IterBasedTrainLoop):
        monkeypatch.setattr(loop, 'run_iter', start)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def train(data, tmp_path):
    """Do what tools/train.py does, up to the first iteration."""

    def train(given):
        is_text = isinstance(given, str)
        # mmengine keeps visualizers by the name of the config.
        path = tmp_path / f'{tmp_path.name}.py'
        path.write_text(CONFIG.format(data=data) + (given if is_text else ''))
        options = {} if is_text else given
        options = {'work_dir': str(tmp_path / 'work'), **options}
        config = load_config(path, options)
        VideoGANRunner.from_cfg(config).train()

    return train


VAL = dict(val_interval=2)
GENERATOR, DISCRIMINATOR = 'model.generator', 'model.discriminator'
DATASET = 'train_dataloader.dataset'
ADAM = 'optim_wrapper.generator.optimizer'

# What is set, as options or as lines of the file, and what is said of it.
CASES = {
    # Misspelt.
    'a variable': (
        {'resolutoin': 32},
        "unknown key 'resolutoin': neither an argument of the runner nor a "
        "variable of a formula; did you mean 'resolution'?",
    ),
    'a variable in the file': (
        'motion_perod = 8',
        "unknown key 'motion_perod': neither an argument of the runner nor a "
        "variable of a formula; did you mean 'motion_period'?",
    ),
    'a part': (
        {'modle.r1_gamma': 1},
        "unknown key 'modle': neither an argument of the runner nor a "
        "variable of a formula; did you mean 'model'?",
    ),
    'a key of the model': (
        {'model.r1_gama': 1},
        "unknown key 'model.r1_gama': StyleGANV takes no 'r1_gama'; did you "
        "mean 'r1_gamma'?",
    ),
    'a key of a network': (
        {'model.generator.z_dimm': 8},
        "unknown key 'model.generator.z_dimm': StyleGANVGenerator takes no "
        "'z_dimm'; did you mean 'z_dim'?",
    ),
    'a network': (
        {'model.generatr.z_dim': 8},
        "unknown key 'model.generatr': StyleGANV takes no 'generatr'; did "
        "you mean 'generator'?",
    ),
    'a key of the augmentation': (
        {'model.augment.ada_kimgs': 8}, "did you mean 'ada_kimg'?"
    ),
    'a key of the data': (
        {f'{DATASET}.lables': 'folder'},
        "unknown key 'train_dataloader.dataset.lables': VideoDataset takes "
        "no 'lables'; did you mean 'labels'?",
    ),
    'a key of a transform': (
        {f'{DATASET}.pipeline.2.resolutin': 16},
        "unknown key 'train_dataloader.dataset.pipeline.2.resolutin': "
        "ResizeCrop takes no 'resolutin'; did you mean 'resolution'?",
    ),
    'a key of the sampling': (
        {f'{DATASET}.pipeline.0.max_dst': 8},
        "SampleClip: method='random' takes no 'max_dst'; did you mean "
        "'max_dist'?",
    ),
    'a key of the loader': (
        {'train_dataloader.num_worker': 2},
        "unknown key 'train_dataloader.num_worker': DataLoader takes no "
        "'num_worker'; did you mean 'num_workers'?",
    ),
    'a key of a metric': (
        {'fvd2048_16f.num_fakes': 4},
        "FrechetVideoDistance takes no 'num_fakes'; did you mean 'num_fake'?",
    ),
    'a key of a detector': (
        {'detector.sead': 4},
        "unknown key 'detector.sead': RandomI3D takes no 'sead'; did you "
        "mean 'seed'?",
    ),
    'a key of a hook': (
        {'custom_hooks.2.num_frame': 4},
        "VideoPreviewHook takes no 'num_frame'; did you mean 'num_frames'?",
    ),
    "a key of mmengine's hook": (
        {'default_hooks.checkpoint.max_keep_ckpt': 4},
        "SafeCheckpointHook takes no 'max_keep_ckpt'; did you mean "
        "'max_keep_ckpts'?",
    ),
    'a hook': (
        {'default_hooks.chekpoint.interval': 4},
        "default_hooks.chekpoint={'interval': 4} must be a dict with a type",
    ),
    'a key of the loop': (
        {'train_cfg.max_iter': 4},
        "ClipTrainLoop takes no 'max_iter'; did you mean 'max_iters'?",
    ),
    'a key of the optimizer': (
        {f'{ADAM}.beta': (0, 0.9)},
        "Adam takes no 'beta'; did you mean 'betas'?",
    ),
    'an optimizer': (
        {'optim_wrapper.generater.optimizer.lr': 1},
        "optim_wrapper.generater.optimizer={'lr': 1} must be a dict with a "
        'type',
    ),
    "a network's optimizer": (
        'optim_wrapper = dict(generater=dict(optimizer=dict(type="Adam")))',
        'optim_wrapper.generater: the model has no such network; did you '
        "mean 'generator'?",
    ),
    'a key of the randomness': (
        {'randomness.sed': 1},
        "unknown key 'randomness.sed': set_randomness takes no 'sed'; did "
        "you mean 'seed'?",
    ),
    'a key of the log': (
        {'log_processor.window_sise': 1}, "did you mean 'window_size'?"
    ),
    'a type of network': (
        {f'{GENERATOR}.type': 'StyleGANVGenrator'},
        "unknown type 'StyleGANVGenrator' of model.generator: no part is "
        "registered by that name; did you mean 'StyleGANVGenerator'?",
    ),
    'a type of data': (
        {f'{DATASET}.type': 'VideoDatset'}, "did you mean 'VideoDataset'?"
    ),
    'a type of detector': (
        {'detector.type': 'RandomI3'},
        "unknown type 'RandomI3' of detector: no part is registered by that "
        "name; did you mean 'RandomI3D'?",
    ),
    'a type of metric': (
        {'fvd2048_16f.type': 'FrechetVideoDistanc'},
        "did you mean 'FrechetVideoDistance'?",
    ),
    'a type of optimizer': ({f'{ADAM}.type': 'Adamm'}, "did you mean 'Adam'?"),
    'a type with its scope': (
        {'model.type': 'stylegan_v_mm.StyleGANVV'}, "did you mean 'StyleGANV'?"
    ),
    'a variable in a formula': (
        {'max_iters': '= total_kimgs * 2'},
        "max_iters: formula '= total_kimgs * 2': unknown variable "
        "'total_kimgs'; did you mean 'total_kimg'?",
    ),
    'a metric': (
        {'test_evaluator': ['= fvd2048_16']},
        "unknown variable 'fvd2048_16'; did you mean 'fvd2048_16f'?",
    ),
    'a name for a metric': (
        {'test_evaluator': ['FVD16']},
        "test_evaluator.0='FVD16' must be a dict with a type",
    ),
    'a list': (
        'test_evaluatr = [dict(type="InceptionScore")]',
        "unknown key 'test_evaluatr': neither an argument of the runner nor "
        "a variable of a formula; did you mean 'test_evaluator'?",
    ),
    'a dict': (
        'detectr = dict(type="I3D", path="i3d.pt")',
        "unknown key 'detectr': neither an argument of the runner nor a "
        "variable of a formula; did you mean 'detector'?",
    ),
    'an index': (
        {f'{DATASET}.pipeline.9.prob': 1},
        'Index 9 exceeds the length of list',
    ),
    'a key of a formula': (
        {'test_evaluator.0.num_fake': 4},
        'the options do not fit (of a formula, set what it names)',
    ),
    # Of another type.
    'a string for a number': (
        {f'{GENERATOR}.z_dim': '8'},
        "model.generator.z_dim='8' must be int",
    ),
    'a fraction for a whole number': (
        {f'{GENERATOR}.w_dim': 8.5},
        'model.generator.w_dim=8.5 must be int',
    ),
    'a number for a string': (
        {'model.gan_loss': 1}, 'model.gan_loss=1 must be str'
    ),
    'a number for a truth': (
        {'images': 2}, '.images=2 must be bool'
    ),
    'no finite number': (
        {'model.r1_gamma': float('nan')},
        'model.r1_gamma=nan must be at least 0',
    ),
    'a number for a dict': ({'model': 3}, 'model=3 must be'),
    'a string in a formula': (
        {'batch_size': '4'},
        "train_dataloader.batch_size: formula '= batch_size // "
        "num_processes': unsupported operand type(s) for //: 'str' and 'int'",
    ),
    'a number for a list': (
        {f'{ADAM}.betas': 0.9},
        'optim_wrapper.generator.optimizer.betas=0.9 must be tuple',
    ),
    # Out of range.
    'resolution': (
        {'resolution': 48},
        'resolution=48 is not a power of two from 16 to 1024',
    ),
    'resolution too high': (
        {'resolution': 2048},
        'resolution=2048 is not a power of two from 16 to 1024',
    ),
    'num_frames': (
        {'num_frames': 0}, 'discriminator.num_frames=0 must be at least 1'
    ),
    'batch_size': ({'batch_size': 0}, 'batch_size=0 must be a multiple'),
    'lr': (
        {'lr': -0.1}, 'optim_wrapper.generator: Invalid learning rate: -0.08'
    ),
    'max_iters': (
        {'max_iters': 0}, 'train_cfg.max_iters=0 must be at least 1'
    ),
    'total_kimg': (
        {'max_iters': '= -total_kimg'},
        'train_cfg.max_iters=-25000 must be at least 1',
    ),
    'val_interval': (
        {'val_interval': -1}, 'train_cfg.val_interval=-1 must be at least 0'
    ),
    'log_interval': (
        {'log_interval': 0}, 'interval must be greater than 0'
    ),
    'preview_interval': (
        {'preview_interval': 0}, 'VideoPreviewHook: interval=0'
    ),
    'fps': ({'fps': 0}, 'fps=0 positive'),
    'num_workers': ({'num_workers': -1}, 'num_workers'),
    'num_classes': (
        {'num_classes': -1}, 'generator.c_dim=-1 must be at least 0'
    ),
    'flip_prob': (
        {'flip_prob': 1.5}, 'FlipClip: prob must be in [0, 1], got 1.5'
    ),
    'r1_gamma': (
        {'model.r1_gamma': -1}, 'model.r1_gamma=-1 must be at least 0'
    ),
    'd_reg_interval': (
        {'model.d_reg_interval': 0},
        'model.d_reg_interval=0 must be at least 1',
    ),
    'ema_rampup': (
        {'model.ema_rampup': -1}, 'model.ema_rampup=-1 must be at least 0'
    ),
    'style_mixing_prob': (
        {'model.style_mixing_prob': 2},
        'model.style_mixing_prob=2 must be at most 1',
    ),
    'gan_loss': (
        {'model.gan_loss': 'hinged'},
        "model.gan_loss='hinged': choose one of logistic, hinge, wasserstein",
    ),
    'p': ({'model.augment.p': 1.5}, 'augment.p=1.5 must be from 0 to 1'),
    'pipeline': (
        {'model.augment.pipeline': 'bgcc'},
        "augment.pipeline='bgcc': choose one of blit, geom,",
    ),
    'ada_target': (
        {'model.augment.ada_target': 2},
        'augment.ada_target=2 must be from -1 to 1, or None for a fixed p',
    ),
    'motion_period': (
        {'motion_period': 0}, 'motion_z_distance=0 must be positive'
    ),
    'num_fp16_res': (
        {'num_fp16_res': -1}, 'generator.num_fp16_res=-1 must be at least 0'
    ),
    'mbstd_group_size': (
        {f'{DISCRIMINATOR}.mbstd_group_size': 0},
        'discriminator.mbstd_group_size=0 must be at least 1',
    ),
    'conv_clamp': (
        {f'{DISCRIMINATOR}.conv_clamp': -1},
        'discriminator.conv_clamp=-1 must be positive, or None',
    ),
    'skip_small_t_freqs': (
        {f'{DISCRIMINATOR}.skip_small_t_freqs': 11},
        'discriminator.skip_small_t_freqs=11 must be at most 10 with '
        'max_num_frames=1024',
    ),
    'concat_res': (
        {f'{DISCRIMINATOR}.concat_res': 16},
        'concat_res=16 must be one of [8] at resolution=16',
    ),
    'z_dim': (
        {f'{GENERATOR}.z_dim': 0}, 'generator.z_dim=0 must be at least 1'
    ),
    'sum_w': (
        {f'{GENERATOR}.cond_type': 'sum_w', f'{GENERATOR}.time_enc_dim': 3},
        'cond_type=sum_w adds motion to w: 2 * time_enc_dim=6 must equal '
        'w_dim=8',
    ),
    'noise_mode': (
        {f'{GENERATOR}.noise_mode': 'off'},
        "noise_mode='off': choose one of const, none",
    ),
    'method': (
        {f'{DATASET}.pipeline.0.method': 'randm'},
        'SampleClip: method must be one of random, uniform, consecutive',
    ),
    # What does not fit.
    'classes without labels': (
        {'num_classes': 3}, 'num_classes=3, but the data has no labels'
    ),
    'labels without classes': (
        {'labels': 'folder'},
        'the labels of the data are 2 wide, the model takes 0: set '
        'num_classes=2',
    ),
    'labels of other classes': (
        {'labels': 'folder', 'num_classes': 3},
        'the labels of the data are 2 wide, the model takes 3: set '
        'num_classes=2',
    ),
    'networks of other classes': (
        {f'{GENERATOR}.c_dim': 2},
        'model.generator.c_dim=2 and model.discriminator.c_dim=0 must be '
        'equal',
    ),
    'networks of other resolutions': (
        {f'{GENERATOR}.resolution': 32},
        'model.generator.resolution=32 and model.discriminator.resolution=16 '
        'must be equal',
    ),
    'frames of the data': (
        {f'{DATASET}.pipeline.0.num_frames': 4},
        'SampleClip gives clips of 4 frames, but '
        'model.discriminator.num_frames=3: they must be equal',
    ),
    'resolution of the data': (
        {f'{DATASET}.pipeline.2.resolution': 32},
        'the pipeline gives frames of 32 x 32, but '
        'model.generator.resolution=16: set ResizeCrop to the same',
    ),
    'max_dist below num_frames': (
        {'max_dist': 1}, 'no video is long enough for a clip of 3 frames'
    ),
    'clips longer than videos': (
        {'num_frames': 21},
        'none of 6 videos can be used; shorter than 33 frames: a/0.mp4 (20)',
    ),
    'windows shorter than clips': (
        {'max_num_frames': 2, 'motion_period': 1},
        'max_num_frames=2, but a clip needs 3 frames',
    ),
    'clips of images': (
        {'images': True},
        'with images=True a video has one frame, but a clip needs 3: set '
        'num_frames=1',
    ),
    'a batch and its parts': (
        {'accumulative_counts': 3},
        'batch_size=4 must be a multiple of the 1 processes times '
        'accumulative_counts=3',
    ),
    'a batch and its groups': (
        {'batch_size': 3},
        'model.discriminator.mbstd_group_size=2: the 3 clips that a process '
        'has at a time cannot be split in groups of so many',
    ),
    'one batch of fakes': (
        {f'{DATASET}.pipeline.0.num_gen': 1}, 'SampleClip: num_gen=1 must be 2'
    ),
    'no batch of fakes': (
        {f'{DATASET}.pipeline.0.num_gen': 0},
        "train_dataloader.dataset gives no 'gen_t': its pipeline needs "
        'SampleClip with num_gen=2',
    ),
    'a metric longer than videos': (
        {
            **VAL,
            'test_evaluator': ['= fvd2048_128f'],
            'num_test_frames': 128,
        },
        'FVD128-random: {data}: none of 6 videos can be used; shorter than '
        '128 frames',
    ),
    'a metric longer than clips': (
        {**VAL, 'fvd2048_16f.num_frames': 17},
        'FVD17-random takes 17 frames, but the generated clips have 16: set '
        'test_dataloader.dataset.num_frames=17',
    ),
    'a metric of another resolution': (
        {**VAL, 'fvd2048_16f.resolution': 32},
        'FVD-random has resolution=32, but the generated clips are 16 x 16',
    ),
    'too few clips for a metric': (
        {**VAL, 'num_test_videos': 1},
        'FrechetVideoDistance: num_fake=1 must be at least 2',
    ),
    'a detector that gives something else': (
        {
            **VAL,
            'test_evaluator': ['= isv2048_ucf'],
            'num_test_videos': 10,
            'action_detector': dict(_delete_=True, type='RandomI3D'),
        },
        'InceptionScore needs probabilities, which RandomI3D does not give',
    ),
    'save_best without metrics': (
        {'save_best': 'FVD16'},
        "save_best='FVD16', but nothing is measured: set val_interval, too",
    ),
    'save_best of no metric': (
        {**VAL, 'save_best': 'FVD1'},
        "save_best='FVD1': there is no such metric, only FVD-random,",
    ),
    'save_best of no known order': (
        {**VAL, 'save_best': 'Loops'},
        "save_best='Loops': is more or less of it better?",
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_one_line_says_what_is_wrong(case, train, data):
    given, text = CASES[case]
    with pytest.raises(InputError) as error:
        train(given)
    message = str(error.value)
    assert (
        text.format(data=data) in message
        if '{data}' in text
        else (text in message)
    )
    assert '\n' not in message


@pytest.mark.parametrize('options', [
    # With val_interval=0, no metric is looked at.
    {}, {'fvd2048_16f.num_frames': 17}, VAL,
    {'labels': 'folder', 'num_classes': 2},
    {**VAL, 'save_best': 'FVD-random'}, {**VAL, 'save_best': 'FrameDiff1-real',
     'default_hooks.checkpoint.rule': 'less'},
])  # fmt: skip
def test_what_is_right_starts(options, train):
    with pytest.raises(Started):
        train(options)


def test_videos_that_would_be_enlarged_are_named(train, data, tmp_path):
    with pytest.raises(Started):
        train({'resolution': 32})
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert (
        f'{data}: videos are enlarged to resolution=32, as the first one is '
        '16 x 16\n'
    ) in log.read_text()


# None and _delete_, at any level


def levels(value, path=()):
    """Yield the keys that lead to each dict and list in a config."""
    if isinstance(value, dict):
        for key, child in value.items():
            if isinstance(child, dict | list | tuple):
                yield (*path, key), child
            yield from levels(child, (*path, key))


def inherit(keys, text):
    """Lines of a config that set the value which keys lead to."""
    for key in reversed(keys[1:]):
        text = f'dict({key}={text})'
    return f'\n{keys[0]} = {text}\n'


def changes():
    """List what may be done to a config, at all levels."""
    config = load_config(ROOT / 'configs/stylegan_v/demo_moving_shapes.py')
    for keys, value in levels(config._cfg_dict):
        yield inherit(keys, 'None')
        if not isinstance(value, dict):
            yield inherit(keys, '[]')
            yield inherit(keys, '[None]')
            yield inherit(keys, '[dict(_delete_=True)]')
            continue
        yield inherit(keys, 'dict(_delete_=True)')
        yield inherit(keys, 'dict(_delete_=True, x=1)')
        some = {
            key: child
            for key, child in value.items()
            if isinstance(child, str | int | float) or child is None
        }
        yield inherit(keys, f'dict(_delete_=True, **{some})')
        some.pop('type', None)
        yield inherit(keys, f'dict(_delete_=True, **{some})')


# All of them take minutes.
CHANGES = random.Random(0).sample([*changes()], 25)


@pytest.mark.parametrize('text', CHANGES)
def test_none_and_delete_work_or_are_one_line(text, train):
    with pytest.raises((Started, InputError)) as error:
        train(text)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('text', 'message'), [
    ('model = dict(augment=dict(_delete_=True, ada_target=None, p=0.2))',
     "model.augment={'ada_target': None, 'p': 0.2} must be a dict with a "
     'type'),
    ('model = dict(generator=None)', 'model.generator=None must be dict'),
    ('model = None', 'model=None must be'),
    ('model = dict(_delete_=True)', 'model must be a dict with a type'),
    ('train_dataloader = dict(dataset=None)',
     'train_dataloader.dataset=None must be a dict with a type'),
    ('train_dataloader = dict(_delete_=True)',
     'train_dataloader must have a dataset'),
    ('train_dataloader = dict(batch_size=None)',
     'train_dataloader.batch_size must be a number'),
    ('optim_wrapper = None', 'optim_wrapper is None or not there: of '
     'train_dataloader, train_cfg, optim_wrapper set all or none'),
    ('optim_wrapper = dict(generator=None)',
     'optim_wrapper.generator=None must be a dict with an optimizer'),
    ('optim_wrapper = dict(_delete_=True, x=1)', 'optim_wrapper: '),
    ('fvd2048_16f = None', 'test_evaluator.0=None must be a dict with a type'),
    ("fvd2048_16f = dict(_delete_=True, type='FrechetVideoDistance')\n"
     'val_interval = 2', 'val_evaluator: ComparingMetric.__init__() missing'),
    ('num_workers = 2.5', 'num_workers=2.5 must be int'),
    ('env_cfg = None', 'env_cfg=None must be Dict'),
    ('env_cfg = dict(mp_cfg=None)', 'the config: '),
    ('val_evaluator = None', 'val_evaluator is None or not there: of '
     'val_dataloader, val_cfg, val_evaluator set all or none'),
    ("custom_hooks = [dict(_delete_=True, type='DivergenceHook')]",
     "'custom_hooks.0._delete_': DivergenceHook takes no '_delete_'"),
])  # fmt: skip
def test_what_is_missing_is_named(text, message, train):
    with pytest.raises(InputError) as error:
        train(f'\n{text}\n')
    assert message in str(error.value)


@pytest.mark.parametrize('text', [
    'model = dict(augment=None)',
    "model = dict(augment=dict(_delete_=True, type='VideoAugment', p=0.2,"
    'ada_target=None))',
    'default_hooks = dict(checkpoint=None)',
])  # fmt: skip
def test_none_and_delete_as_meant(text, train):
    with pytest.raises(Started):
        train(f'\n{text}\n')


@pytest.mark.slow
@pytest.mark.parametrize('case', [
    'a type of detector', 'a batch and its groups',
    'a metric longer than clips',
])  # fmt: skip
def test_the_tool_prints_the_line(case, data, tmp_path):
    options, text = CASES[case]
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(data=data))
    options = [f'{key}={value}' for key, value in options.items()]
    result = run_tool(
        'train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options',
        *options,
    )  # fmt: skip
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert text in last
    assert not list((tmp_path / 'work').glob('*.pth'))
