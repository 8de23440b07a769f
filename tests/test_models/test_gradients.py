"""Gradients are averaged over processes while others are computed."""

import pytest
import torch
from real_process import run_program_twice
from torch import nn

from stylegan_v_mm.models.gradients import GradientBuckets

# Two processes with data of their own: discriminator and R1 in two parts, a
# parameter that only the first pass reaches and one that none does. What
# mmengine averages flat, after all passes, is the truth.
PROGRAM = """
import torch
import torch.distributed as dist
from mmengine.dist import all_reduce_params, get_rank
from stylegan_v_mm.models import gradients

dist.init_process_group('gloo')
gradients.BUCKET_BYTES = 100
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Linear(6, 16), torch.nn.Softplus(), torch.nn.Linear(16, 16),
    torch.nn.Softplus(), torch.nn.Linear(16, 1),
)
network.early = torch.nn.Parameter(torch.ones(3))
network.unused = torch.nn.Parameter(torch.ones(5))
network.frozen = torch.nn.Parameter(torch.ones(5), requires_grad=False)
torch.manual_seed(get_rank())
data = torch.randn(2, 4, 6)
params = [*network.parameters()]

def losses(part):
    x = part.requires_grad_()
    yield network(x).mean() + network.early.sum() * (1 + get_rank())
    (grad,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    yield grad.square().sum(1).mean()

def gradients_of(run):
    for param in params:
        param.grad = None
    run()
    return [None if p.grad is None else p.grad.clone() for p in params]

def flat():
    for part in data:
        for loss in losses(part):
            loss.backward()
    all_reduce_params([p.grad for p in params if p.grad is not None],
                      op='mean')

missing = []  # gradients that are not there when a bucket is sent
all_reduce = dist.all_reduce

def noted(tensor, **kwargs):
    missing.append(sum(param.grad is None for param in params))
    return all_reduce(tensor, **kwargs)

def one_pass(dtype):
    buckets = gradients.GradientBuckets(network, dtype)
    with buckets.sending(True):
        sum(loss for part in data for loss in losses(part)).backward()
    buckets.finish()

def many_passes(dtype):
    buckets = gradients.GradientBuckets(network, dtype)
    for i, part in enumerate(data):
        for j, loss in enumerate(losses(part)):
            with buckets.sending(i == j == 1):
                loss.backward()
    buckets.finish()

truth = gradients_of(flat)
dist.all_reduce = noted
for run in one_pass, many_passes:
    for dtype, error in (torch.float32, 1e-6), (torch.bfloat16, 1e-2):
        missing.clear()
        for ours, theirs in zip(gradients_of(lambda: run(dtype)), truth):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert (ours - theirs).norm() <= error * theirs.norm()
        assert len(missing) == 4
        if run is one_pass:
            # The first is sent before the layers below have theirs.
            assert missing[0] > missing[-1]
print(truth[0].sum().item())
"""


def test_buckets_are_sent_early_and_give_the_mean(tmp_path):
    one, two = run_program_twice(PROGRAM, tmp_path)
    assert one == two


def test_one_process_sends_nothing_but_counts_passes():
    network = nn.Linear(2, 1)
    buckets = GradientBuckets(network, torch.float32)
    for final in (False, True):
        with buckets.sending(final):
            network(torch.ones(1, 2)).sum().backward()
    with (
        pytest.raises(RuntimeError, match=r'backward\(loss, last=False\)'),
        buckets.sending(True),
    ):
        pass
    buckets.finish()
    assert network.weight.grad.tolist() == [[2, 2]]
