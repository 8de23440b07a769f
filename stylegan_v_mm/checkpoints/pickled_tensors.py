"""Build the tensors of a pickle that was read without executing it."""

import io
import math
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .pickles import Record, interpret

_LONGEST_NAME = 200  # of a module, such as synthesis.b4.conv1

_STORAGE_MAGIC, _STORAGE_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES: dict[object, np.dtype] = {
    'torch.FloatStorage': np.dtype('<f4'),
    'torch.DoubleStorage': np.dtype('<f8'),
    'torch.HalfStorage': np.dtype('<f2'),
    'torch.LongStorage': np.dtype('<i8'),
    'torch.IntStorage': np.dtype('<i4'),
}
_ARRAY_KINDS = tuple(dtype.str[1:] for dtype in _DTYPES.values())


def network_state(network: object) -> dict:
    """Return the attributes of a network in a pickle.

    Args:
        network (Record): A module that was saved with its source code (which
            is ignored), or one of PyTorch's.

    Returns:
        dict: Attribute to value, as :func:`read_pickle` returns them.

    Raises:
        InputError: It is not a network.
    """
    if isinstance(network, Record):
        state = network.state
        if network.name.endswith('._reconstruct_persistent_obj'):
            meta = network.args[0] if network.args else None
            state = meta.get('state') if isinstance(meta, dict) else None
        if isinstance(state, dict) and all(
            isinstance(state.get(part), dict)
            for part in ('_parameters', '_buffers', '_modules')
        ):
            return state
    raise InputError(f'it has a {_kind(network)} instead of a network')


def _kind(value: object) -> str:
    """Return the name of a value's type for a message."""
    name = value.name if isinstance(value, Record) else type(value).__name__
    return repr(name)


