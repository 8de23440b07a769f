"""A config of mmagic's scope, run by mmagic's own scripts."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from documented import blocks_of
from mmengine.config import Config
from mmengine.registry import DefaultScope
from real_process import ROOT, run_tool
from torch import Tensor, nn

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.video.encoding import write_video

pytestmark = pytest.mark.slow


class Colours(nn.Module):
    """Called as the published Inception file is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        return self.scale * img.float().mean([2, 3])


def documented_config():
    blocks = blocks_of(ROOT / 'docs/mmagic.md')
    (text,) = (b.text for b in blocks if b.language == 'python')
    return text


@pytest.fixture
def lane(tmp_path, monkeypatch):
    """A folder with the documented config, made small, and what it needs."""
    pytest.importorskip(
        'mmagic.evaluation',
        reason='needs the full install',
        exc_type=ImportError,
    )
    inception = sys.modules['mmagic.evaluation.functional.inception_utils']
    monkeypatch.setattr(inception, 'MMAGIC_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(Config, 'pretty_text', '')
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(4):
        frames = rng.integers(0, 255, (20, 3, 16, 16)).astype(np.uint8)
        write_video(tmp_path / f'videos/{i}.mp4', frames, 25)
    torch.jit.script(Colours()).save(str(tmp_path / 'inception.pt'))
    text = documented_config()
    for old, new in {
        'data/moving_shapes': 'videos',
        'resolution = 32': 'resolution = 16',
        'batch_size = 8': 'batch_size = 4',
        'max_iters = 1600': 'max_iters = 3',
        'val_interval = 400': 'val_interval = 1',
        'num_test_videos = 128': 'num_test_videos = 4',
        'inception = None': "inception = 'inception.pt'",
        # No value is better than the one before: halved each time.
        'patience=3': 'patience=0, threshold=1',
        'channel_max=64': 'channel_max=8',
        'num_videos=16': 'num_videos=1',
    }.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / 'in_mmagic.py').write_text(text)
    scripts = Path(sys.modules['mmagic'].__file__).parent / '.mim/tools'

    def run(script, *args):
        monkeypatch.setattr('sys.argv', [script, *args])
        runpy.run_path(str(scripts / script), run_name='__main__')

    # What mmagic's scripts leave behind is not for other tests.
    with DefaultScope.overwrite_default_scope('stylegan_v_mm'):
        yield run


def test_mmagics_scripts_train_and_test(lane, tmp_path):
    lane('train.py', 'in_mmagic.py')
    work_dir = tmp_path / 'work_dirs/in_mmagic'
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.open()]
    measured = [line for line in lines if 'FID/fid' in line]
    assert len(measured) == 3
    last = measured[-1]
    assert {'FrameDiff1', 'FrameDiff1-real'} <= last.keys()
    assert (work_dir / 'previews/iter_0000003.mp4').stat().st_size > 0
    path = work_dir / 'iter_3.pth'
    state = load_checkpoint(path)
    assert int(state['state_dict']['iteration']) == 3
    # mmagic's hook and scheduler: halved twice before it was saved.
    for name in ('generator', 'discriminator'):
        (group,) = state['optimizer'][name]['param_groups']
        assert group['lr'] == pytest.approx(0.005 / 2**2)

    out = tmp_path / 'metrics.json'
    lane('test.py', 'in_mmagic.py', str(path), '--out', str(out))
    metrics = json.loads(out.read_text())
    # The same weights and seeds.
    for name in ('FID/fid', 'FrameDiff1', 'SpectrumDist'):
        assert metrics[name] == pytest.approx(last[name], rel=1e-5)
    assert metrics['FID/fid'] > 0


def test_our_tool_takes_the_same_config(lane, tmp_path):
    result = run_tool('train.py', 'in_mmagic.py', cwd=tmp_path,
                      MPLBACKEND='agg')  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'work_dirs/in_mmagic/iter_3.pth').exists()
