"""Configs of mmagic's scope, run by mmagic's own scripts."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from real_process import ROOT, run_tool, run_two
from torch import Tensor, nn

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.video.encoding import write_video

pytestmark = pytest.mark.slow
CONFIG = ROOT / 'configs/mmagic/moving_shapes.py'
# What the config is made smaller by; here no FID is better than the one
# before, and the learning rates are halved each time.
SMALLER = {
    'data/moving_shapes': 'videos',
    'resolution = 32': 'resolution = 16',
    'max_iters = 1600': 'max_iters = 3',
    'val_interval = 400': 'val_interval = 1',
    'num_test_videos = 128': 'num_test_videos = 4',
    'inception = None': "inception = 'inception.pt'",
    'patience=3': 'patience=0, threshold=1',
    'channel_max=64': 'channel_max=8',
    'num_videos=16': 'num_videos=1',
    # One process has the whole batch, two have half of it.
    'batch_size = 8': 'batch_size = {batch_size}',
    'concat_res=8': 'concat_res=8, mbstd_group_size=1',
}
# mmengine's own set-up of processes insists on a GPU.
ON_A_CPU = """
import runpy
import sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group('gloo')
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name='__main__')
dist.destroy_process_group()
"""


class Colours(nn.Module):
    """Called as the published Inception file is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        return self.scale * img.float().mean([2, 3])


@pytest.fixture(scope='module')
def mmagic_tools():
    """The folder of mmagic's scripts."""
    mmagic = pytest.importorskip(
        'mmagic.evaluation',
        reason='needs the full install',
        exc_type=ImportError,
    )
    return Path(mmagic.__file__).parents[1] / '.mim/tools'


@pytest.fixture(scope='module')
def folder(tmp_path_factory, mmagic_tools):
    """Videos, a small Inception network, and the config, made small."""
    folder = tmp_path_factory.mktemp('lane')
    rng = np.random.default_rng(0)
    for i in range(4):
        frames = rng.integers(0, 255, (20, 3, 16, 16)).astype(np.uint8)
        write_video(folder / f'videos/{i}.mp4', frames, 25)
    torch.jit.script(Colours()).save(str(folder / 'inception.pt'))
    text = CONFIG.read_text()
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    for name, batch_size in (('one', 4), ('two', 2)):
        path = folder / f'{name}.py'
        path.write_text(text.replace('{batch_size}', str(batch_size)))
    return folder


@pytest.fixture(scope='module')
def trained(folder, mmagic_tools):
    """The work dir of two processes that mmagic's script trained."""
    (folder / 'on_a_cpu.py').write_text(ON_A_CPU)
    words = [
        *('on_a_cpu.py', mmagic_tools / 'train.py'),
        *('two.py', '--launcher', 'pytorch'),
        # As in mmagic's own configs: processes with seeds of their own.
        *('--cfg-options', 'randomness.seed=3'),
        'randomness.diff_rank_seed=True',
    ]
    # mmagic keeps statistics of its metrics in the home.
    for process in run_two(words, folder, HOME=str(folder)):
        assert process.returncode == 0, process.stderr
    return folder / 'work_dirs/two'


def lines_of_log(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in log.open()]


def test_mmagics_scripts_train_and_test(
    trained, folder, mmagic_tools, tmp_path, monkeypatch
):
    measured = [line for line in lines_of_log(trained) if 'FID/fid' in line]
    assert len(measured) == 3
    last = measured[-1]
    assert {'FrameDiff1', 'FrameDiff1-real'} <= last.keys()
    assert (trained / 'previews/iter_0000003.mp4').stat().st_size > 0
    path = trained / 'iter_3.pth'
    state = load_checkpoint(path)
    assert int(state['state_dict']['iteration']) == 3
    # mmagic's hook and scheduler: halved twice before it was saved.
    for name in ('generator', 'discriminator'):
        (group,) = state['optimizer'][name]['param_groups']
        assert group['lr'] == pytest.approx(0.005 / 2**2)

    out = tmp_path / 'metrics.json'
    monkeypatch.chdir(folder)
    inception = sys.modules['mmagic.evaluation.functional.inception_utils']
    monkeypatch.setattr(inception, 'MMAGIC_CACHE_DIR', str(tmp_path))
    words = ['test.py', 'one.py', str(path), '--out', str(out)]
    monkeypatch.setattr('sys.argv', words)
    # What mmagic's scripts leave behind is not for other tests.
    with DefaultScope.overwrite_default_scope('stylegan_v_mm'):
        runpy.run_path(str(mmagic_tools / 'test.py'), run_name='__main__')
    metrics = json.loads(out.read_text())
    # The same weights and seeds.
    for name in ('FID/fid', 'FrameDiff1', 'SpectrumDist'):
        assert metrics[name] == pytest.approx(last[name], rel=1e-5)
    assert metrics['FID/fid'] > 0


def test_our_tool_trains_the_same_model_in_one_process(trained, folder):
    result = run_tool(
        *('train.py', 'one.py', '--cfg-options', 'randomness.seed=3'),
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    ours, theirs = (
        load_checkpoint(work_dir / 'iter_3.pth')['state_dict']
        for work_dir in (folder / 'work_dirs/one', trained)
    )
    model = Config.fromfile(folder / 'one.py').model
    torch.manual_seed(3)
    with DefaultScope.overwrite_default_scope('stylegan_v_mm'):
        start = MODELS.build(model).state_dict()
    for network in ('generator.', 'discriminator.'):
        way, other = (
            torch.cat(
                [
                    (state[key] - value).flatten()
                    for key, value in start.items()
                    if key.startswith(network)
                ]
            )
            for state in (ours, theirs)
        )
        assert way.norm() > 0.01
        assert (way - other).norm() < 1e-3 * way.norm()
