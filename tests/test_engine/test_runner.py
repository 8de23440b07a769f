"""The runner's settings of the process, and what it refuses."""

import subprocess
import sys

import pytest
import torch

from stylegan_v_mm.engine import GANOptimWrapperConstructor, VideoGANRunner
from stylegan_v_mm.errors import InputError

# How often the kernel had to give a page while large tensors come and go.
SCRIPT = """
import resource
import torch
from stylegan_v_mm.allocation import keep_freed_memory

def page_faults():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.zeros(2**22) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

before = page_faults()
keep_freed_memory()
page_faults()  # the first time, memory has to come from somewhere
print(before, page_faults())
"""


def test_freed_memory_is_reused():
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, result.stdout.split())
    assert after < before / 20


@pytest.fixture
def backends():
    """Those that round to TF32, and back to what they were."""
    backends = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [backend.allow_tf32 for backend in backends]
    yield backends
    for backend, value in zip(backends, before):
        backend.allow_tf32 = value


@pytest.mark.parametrize('tf32', [False, True])
def test_gpus_round_products_only_if_they_may(
    backends, monkeypatch, tmp_path, tf32
):
    for backend in backends:
        backend.allow_tf32 = not tf32
    runner = VideoGANRunner.__new__(VideoGANRunner)
    for name, value in dict(distributed=False, work_dir=tmp_path).items():
        monkeypatch.setattr(runner, f'_{name}', value, raising=False)
    runner.setup_env(dict(tf32=tf32) if tf32 else {})
    assert [backend.allow_tf32 for backend in backends] == [tf32, tf32]


def test_accumulation_has_one_place():
    cfg = dict(generator=dict(accumulative_counts=2))
    with pytest.raises(InputError, match=r'optim_wrapper\.generator\.accum'):
        GANOptimWrapperConstructor(cfg)


def test_processes_do_not_have_seeds_of_their_own():
    runner = VideoGANRunner.__new__(VideoGANRunner)
    with pytest.raises(InputError, match='diff_rank_seed=True: remove it'):
        runner.set_randomness(0, diff_rank_seed=True)
