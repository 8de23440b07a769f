"""The best checkpoint: which one, when it is replaced, what is remembered."""

import json

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import SafeCheckpointHook, VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.registry import METRICS

CONFIG = """
_base_ = ['{base}']
preview_interval = 100
checkpoint_interval = 3
val_interval = 2
num_test_videos = 2
save_best = 'FVD16'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
custom_hooks = []
"""


class ValueByIteration(BaseMetric):
    """Gives what a test wants to be measured after an iteration."""

    default_prefix = ''

    def __init__(self, values):
        super().__init__()
        self.values = values

    def process(self, data_batch, data_samples):
        assert all(sample['video'].shape[0] == 16 for sample in data_samples)

    def evaluate(self, size):
        done = MessageHub.get_current_instance().get_info('iter') + 1
        return {'FVD16': self.values[done // 2 - 1]}

    def compute_metrics(self, results):
        raise NotImplementedError


class KeepWeights(Hook):
    """Remember the weights after each iteration."""

    priority = 'HIGHEST'

    def __init__(self):
        self.weights = {}

    def after_train_iter(self, runner, *args, **kwargs):
        self.weights[runner.iter + 1] = {
            name: value.clone()
            for name, value in runner.model.state_dict().items()
        }


@pytest.fixture
def train(config, tmp_path, monkeypatch):
    """Train; values are those measured after 2, 4, 6, ... iterations.

    None: the distance, as it is.
    """
    METRICS.register_module(module=ValueByIteration, force=True)
    work_dir, base = tmp_path / 'work', config

    def train(values, resume=False, **options):
        path = tmp_path / 'config.py'
        text = CONFIG.format(base=base)
        if values:
            metric = dict(type='ValueByIteration', values=values)
            text += f'test_evaluator = [{metric}]'
        path.write_text(text)
        options['work_dir'] = str(work_dir)
        config = load_config(str(path), options)
        config.resume = resume
        # mmengine's message hubs are known by name.
        config.experiment_name = f'{tmp_path.name}_{resume}'
        runner = VideoGANRunner.from_cfg(config)
        keeper = KeepWeights()
        runner.register_hook(keeper)
        runner.train()
        return keeper.weights

    train.work_dir = work_dir
    train.files = lambda: {path.name for path in work_dir.glob('*.pth*')}
    train.load = lambda name: load_checkpoint(work_dir / name)['state_dict']
    yield train
    METRICS.module_dict.pop('ValueByIteration')


def test_the_least_distance_is_kept_whatever_comes_after(train):
    weights = train([3, 1, 2, 1.5])
    assert train.files() == {'best_FVD16_iter_4.pth', 'iter_8.pth'}
    best = train.load('best_FVD16_iter_4.pth')
    assert best.keys() == weights[4].keys()
    assert all(torch.equal(best[name], weights[4][name]) for name in best)
    assert not all(torch.equal(best[n], weights[8][n]) for n in best)


def test_the_distance_itself(train):
    train(None, save_best='FVD-random')
    (log,) = train.work_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, log.read_text().splitlines())
    values = {
        line['step']: line['FVD-random']
        for line in lines
        if 'FVD-random' in line
    }
    assert [*values] == [2, 4, 6, 8]
    best = min(values, key=values.get)
    expected = {f'best_FVD-random_iter_{best}.pth', 'iter_8.pth'}
    assert train.files() == expected


def test_a_resumed_run_remembers_the_best(train):
    train([3, 1], max_iters=4)
    assert train.files() == {'best_FVD16_iter_4.pth', 'iter_4.pth'}
    train([3, 1, 2, 1.5], resume=True)
    assert train.files() == {'best_FVD16_iter_4.pth', 'iter_8.pth'}


def test_a_resumed_run_replaces_the_best(train):
    train([3, 1], max_iters=4)
    train([3, 1, 2, 0.5], resume=True)
    assert train.files() == {'best_FVD16_iter_8.pth', 'iter_8.pth'}


def test_the_rule_can_be_turned(train):
    rule = {'default_hooks.checkpoint.rule': 'greater'}
    train([1, 3, 2, 0.5], **rule)
    assert train.files() == {'best_FVD16_iter_4.pth', 'iter_8.pth'}


def test_the_best_stays_until_the_better_one_is_written(train, monkeypatch):
    save = VideoGANRunner.save_checkpoint

    def save_or_fail(self, out_dir, filename, *args, **kwargs):
        if filename == 'best_FVD16_iter_4.pth':
            raise InputError('the disk is full')
        save(self, out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(VideoGANRunner, 'save_checkpoint', save_or_fail)
    with pytest.raises(InputError, match='the disk is full'):
        train([3, 1, 2, 1.5])
    assert 'best_FVD16_iter_2.pth' in train.files()
    # The run goes on from a checkpoint before, and finds the best again.
    monkeypatch.undo()
    train([3, 1, 2, 1.5], resume=True)
    assert train.files() == {'best_FVD16_iter_4.pth', 'iter_8.pth'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'val_interval': 0}, "save_best='FVD16'.*set val_interval"),
        ({'save_best': 'Sharpness'}, 'is more or less of it better'),
        ({'save_best': 'FVD128'}, "'FVD128': there is no such metric, only"),
    ],
)
def test_what_cannot_be_kept_is_refused(train, options, message):
    with pytest.raises(InputError, match=message):
        train([3, 1, 2, 1.5], **options)


@pytest.mark.parametrize(
    ('name', 'less'),
    [
        ('FVD16', True),
        ('FVD16x8', True),
        ('FVD16-random', True),
        ('FID', True),
        ('FID/fid', True),
        ('FD-VGG16', True),
        ('KID', True),
        ('KD-VGG16', True),
        ('KVD16', True),
        ('IS', False),
        ('IS/is', False),
        ('ISv16', False),
        ('Precision16', False),
        ('Recall', False),
        ('Density16', False),
        ('Coverage', False),
    ],
)
def test_lower_or_higher_is_better_as_the_metric_says(name, less):
    is_better = SafeCheckpointHook(1, save_best=name).is_better_than[name]
    assert is_better(1, 2) == less
    assert is_better(2, 1) != less
