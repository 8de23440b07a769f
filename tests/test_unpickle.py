"""Pickles: read without executing anything, in bounded time and memory."""

import io
import os
import pickle
import random
import struct
import time
import tracemalloc
from collections import OrderedDict

import pytest
import torch
from published_pickle import Call
from torch import nn

from stylegan_v_mm import unpickle
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.unpickle import Record, network_tensors, read_pickle

HEAD = b'\x80\x04'


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / 'a.pkl'
        path.write_bytes(content)
        return read_pickle(path)

    return read


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_plain_values_are_those_of_pickle(protocol, read):
    loop = []
    loop.append(loop)
    value = {
        'numbers': [0, 1, 255, 256, 65536, -1, -(2**31), 2**40, -(2**70)],
        'more': (1.5, float('inf'), None, True, False),
        'tuples': ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        'texts': ['', 'a', 'ä' * 300, 'b' * 70000],
        'shared': [loop, loop],
        3: OrderedDict(a=1, b=2),
        None: {},
    }
    if protocol >= 3:
        value['bytes'] = [b'', b'abc', bytes(300)]
    if protocol >= 4:
        value['set'] = {7}
    content = pickle.dumps(value, protocol)
    ours, theirs = read(content), pickle.loads(content)
    (ours_loop, again), _ = ours.pop('shared'), theirs.pop('shared')
    assert ours_loop is again is ours_loop[0]
    if 'set' in theirs:
        theirs['set'] = [7]
    assert ours == theirs


def test_objects_become_records(read):
    made = read(pickle.dumps(nn.Embedding(2, 3), 4))
    assert isinstance(made, Record)
    assert (made.name, made.args) == (
        'torch.nn.modules.sparse.Embedding',
        (),
    )
    assert made.state['num_embeddings'] == 2


TENSORS = {
    'a': torch.randn(3, 4),
    'b': torch.randn(5, 4).double().T,
    'c': torch.tensor(7),
    'd': torch.arange(10)[3:7],
    'e': torch.randn(2, 1, 3).half(),
}


@pytest.mark.parametrize('protocol', [3, 4])
def test_tensors_are_those_of_torch(protocol, read):
    module = nn.Linear(3, 2)
    for name, value in TENSORS.items():
        module.register_buffer(name, value)
    ours = network_tensors(read(pickle.dumps(module, protocol)), ('c',))
    theirs = module.state_dict()
    del theirs['c']
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        assert torch.equal(ours[name], value)
        assert ours[name].is_contiguous()


def with_persistent_id():
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 4)
    pickler.persistent_id = lambda value: 'x' if value == 'me' else None
    pickler.dump(['me'])
    return stream.getvalue()


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (pickle.dumps(Call(os.mkdir, 'executed')), 'posix.mkdir'),
        (pickle.dumps(Call(eval, '1')), 'builtins.eval'),
        (pickle.dumps(Call(getattr, 'a', 'upper')), 'builtins.getattr'),
        (pickle.dumps(Call(torch.load, 'a')), 'torch.serialization.load'),
        (b"(S'executed'\nios\nmkdir\n.", 'STRING'),
        (b"cos\nmkdir\n(S'executed'\ntR.", 'os.mkdir'),
        (HEAD + b'\x82\x01.', 'EXT1'),
        (HEAD + b'cos\nx\x1b[2J\n.', repr('os.x\x1b[2J')),
        (with_persistent_id(), 'BINPERSID'),
        (HEAD + b'K\x01K\x02\x93.', 'no text'),
        (HEAD + b'}(KKK\x01KKK\x02u' + b'(K\x01u.', 'no whole'),
        (HEAD + b'K\x01)R.', 'no function'),
        (HEAD + b'K\x01}b.', 'no object'),
        (HEAD + b'.', 'no whole'),
        (HEAD + b'K\x01', 'no whole'),
        (HEAD + b'h\x05.', 'no whole'),
        (b'words', 'no whole'),
    ],
)
def test_what_is_refused(content, words, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        read(content)
    assert words in str(error.value)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'executed').exists()


def laughs(times):
    """Tuples of one another: 2 ** times values in a few bytes each."""
    content = HEAD + b')\x94'
    for i in range(times):
        content += b'h' + bytes([i]) + b'h' + bytes([i]) + b'\x86\x94'
    return content


@pytest.mark.parametrize(
    'content',
    [
        HEAD + b'\x8e' + struct.pack('<Q', 2**40) + b'abc.',
        HEAD + b'\x8e' + struct.pack('<Q', 2**63 - 1) + b'abc.',
        HEAD + b'\x8d' + struct.pack('<Q', 2**40) + b'abc.',
        HEAD + b'B' + struct.pack('<I', 2**32 - 1) + b'abc.',
        HEAD + b'\x8b' + struct.pack('<i', 2**31 - 1) + b'abc.',
        HEAD + b'\x95' + struct.pack('<Q', 2**62) + b'(((.',
        laughs(60) + b'}h\x3cK\x01s.',
        HEAD + b'}\x8a\x09' + bytes(7) + b'\x00\x10K\x01s.',
        HEAD + b'I' + b'9' * 100000 + b'\n.',
    ],
)
def test_bombs_are_refused_at_once(content, read):
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(InputError):
        read(content)
    assert time.process_time() - start < 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_huge_place_in_the_memo_takes_no_memory(read):
    """Python's own unpickler would make a table of 64 gigabytes."""
    place = b'\xff' * 4
    assert read(HEAD + b'K\x07r' + place + b'j' + place + b'\x86.') == (7, 7)


