"""tools/model_converters/stylegan_v_pkl.py: published snapshots."""

import numpy as np
import pytest
import torch
from golden import golden_file
from real_process import run_tool
from small_model import load_whole

TOOL = 'model_converters/stylegan_v_pkl.py'


def test_the_published_snapshot(tmp_path):
    """By the real tool; the code in the file raises if it is run."""
    source = golden_file('network-snapshot-000012.pkl')
    out = tmp_path / 'new/snapshot.pth'
    result = run_tool(TOOL, source, out)
    assert result.returncode == 0, result.stderr
    gan = load_whole(out.with_suffix('.py'), out)
    with np.load(golden_file(source.stem + '_expected.npz')) as file:
        expected = {name: file[name] for name in file.files}
    given = {k: torch.as_tensor(v) for k, v in expected.items()}
    with torch.no_grad():
        videos = gan.generator_ema(
            *(given[name] for name in ('z', 'c', 't', 'motion_z'))
        )
        logits = gan.discriminator(
            given['frames'][None], given['c'], given['t']
        )
    assert (videos.flatten(0, 1) - given['frames']).abs().max() < 1e-4
    assert (logits - given['logits_frames']).abs().max() < 1e-4
    assert float(gan.augment.p) == pytest.approx(expected['augment_p'])
    assert 'p = 0.17' in result.stdout
    assert {p.name for p in out.parent.iterdir()} == {
        'snapshot.pth',
        'snapshot.py',
    }


def test_a_snapshot_that_would_run_code_is_refused(tmp_path):
    source = tmp_path / 'a.pkl'
    source.write_bytes(b'cos\nsystem\n(S"touch executed"\ntR.')
    for out, words in (('a.bin', 'must end in .pth'), ('a.pth', 'os.system')):
        result = run_tool(TOOL, source, out, cwd=tmp_path)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith('error: ')
        assert words in line
    assert list(tmp_path.iterdir()) == [source]
