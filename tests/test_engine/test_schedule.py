"""Numbers that change in the course of training."""

import re

import pytest
import torch
from mmengine.hooks import Hook

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.engine.hooks.schedule import scheduled
from stylegan_v_mm.errors import InputError

#: A quarter of a half wave from 1 to 0 leaves this.
QUARTER = (1 + 0.5**0.5) / 2


@pytest.fixture
def run(config, tmp_path):
    """Train for eight iterations of 12 frames, and watch each of them."""

    def run(name, watch=None, augment=None, **options):
        seen = []

        class Watch(Hook):
            def after_train_iter(self, runner, *args, **kwargs):
                seen.append(watch(runner))

        options |= {'work_dir': str(tmp_path / name)}
        settings = load_config(str(config), options)
        if augment:
            settings.model.augment = dict(type='VideoAugment', **augment)
        settings.experiment_name = f'{tmp_path.name} {name}'
        runner = VideoGANRunner.from_cfg(settings)
        if watch:
            runner.register_hook(Watch())
        runner.train()
        return seen

    return run


def weights(path):
    return load_checkpoint(path)['state_dict']


def test_the_wave_by_hand():
    points = [(10, 8), (30, 0), (40, 1)]
    expected = {0: 8, 10: 8, 15: 8 * QUARTER, 20: 4, 30: 0, 35: 0.5, 99: 1}
    for kimg, value in expected.items():
        assert scheduled(points, kimg) == pytest.approx(value, abs=1e-12)
    assert scheduled([(5, 3)], 0) == scheduled([(5, 3)], 9) == 3


def test_every_number_follows_its_schedule(run):
    ends = dict(
        r1_gamma=(8, 0),
        r2_gamma=(0, 4),
        ema_kimg=(0, 2),
        pl_weight=(1, 3),
        style_mixing_prob=(0, 1),
        augment_p=(0.8, 0),
        lr=(0.02, 0.01),
        beta2=(0.9, 0.98),
    )
    schedules = {
        name: [(0, first), (0.048, last)]
        for name, (first, last) in ends.items()
    }

    def watch(runner):
        model, optimizers = runner.model, runner.optim_wrapper
        (g,), (d,) = (
            optimizers[name].param_groups
            for name in ('generator', 'discriminator')
        )
        assert g['betas'][0] == d['betas'][0] == 0
        hub = runner.message_hub
        assert hub.get_scalar('train/generator.lr').current() == g['lr']
        for name in ('r1_gamma', 'beta2'):
            logged = hub.get_scalar(f'train/{name}').current()
            lazily = {'r1_gamma': model.r1_gamma, 'beta2': g['betas'][1]}
            power = 4 / 5 if name == 'beta2' else 1
            assert logged**power == pytest.approx(lazily[name])
        lr = (g['lr'] * 5 / 4, d['lr'] * 17 / 16)
        beta2 = g['betas'][1] ** (5 / 4), d['betas'][1] ** (17 / 16)
        assert lr[0] == pytest.approx(lr[1])
        assert beta2[0] == pytest.approx(beta2[1])
        values = dict(augment_p=float(model.augment.p), lr=lr[0])
        values['beta2'] = beta2[0]
        return values | {
            name: getattr(model, name) for name in ends.keys() - values.keys()
        }

    seen = run('a', watch, dict(ada_target=None), schedules=schedules)
    shares = [1, QUARTER, 0.5, 1 - QUARTER, 0, 0, 0, 0]
    for values, share in zip(seen, shares, strict=True):
        for name, (first, last) in ends.items():
            expected = last + (first - last) * share
            assert values[name] == pytest.approx(expected, abs=1e-7), name


def test_a_constant_is_the_number_of_the_config(run, tmp_path):
    """To the bit, and a changed number is another run."""
    lr = 2**-9  # Times 4 / 5 alike in any order.
    run('config', lr=lr, **{'model.r1_gamma': 3, 'model.ema_kimg': 0.02})
    points = dict(lr=lr, r1_gamma=3, ema_kimg=0.02, beta2=0.99)
    run('hook', schedules={x: [(0, y)] for x, y in points.items()})
    run('other', schedules={x: [(0, y)] for x, y in points.items() if y != 3})
    ours, theirs, others = (
        weights(tmp_path / f'{name}/iter_8.pth')
        for name in ('config', 'hook', 'other')
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not all(torch.equal(ours[key], others[key]) for key in ours)


def test_a_resumed_run_goes_on_with_the_schedule(run, tmp_path):
    schedules = dict(
        lr=[(0, 0.02), (0.09, 0.001)],
        beta2=[(0, 0.9), (0.09, 0.99)],
        r1_gamma=[(0, 9), (0.09, 1)],
        ema_kimg=[(0, 0), (0.09, 0.1)],
    )
    run('whole', schedules=schedules)
    half = str(tmp_path / 'whole/iter_4.pth')
    run('half', schedules=schedules, load_from=half, resume=True)
    ours, theirs = (
        weights(tmp_path / f'{name}/iter_8.pth') for name in ('whole', 'half')
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'schedules.r1_gama': [(0, 1)]}, 'did you mean.*r1_gamma'),
        ({'schedules.lr': 0.1}, r'lr=0.1 must be a list of pairs'),
        ({'schedules.lr': []}, 'must be a list of pairs'),
        ({'schedules.lr': [(0, 1, 2)]}, 'must be a list of pairs'),
        ({'schedules.lr': [(0, True)]}, 'must be a list of pairs'),
        ({'schedules.lr': [(0, 1), (0, 2)]}, 'the kimg must ascend'),
        ({'schedules.lr': [(0, -1)]}, 'lr: -1 must be from 0 to inf'),
        ({'schedules.beta2': [(0, 1)]}, 'beta2: 1 must be from 0 to 0.9999'),
        ({'schedules.augment_p': [(0, 0.5)]}, 'needs.*ada_target=None'),
        (
            {'schedules.augment_p': [(0, 1)], 'augment': {'p': 0.5}},
            'needs.*ada_target=None',
        ),
        (
            {'schedules.r1_gamma': [(0, 1)], 'model.cuda_graph': True},
            'r1_gamma: model.cuda_graph=True freezes it',
        ),
        (
            {
                'schedules.lr': [(0, 1)],
                'param_scheduler': [dict(type='LinearLR', by_epoch=False)],
            },
            'lr: param_scheduler sets the same',
        ),
    ],
)
def test_bad_schedules(run, tmp_path, options, message):
    with pytest.raises(InputError) as error:
        run('a', **options)
    assert re.search(message, str(error.value)), error.value
    assert not list(tmp_path.rglob('*.pth'))