def test_the_number_of_instructions_is_bounded(read, monkeypatch):
    monkeypatch.setattr(unpickle, '_MOST_INSTRUCTIONS', 1000)
    assert read(HEAD + b'}' * 900 + b'.') == {}
    with pytest.raises(InputError, match='more than 1000'):
        read(HEAD + b'}' * 1100 + b'.')


def test_deep_nesting_needs_no_stack(read):
    content = read(HEAD + b')' + b'\x85' * 200_000 + b'.')
    depth = 0
    while content:
        (content,) = content
        depth += 1
    assert depth == 200_000
    laughter = read(laughs(60) + b'.')
    assert laughter[0] is laughter[1]


def module_with(**buffers):
    module = nn.Module()
    module._buffers |= buffers
    return pickle.dumps(module, 4)


# Six numbers, as torch writes a storage into a pickle.
PAYLOAD = torch.arange(6.0)._typed_storage().__reduce__()[1][0]


def tensor(payload=PAYLOAD, offset=0, size=(6,), stride=(1,)):
    storage = Call(torch.storage._load_from_bytes, payload)
    rest = (offset, size, stride, False, {})
    return Call(torch._utils._rebuild_tensor_v2, storage, *rest)


def test_a_tensor_by_its_parts(read):
    corners = tensor(size=(2, 2), stride=(3, 1))
    made = network_tensors(read(module_with(x=corners)))
    assert made['x'].tolist() == [[0, 1], [3, 4]]


@pytest.mark.parametrize(
    'bad',
    [
        dict(size=(7,)),
        dict(offset=1),
        dict(offset=-1),
        dict(size=(2**39,), stride=(0,)),
        dict(size=(6, 2), stride=(1, 0)),
        dict(size=(2**30, 2**30), stride=(0, 0)),
        dict(size=(-1,)),
        dict(size=(6,), stride=(-1,)),
        dict(size=6),
        dict(size=(6.0,)),
        dict(size=(3, 2), stride=(1,)),
        dict(size=(0,)),
        dict(payload=b''),
        dict(payload=None),
        dict(payload=PAYLOAD[:-1]),
        dict(payload=PAYLOAD + b'0'),
        dict(payload=PAYLOAD.replace(b'FloatStorage', b'EvilStorage!')),
        dict(payload=PAYLOAD.replace(b'K\x06Nt', b'K\x07Nt')),
        dict(payload=PAYLOAD.replace(b'q\x02\x88', b'q\x02\x89')),
        dict(payload=pickle.dumps(Call(os.mkdir, 'executed'), 2)),
        dict(payload=PAYLOAD.replace(b'\x80\x02]', b'cos\nmkdir\n]')),
    ],
)
def test_tensors_that_are_none(bad, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = read(module_with(x=tensor(**bad)))
    with pytest.raises(InputError, match='its tensor x'):
        network_tensors(content)
    assert not (tmp_path / 'executed').exists()


def test_a_storage_makes_one_tensor(read):
    """Else a file of a megabyte could hold a thousand of a megabyte."""
    both = module_with(x=tensor(), y=tensor(size=(2,)))
    with pytest.raises(InputError, match='its tensor y: it shares'):
        network_tensors(read(both))


def test_networks_that_hold_one_another(read):
    """2 ** 60 parts, or endless ones."""
    module = nn.Module()
    for _ in range(60):
        outer = nn.Module()
        outer._modules |= {'a': module, 'b': module}
        module = outer
    with pytest.raises(InputError, match='holds itself'):
        network_tensors(read(pickle.dumps(module, 4)))
    module = nn.Module()
    module._modules['a'] = module
    with pytest.raises(InputError, match='holds itself'):
        network_tensors(read(pickle.dumps(module, 4)))


@pytest.mark.parametrize('name', ['a.b', '', 'x y', 3, None])
def test_names_of_parts_are_names(name, read):
    module = nn.Module()
    module._modules[name] = nn.Module()
    with pytest.raises(InputError, match='no usable name'):
        network_tensors(read(pickle.dumps(module, 4)))


def test_cut_at_any_byte(read):
    content = pickle.dumps(nn.Linear(2, 1), 4)
    for length in range(len(content)):
        with pytest.raises(InputError):
            read(content[:length])


def test_changed_at_random(read):
    content = pickle.dumps(nn.Linear(3, 2), 4)
    draw = random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 2, 8])):
            changed[draw.randrange(len(content))] = draw.randrange(256)
        try:
            network_tensors(read(bytes(changed)))
            outcomes[True] += 1
        except InputError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 20
