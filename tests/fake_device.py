"""An accelerator that computes nothing, for machines without one.

Tensors on the device ``'gpu'`` have a shape and a dtype, but no values, and
cost no memory. Whatever meets them is checked as a GPU would check it: a
tensor of the CPU that meets one of the device raises. Tensors of the CPU are
real all the while::

    with FakeDevice() as device:
        gan.to('gpu')
        list(sampler.render(latents, t))
    print(device.peak, device.reads)

What raises within a backward pass ends the process, with PyTorch's message.
"""

import os
import traceback
import weakref
from unittest import mock

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import stylegan_v_mm

_PACKAGE = os.path.dirname(stylegan_v_mm.__file__)

_set_up = getattr(
    backend_registration, '_setup_privateuseone_for_python_backend', None
)
if _set_up is not None:
    from torch._subclasses import FakeTensor, FakeTensorMode

    # PyTorch starts a thread for each device that it knows at the first
    # backward pass. One for this device would abort Python's exit.
    torch.ones(1, requires_grad=True).backward()

    class _Backend(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self):  # what checkpoints ask for
            return [torch.float16, torch.bfloat16]

    # Once for a process; no other test may take the place of this backend.
    _set_up('gpu', _Backend())

#: For tests that need it.
needs_fake_device = pytest.mark.skipif(
    _set_up is None, reason='this PyTorch cannot pretend to have a GPU'
)


class FakeDevice(TorchDispatchMode):
    """Run operations on tensors of ``'gpu'`` without computing them.

    Attributes:
        reads (list): 'FILE:LINE' of each value that the host has asked the
            device for, which is a wait for it. Single values are 0, and
            those of tensors that were copied to the CPU remain unknown.
        copies (list): 'FILE:LINE' of each copy from the host to the device.
        largest (int): Elements of the largest tensor so far.
        in_use (int): Bytes of all tensors now.
        peak (int): The most bytes so far.
    """

    def __init__(self):
        super().__init__()
        self.reads, self.copies = [], []
        self.largest = self.peak = self.in_use = 0
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._storages = {}

    def __enter__(self):
        self._patches = [
            # Else `torch.tensor(..., device='gpu')` asks for a real one.
            _OnlyLift(),
            # FakeTensorMode keeps weak references to weights, and modules
            # then could not be moved or change their dtype.
            mock.patch('torch.utils.swap_tensors', _swap_tensors),
            # Backwards without the device's thread, which is not there.
            torch.autograd.set_multithreading_enabled(False),
        ]
        for patch in self._patches:
            patch.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        for patch in self._patches:
            patch.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = tree_leaves((args, kwargs))
        is_fake = any(isinstance(x, FakeTensor) for x in inputs)
        if not is_fake and not any(map(_is_device, inputs)):
            return func(*args, **kwargs)
        if func in _CONVOLUTIONS and len(_places(inputs)) > 1:
            # FakeTensorMode looks at the device of the images alone.
            raise RuntimeError(
                f'{func} found tensors on two different devices'
            )
        source, target = _devices(func, args, kwargs)
        if (source, target) == ('cpu', 'gpu'):
            self.copies.append(_caller())
        elif (source, target) == ('gpu', 'cpu'):
            self.reads.append(_caller())
        if torch.Tag.data_dependent_output in func.tags:
            if source == 'gpu':
                self.reads.append(_caller())
            if func is torch.ops.aten._local_scalar_dense.default:
                return torch.zeros([], dtype=args[0].dtype).item()
            return False
        with self._mode:
            outputs = func(*args, **kwargs)
        for x in tree_leaves(outputs):
            if isinstance(x, torch.Tensor) and x.device.type == 'gpu':
                self._count(x)
        return outputs

    def _count(self, x):
        self.largest = max(self.largest, x.numel())
        storage = x.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self._storages[key] = size
            self.in_use += size
            self.peak = max(self.peak, self.in_use)
            weakref.finalize(storage, self._free, key)

    def _free(self, key):
        self.in_use -= self._storages.pop(key)


class _OnlyLift:
    def __enter__(self):
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._before)


def _swap_tensors(a, b):
    a.__dict__, b.__dict__ = b.__dict__, a.__dict__
    a.__class__, b.__class__ = b.__class__, a.__class__
    torch._C._swap_tensor_impl(a, b)


def _is_device(value):
    return isinstance(value, torch.device) and value.type == 'gpu'


_CONVOLUTIONS = (
    torch.ops.aten.convolution.default,
    torch.ops.aten.convolution_backward.default,
)


def _places(values):
    return {x.device.type for x in values if isinstance(x, torch.Tensor)}


def _devices(func, args, kwargs):
    """Say from where an operation takes its input, and to where it copies."""
    source = args[0] if args else None
    target = kwargs.get('device')
    if func is torch.ops.aten.copy_.default:
        source, target = args[1], args[0].device
    elif func is not torch.ops.aten._to_copy.default:
        target = None
    source = getattr(source, 'device', None)
    return (source and source.type, target and target.type)


def _caller():
    """Say which line of the package led here."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(f'{_PACKAGE}{os.sep}'):
            return (
                f'{os.path.relpath(frame.filename, _PACKAGE)}:{frame.lineno}'
            )
    return 'a test'