def network_tensors(
    network: Record, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Build the tensors of a network in a pickle.

    Args:
        network (Record): See :func:`network_state`.
        ignored (tuple): Tensors to leave out, by the last part of their names.

    Returns:
        dict: Name, such as ``mapping.fc0.weight``, to parameter or buffer.

    Raises:
        InputError: It is not a network, or one of its tensors is invalid.
    """
    tensors, used, modules = {}, set(), [('', network)]
    while modules:
        prefix, module = modules.pop()
        state = network_state(module)
        if id(module) in used or len(prefix) > _LONGEST_NAME:
            raise InputError('it has a network that holds itself')
        used.add(id(module))
        for name, value in (state['_parameters'] | state['_buffers']).items():
            if value is None or name in ignored:
                continue
            name = f'{prefix}{_checked(name)}'
            try:
                tensors[name] = _tensor(value, used)
            except ValueError as error:
                raise InputError(f'its tensor {name}: {error}') from error
        modules += (
            (f'{prefix}{_checked(name)}.', child)
            for name, child in reversed(state['_modules'].items())
            if child is not None
        )
    return tensors


def array_tensors(tree: object) -> dict[str, Tensor]:
    """Build tensors from the numpy arrays in nested dicts.

    Args:
        tree (dict): The result of :func:`read_pickle`.

    Returns:
        dict: Keys joined by slashes, such as ``params/Conv_0/kernel``, to
        contiguous tensors.

    Raises:
        InputError: It holds something other than dicts and arrays, or a dict
            that holds itself.
    """
    tensors, used, dicts = {}, set(), [('', tree)]
    while dicts:
        prefix, values = dicts.pop()
        if not isinstance(values, dict):
            raise InputError(f'it has a {_kind(values)} instead of a dict')
        if id(values) in used or len(prefix) > _LONGEST_NAME:
            raise InputError('it has a dict that holds itself')
        used.add(id(values))
        for name, value in values.items():
            name = f'{prefix}{_checked(name, "/")}'
            if isinstance(value, dict):
                dicts.append((f'{name}/', value))
                continue
            try:
                tensors[name] = _array(value, used)
            except ValueError as error:
                raise InputError(f'its array {name}: {error}') from error
    return tensors


def _array(value: Any, used: set[int]) -> Tensor:
    """Build a tensor from the record of a numpy array.

    Args:
        value (Record): The array's record.
        used (set): As for :func:`_tensor`, of the bytes of arrays.

    Returns:
        Tensor: Contiguous, with memory of its own.
    """
    match value:
        case Record(
            name='numpy.core.multiarray._reconstruct'
            | 'numpy._core.multiarray._reconstruct',
            state=(
                1,
                tuple() as shape,
                Record(
                    name='numpy.dtype',
                    args=(kind, *_),
                    state=(_, '<', *_),
                ),
                False,
                bytes() as payload,
            ),
        ) if kind in _ARRAY_KINDS:
            dtype = np.dtype(f'<{kind}')
        case _:
            raise ValueError(
                f'a {_kind(value)} is not a plain array of numbers'
            )
    if id(payload) in used:
        raise ValueError('it shares its memory with another array')
    used.add(id(payload))
    if len(shape) > 8 or not all(
        type(n) is int and 0 < n < 2**40 for n in shape
    ):
        raise ValueError('its shape is invalid')
    if len(payload) != math.prod(shape) * dtype.itemsize:
        raise ValueError('its size does not match its shape')
    return torch.from_numpy(
        np.frombuffer(payload, dtype).reshape(shape).copy()
    )


def _checked(name: object, more: str = '') -> str:
    if not isinstance(name, str) or not re.fullmatch(
        f'[A-Za-z0-9_{more}]+', name
    ):
        raise InputError('it has a part with an invalid name')
    return name[:_LONGEST_NAME]


def _tensor(value: Any, used: set[int]) -> Tensor:
    """Build a tensor from its record.

    Args:
        value (Record): The tensor's record.
        used (set): Ids of the storages used so far. Tensors cannot share one,
            so that all of them together are no larger than the file.

    Returns:
        Tensor: Contiguous, with memory of its own.
    """
    if _calls(value, 'torch._utils._rebuild_parameter'):
        value = value.args[0]
    if not _calls(value, 'torch._utils._rebuild_tensor_v2'):
        raise ValueError(f'a {_kind(value)} is not a tensor')
    storage, offset, size, stride, *_ = value.args
    if not _calls(storage, 'torch.storage._load_from_bytes'):
        raise ValueError(f'a {_kind(storage)} is not a storage')
    payload = storage.args[0]
    if id(payload) in used:
        raise ValueError('it shares its storage with another tensor')
    used.add(id(payload))
    numbers = _storage(payload)

    if not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError('its shape is invalid')
    extents = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 8:
        raise ValueError('its shape is invalid')
    if not all(type(n) is int and 0 <= n < 2**40 for n in extents):
        raise ValueError('its shape is invalid')
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    # A stride of 0 would turn a small storage into a large tensor.
    if min(size, default=1) < 1 or last >= len(numbers):
        raise ValueError('it reaches beyond its storage')
    if math.prod(size) > len(numbers):
        raise ValueError('it is larger than its storage')
    return numbers.as_strided(size, stride, offset).contiguous().clone()


def _calls(value: object, name: str) -> bool:
    """Whether a record stands for a call of a function with arguments."""
    return (
        isinstance(value, Record) and value.name == name and bool(value.args)
    )


def _storage(payload: object) -> Tensor:
    """Read a storage as ``torch.save`` writes it into a pickle.

    It consists of five small pickles (magic number, version, machine,
    description of the storage, key), the number of elements and the elements.
    The zip format, which can be compressed, does not occur here.

    Args:
        payload (bytes): The argument of ``torch.storage._load_from_bytes``.

    Returns:
        Tensor: The elements [L].
    """
    if not isinstance(payload, bytes):
        raise ValueError('its storage is not a bytes object')
    stream = io.BytesIO(payload)
    try:
        magic, protocol, machine, storage, _ = (
            interpret(stream, in_storage=True) for _ in range(5)
        )
    except InputError as error:
        raise ValueError(f'its storage cannot be read: {error}') from error
    match storage:
        case Record(
            name='persistent',
            args=(('storage', Record(name=kind), _, _, int(length), None),),
        ) if kind in _DTYPES:
            dtype = _DTYPES[kind]
        case _:
            raise ValueError('its storage has an unknown type')
    if (magic, protocol) != (_STORAGE_MAGIC, _STORAGE_PROTOCOL):
        raise ValueError('its storage has another format')
    if not isinstance(machine, dict) or not machine.get('little_endian'):
        raise ValueError('its storage has another byte order')
    start = stream.tell() + 8
    stored = int.from_bytes(payload[start - 8 : start], 'little')
    if stored != length or len(payload) != start + length * dtype.itemsize:
        raise ValueError('its storage does not have its stated length')
    return torch.from_numpy(
        np.frombuffer(payload, dtype, length, start).copy()
    )
