"""Steps as CUDA graphs, by graphs that replay operations on the CPU.

What stands in for a graph behaves as CUDA's: operations are recorded with
their tensors, not executed, and replaying them reads and writes the same
memory. It cannot show that CUDA captures them.
"""

import copy
from contextlib import contextmanager

import pytest
import torch
from test_stylegan_v import batch, make, optimizers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stylegan_v_mm.errors import InputError


class Graph(TorchDispatchMode):
    """Records operations while it is the mode, and replays them."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, results))
        return results

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, results in self.calls:
            again = func(*args, **kwargs)
            for ours, new in zip(tree_leaves(results), tree_leaves(again)):
                if not isinstance(ours, torch.Tensor):
                    continue
                if ours.data_ptr() != new.data_ptr():
                    ours.copy_(new)


@pytest.fixture
def graphs(monkeypatch):
    """Give a function that takes the models whose buffers capture keeps."""
    models = []

    @contextmanager
    def capture(graph):
        before = [copy.deepcopy(dict(gan.named_buffers())) for gan in models]
        random = torch.get_rng_state()
        with graph:
            yield
        torch.set_rng_state(random)
        for gan, buffers in zip(models, before):
            for name, value in gan.named_buffers():
                value.copy_(buffers[name])

    def pretend(*gans):
        models.extend(gans)
        # Building a model would look for the GPU.
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)

    monkeypatch.setattr(torch.cuda, 'CUDAGraph', Graph)
    monkeypatch.setattr(torch.cuda, 'graph', capture)
    return pretend


OPTIONS = dict(
    augment=dict(type='VideoAugment', p=0.5, ada_interval=1, ada_kimg=9),
    c_dim=3,
    d_reg_interval=2,
    ema_rampup=0.1,
    g_reg_interval=3,
    pl_weight=2,
    style_mixing_prob=0.5,
)


@pytest.mark.parametrize('reuse_fakes', [False, True])
def test_replayed_iterations_are_those_without_graphs(graphs, reuse_fakes):
    torch.manual_seed(1)
    plain = make(reuse_fakes=reuse_fakes, **OPTIONS)
    ours = make(reuse_fakes=reuse_fakes, cuda_graph=True, **OPTIONS)
    ours.load_state_dict(plain.state_dict())
    batches = [batch(plain) for _ in range(13)]
    graphs(ours)
    logs = []
    for gan in (plain, ours):
        torch.manual_seed(0)
        steps = optimizers(gan, lr=1e-3)
        logs.append([gan.train_step(dict(data), steps) for data in batches])
    # All four losses were captured, and replayed at least twice.
    assert len(ours.graphs._graphs) == 4
    assert min(ours.graphs._count.values()) >= 5
    for ours_i, plain_i in zip(logs[1], logs[0], strict=True):
        assert ours_i.keys() == plain_i.keys()
        for name in plain_i:
            value = pytest.approx(float(plain_i[name]), rel=1e-3, abs=1e-5)
            assert float(ours_i[name]) == value, name
    state = plain.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-4)


def test_what_cannot_be_captured_is_refused(graphs):
    with pytest.raises(InputError, match='accumulative_counts=1'):
        make(cuda_graph=True, accumulative_counts=2)
    gan = make(cuda_graph=True, generator=dict(use_noise=True))
    graphs(gan)
    data = batch(gan)
    del data['gen_z'], data['motion_z']  # drawn, as for a loader's batch
    with pytest.raises(InputError, match='use_noise=False'):
        gan.train_step(data, optimizers(gan))


def test_without_a_gpu_there_are_no_graphs():
    gan = make(cuda_graph=True)
    with pytest.raises(
        InputError, match=r'model\.cuda_graph=True needs a GPU'
    ):
        gan.train_step(batch(gan), optimizers(gan))
