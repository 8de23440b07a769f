"""The tools take the name of a trained model wherever they take a model."""

import json

import pytest
import torch
from real_process import ROOT

from stylegan_v_mm.checkpoints.loading import load_checkpoint

pytestmark = pytest.mark.usefixtures('tiny')
TOOLS = {
    'generate': ('generate.py', ['--num-frames=2']),
    'edit': ('edit.py', ['--num-components=1']),
}


@pytest.mark.parametrize('name', TOOLS)
def test_a_tool_that_uses_a_model(name, job, tmp_path, run_script):
    script, args = TOOLS[name]
    out = {}
    for model in (['tiny'], [job.config, job.checkpoint]):
        folder = tmp_path / f'out_{len(model)}'
        result = run_script(
            ROOT / 'tools' / script, *model, *args, '--out', folder
        )
        assert result.returncode == 0, result.stderr
        files = {x.name: x for x in folder.rglob('*') if x.is_file()}
        out[len(model)] = {
            name: file.stat().st_size for name, file in files.items()
        }
    assert out[1] == out[2]
    assert len(out[1]) > 0
    result = run_script(ROOT / 'tools' / script, 'tyni', '--out', 'x')
    assert result.returncode == 2
    assert result.stderr.endswith('there is tiny\n')


def test_invert(job, tmp_path, run_script):
    video = next(job.data.glob('*.mp4'))
    result = run_script(
        ROOT / 'tools/invert.py', 'tiny', '--input', video, '--steps=2',
        '--starts=1', '--loss=pixels', '--num-frames=2', '--out', 'inverted',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'inverted/latents.safetensors').is_file()


def test_measuring_needs_no_checkpoint(job, tmp_path, run_script):
    results = []
    for i, model in enumerate((['tiny'], [job.config, job.checkpoint])):
        result = run_script(
            ROOT / 'tools/test.py', *model, '--out', f'{i}.json',
            '--work-dir', tmp_path / 'work',
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        results.append(json.loads((tmp_path / f'{i}.json').read_text()))
    assert results[0] == results[1]
    assert results[0]['FVD-random'] > 0
    lines = (tmp_path / 'work/metrics.jsonl').read_text().splitlines()
    assert {json.loads(line)['config'] for line in lines} == {str(job.config)}
    # A work dir is a model here, too; a config is none.
    result = run_script(ROOT / 'tools/test.py', job.config)
    assert result.returncode == 2
    assert 'give a checkpoint' in result.stderr


def test_training_starts_from_a_name(job, tmp_path, run_script):
    result = run_script(
        ROOT / 'tools/train.py', job.config, '--work-dir', tmp_path / 'work',
        '--transfer-from', 'tiny', '--cfg-options', 'max_iters=1', 'lr=0',
        'checkpoint_interval=1', 'model.ema_kimg=1e9',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    ours = load_checkpoint(tmp_path / 'work/iter_1.pth')['state_dict']
    theirs = load_checkpoint(job.checkpoint)['state_dict']
    for name in theirs:
        network = name.startswith(('generator.', 'discriminator.'))
        if network and not name.endswith('w_avg'):
            torch.testing.assert_close(ours[name], theirs[name])
    result = run_script(
        ROOT / 'tools/train.py', job.config, '--work-dir', tmp_path / 'new',
        '--transfer-from', 'tyni',
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.endswith('named models: tiny\n')
