"""Pickles: read without executing anything, in bounded time and memory."""

import io
import os
import pickle
import random
import struct
import time
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import torch
from published_pickle import Call
from torch import nn

from stylegan_v_mm.checkpoints import pickles
from stylegan_v_mm.checkpoints.pickled_tensors import (
    array_tensors,
    network_tensors,
)
from stylegan_v_mm.checkpoints.pickles import Record, parse_pickle, read_pickle
from stylegan_v_mm.errors import InputError

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
        (HEAD + b'K\x01K\x02\x93.', 'not a string'),
        (HEAD + b'}(KKK\x01KKK\x02u' + b'(K\x01u.', 'not a complete'),
        (HEAD + b'K\x01)R.', 'not a function'),
        (HEAD + b'K\x01}b.', 'not an object'),
        (HEAD + b'.', 'not a complete'),
        (HEAD + b'K\x01', 'not a complete'),
        (HEAD + b'h\x05.', 'not a complete'),
        (b'words', 'not a complete'),
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
    monkeypatch.setattr(pickles, '_MOST_INSTRUCTIONS', 1000)
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
    with pytest.raises(InputError, match='invalid name'):
        network_tensors(read(pickle.dumps(module, 4)))


def test_cut_at_any_byte(read):
    content = pickle.dumps(nn.Linear(2, 1), 4)
    for length in range(len(content)):
        with pytest.raises(InputError):
            read(content[:length])


def check_changed_at_random(content, extract):
    """Change bytes 400 times: what is read and what is an error."""
    draw = random.Random(0)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 2, 8])):
            changed[draw.randrange(len(content))] = draw.randrange(256)
        try:
            extract(bytes(changed))
            outcomes[True] += 1
        except InputError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 20


def test_changed_at_random(read):
    content = pickle.dumps(nn.Linear(3, 2), 4)
    check_changed_at_random(content, lambda x: network_tensors(read(x)))


# Arrays of numpy in dicts.

ARRAYS = {
    'a': {'b/c': np.arange(6, dtype=np.float32).reshape(2, 1, 3)},
    'd': np.float64([[0.1]]),
    'e': {'f': {'g': np.int64([1, -2])}, 'h': np.float16([3])},
    'i': np.int32([7]),
    'j': np.array(5, np.float32),
    'k': {},
}


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_arrays_are_those_of_numpy(protocol):
    content = pickle.dumps(ARRAYS, protocol)
    if protocol == 2:
        # Its bytes are texts that a function is to encode.
        with pytest.raises(InputError, match=r'_codecs\.encode'):
            parse_pickle(content)
        return
    found = array_tensors(parse_pickle(content))
    expected = {
        'a/b/c': ARRAYS['a']['b/c'],
        'd': ARRAYS['d'],
        'e/f/g': ARRAYS['e']['f']['g'],
        'e/h': ARRAYS['e']['h'],
        'i': ARRAYS['i'],
        'j': ARRAYS['j'],
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].is_contiguous()
        np.testing.assert_array_equal(found[name].numpy(), value, strict=True)


class Array:
    """A pickled array whose parts can be chosen."""

    def __init__(self, **parts):
        array = np.arange(6, dtype=np.float32)
        self.make, args, state = array.__reduce__()
        names = ('version', 'shape', 'dtype', 'fortran', 'content')
        self.args = args
        self.state = tuple({**dict(zip(names, state)), **parts}.values())

    def __reduce__(self):
        return self.make, self.args, self.state


class Kind:
    """A pickled dtype whose parts can be chosen."""

    def __init__(self, kind='f4', order='<'):
        self.args = (kind, False, True)
        self.state = (3, order, None, None, None, -1, -1, 0)

    def __reduce__(self):
        return np.dtype, self.args, self.state


def test_an_array_by_its_parts():
    content = pickle.dumps({'x': Array(shape=(2, 3), dtype=Kind())}, 4)
    found = array_tensors(parse_pickle(content))
    assert found['x'].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    'bad',
    [
        dict(shape=(7,)),
        dict(shape=(5,)),
        dict(shape=(-1,)),
        dict(shape=(-2, -3)),
        dict(shape=(0,)),
        dict(shape=(0,), content=b''),
        dict(shape=(6.0,)),
        dict(shape=(True, 6)),
        dict(shape=6),
        dict(shape=[6]),
        dict(shape=(1,) * 8 + (6,)),
        dict(shape=(2**39, 2**39)),
        dict(fortran=True),
        dict(version=2),
        dict(content=bytes(23)),
        dict(content=[0] * 6),
        dict(content='a' * 24),
        dict(dtype=Kind(order='>')),
        dict(dtype=Kind('O')),
        dict(dtype=Kind('V4')),
        dict(dtype=Kind('<f4')),
        dict(dtype=Kind(['f4'])),
        dict(dtype='f4'),
    ],
)
def test_arrays_that_are_none(bad):
    content = parse_pickle(pickle.dumps({'x': Array(**bad)}, 4))
    with pytest.raises(InputError, match='its array x'):
        array_tensors(content)


def test_arrays_that_are_shared_or_hold_themselves():
    """2 ** 60 of them, or endless ones."""
    content = np.arange(3.0).tobytes()
    both = [
        Array(shape=(3,), dtype=Kind('f8'), content=content) for _ in range(2)
    ]
    tree = parse_pickle(pickle.dumps(dict(zip('xy', both)), 4))
    with pytest.raises(InputError, match='its array y: it shares'):
        array_tensors(tree)
    tree = {}
    for _ in range(60):
        tree = {'a': tree, 'b': tree}
    with pytest.raises(InputError, match='holds itself'):
        array_tensors(parse_pickle(pickle.dumps(tree, 4)))
    tree['a'] = tree
    with pytest.raises(InputError, match='holds itself'):
        array_tensors(parse_pickle(pickle.dumps(tree, 4)))


@pytest.mark.parametrize(
    ('tree', 'words'),
    [
        ([ARRAYS], 'instead of a dict'),
        (7, 'instead of a dict'),
        ({'x': [1]}, 'its array x'),
        ({'x': np.float32(1)}, 'its array x'),
        ({'x y': {}}, 'invalid name'),
        ({3: {}}, 'invalid name'),
    ],
)
def test_what_holds_no_arrays(tree, words):
    with pytest.raises(InputError, match=words):
        array_tensors(parse_pickle(pickle.dumps(tree, 4)))


def test_arrays_changed_at_random():
    content = pickle.dumps(ARRAYS, 4)
    check_changed_at_random(content, lambda x: array_tensors(parse_pickle(x)))
