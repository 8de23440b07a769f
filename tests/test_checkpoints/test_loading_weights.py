"""Checkpoints: read without executing what they hold."""

import os
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from stylegan_v_mm.checkpoints.loading import (
    average_weights,
    load_average,
    load_checkpoint,
    load_weights,
)
from stylegan_v_mm.checkpoints.saving import (
    newest_checkpoint,
    numbered_checkpoints,
)
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.files import sha256_of


def test_mmengine_log_history_is_read(tmp_path):
    history = HistoryBuffer()
    history.update(3.0)
    path = tmp_path / 'a.pth'
    saved = {'state_dict': {'x': torch.ones(2)}, 'history': history}
    torch.save(saved, path)
    loaded = load_checkpoint(path)
    assert loaded['state_dict']['x'].tolist() == [1, 1]
    assert loaded['history'].mean() == 3


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'attack',
    [
        Attack(os.mkdir, 'owned'),
        Attack(getattr, HistoryBuffer, '__init__'),
        Attack(getattr, dict, 'fromkeys'),
    ],
)
def test_code_is_refused_unrun(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': attack}, 'a.pth')
    with pytest.raises(InputError, match=r'a\.pth'):
        load_checkpoint('a.pth')
    assert not os.path.exists('owned')


@pytest.mark.parametrize('content', [b'', b'no checkpoint', None])
def test_other_files_are_named(content, tmp_path):
    path = tmp_path / 'a.pth'
    if content is None:
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r'a\.pth'):
        load_checkpoint(path)
    with pytest.raises(InputError, match=r'b\.pth'):
        load_checkpoint(tmp_path / 'b.pth')


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(pickle.dumps({'state_dict': Attack(os.mkdir, 'owned')}))
    with pytest.raises(InputError, match=r'a\.pth'):
        load_checkpoint(path)


def test_a_url_is_downloaded_once(https_site):
    file = https_site.folder / 'a.pth'
    torch.save({'state_dict': {}, 'answer': 42}, file)
    checksum = f'#sha256={sha256_of(file)}'
    for _ in range(2):
        path = f'{https_site.url}/a.pth{checksum}'
        assert load_checkpoint(path)['answer'] == 42
    with pytest.raises(InputError, match=r'b\.pth.*404'):
        load_checkpoint(f'{https_site.url}/b.pth{checksum}')
    assert https_site.requests == ['/a.pth', '/b.pth']


def test_weights_go_in_all_or_none():
    model = nn.Linear(2, 3)
    before = model.weight.detach().clone()
    weights = {'weight': torch.ones(3, 2), 'bias': torch.ones(4)}
    with pytest.raises(InputError, match=r'x\.pth.*bias is \[4\].*\[3\]'):
        load_weights(model, {'state_dict': weights}, 'x.pth')
    with pytest.raises(InputError, match='lacks bias'):
        load_weights(model, {'state_dict': {'weight': before}}, 'x.pth')
    assert torch.equal(model.weight, before)
    weights['bias'] = torch.ones(3)
    load_weights(model, {'state_dict': weights}, 'x.pth')
    assert model.bias.tolist() == [1, 1, 1]
    weights['more'] = torch.ones(1)
    with pytest.raises(InputError, match='extra more'):
        load_weights(model, {'state_dict': weights}, 'x.pth')


class Network(nn.Module):
    """A generator, as far as names go; one has that of a wrapper."""

    def __init__(self):
        super().__init__()
        self.synthesis = nn.Linear(2, 3)
        self.module = nn.Linear(2, 1)


def test_the_average_goes_in_alone():
    source, other, target = Network(), Network(), Network()
    weights = {
        **{f'generator.{k}': v for k, v in other.state_dict().items()},
        **{f'generator_ema.{k}': v for k, v in source.state_dict().items()},
        'discriminator.weight': torch.ones(9),
        'iteration': torch.tensor(3),
    }
    weights['generator_ema.synthesis.weight'] = source.synthesis.weight.half()
    average = average_weights({'state_dict': weights, 'meta': {}})
    assert len(average) == 4
    load_average(target, average, 'x.pth')
    assert target.synthesis.weight.dtype == torch.float32
    assert torch.equal(target.synthesis.weight, source.synthesis.weight.half())
    assert torch.equal(target.synthesis.bias, source.synthesis.bias)
    assert torch.equal(target.module.weight, source.module.weight)


def test_the_average_goes_in_all_or_none():
    network = Network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    whole = {
        f'generator_ema.{k}': torch.ones_like(v) for k, v in before.items()
    }
    lacking = {k: v for k, v in whole.items() if 'bias' not in k}
    larger = whole | {'generator_ema.synthesis.bias': torch.ones(4)}
    training = {k.replace('_ema', ''): v for k, v in whole.items()}
    for weights, words in (
        (lacking, r'x\.pth.*lacks generator_ema\.synthesis\.bias'),
        (larger, r'generator_ema\.synthesis\.bias is \[4\].*\[3\]'),
        (whole | {'generator_ema.b': torch.ones(1)}, 'extra generator_ema.b'),
        (training, r'lacks generator_ema\.synthesis\.weight'),
    ):
        average = average_weights({'state_dict': weights})
        with pytest.raises(InputError, match=words):
            load_average(network, average, 'x.pth')
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


# Which one to resume from


def save(path, size=1000):
    torch.save({'state_dict': {'x': torch.randn(size)}}, path)
    return path


def test_the_highest_number_is_the_newest(tmp_path):
    for number in (9, 10, 100, 99):
        save(tmp_path / f'iter_{number}.pth')
    for other in ('iter_x.pth', 'best_iter_200.pth', 'iter_300.pth.tmp'):
        (tmp_path / other).write_bytes(b'')
    names = [path.name for path in numbered_checkpoints(tmp_path)]
    assert names == [f'iter_{number}.pth' for number in (100, 99, 10, 9)]
    assert newest_checkpoint(tmp_path).name == 'iter_100.pth'


def test_an_empty_folder_has_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / 'nowhere') is None


@pytest.mark.parametrize('damage', ['empty', 'cut', 'bit', 'zeros'])
def test_damaged_ones_are_passed_over(damage, tmp_path, warnings_logged):
    old = save(tmp_path / 'iter_1.pth')
    new = save(tmp_path / 'iter_2.pth')
    content = bytearray(new.read_bytes())
    middle = len(content) // 2
    if damage == 'empty':
        content = b''
    elif damage == 'cut':
        content = content[:-100]
    elif damage == 'bit':
        content[middle] ^= 16
    else:
        content[middle : middle + 512] = bytes(512)
    new.write_bytes(content)
    assert newest_checkpoint(tmp_path) == old
    assert len(warnings_logged) == 1
    assert str(new) in warnings_logged[0]


def test_only_damaged_ones_are_an_error(tmp_path):
    (tmp_path / 'iter_7.pth').write_bytes(b'no zip')
    with pytest.raises(InputError, match='all 1 checkpoints in'):
        newest_checkpoint(tmp_path)
