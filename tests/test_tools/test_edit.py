"""tools/edit.py: what it writes, and that it can be rendered again."""

import numpy as np
import pytest
from PIL import Image
from real_process import ROOT, run_tool
from safetensors.numpy import load_file


@pytest.fixture
def edit(job, run_script):
    def edit(out, *args):
        model = [job.config, job.checkpoint, '--out', out]
        return run_script(ROOT / 'tools/edit.py', *model, *args)

    return edit


def test_without_a_component_the_directions_are_drawn(job, tmp_path):
    """As a real process."""
    args = ['--num-videos=2', '--num-components=3', '--seed=4']
    model = [job.config, job.checkpoint, '--out', tmp_path]
    result = run_tool('edit.py', *model, *args)
    assert result.returncode == 0, result.stderr
    names = ['sliders_000004.png', 'sliders_000005.png']
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert names[1] in result.stdout
    with Image.open(tmp_path / names[0]) as image:
        assert image.width > image.height > 300


def test_edited_latents_are_the_video_at_any_time(
    job, tmp_path, edit, run_script
):
    args = ['--component=1', '--strength=2', '--layers=3-4', '--num-videos=2']
    time = ['--num-frames=6', '--time-offset=900', '--slow-motion=2']
    result = edit(tmp_path / 'edit', *args, *time, '--method=pca')
    assert result.returncode == 0, result.stderr
    assert '000001.mp4: changed by' in result.stdout
    latents = tmp_path / 'edit/after.safetensors'
    before = load_file(tmp_path / 'edit/before.safetensors')
    after = load_file(latents)
    step = after['ws'] - before['ws']
    assert (step[:, [0, 1, 2, 5]] == 0).all()
    assert np.linalg.norm(step[:, 3:5], axis=2).min() > 0
    again = run_script(
        ROOT / 'tools/generate.py',
        job.config,
        job.checkpoint,
        f'--latents={latents}',
        f'--out={tmp_path / "again"}',
        *time,
    )
    assert again.returncode == 0, again.stderr
    for name in ('000000.mp4', '000001.mp4'):
        edited = (tmp_path / 'edit' / name).read_bytes()
        assert edited == (tmp_path / 'again' / name).read_bytes()


def test_an_edit_by_mask_is_rendered_again_from_its_folder(tmp_path, edit):
    mask = np.zeros((48, 48), np.uint8)
    mask[:24] = 255
    Image.fromarray(mask).save(tmp_path / 'drawn.png')
    args = ['--component=0', f'--mask={tmp_path / "drawn.png"}', '--seed=7']
    first, second = tmp_path / 'first', tmp_path / 'second'
    result = edit(first, *args, '--num-frames=4', '--time-offset=50')
    assert result.returncode == 0, result.stderr
    assert 'times as much' in result.stdout
    kept = [
        f'--latents={first / "before.safetensors"}',
        f'--edited={first / "after.safetensors"}',
        f'--mask={first / "mask.png"}',
    ]
    result = edit(second, *kept, '--num-frames=4', '--time-offset=50')
    assert result.returncode == 0, result.stderr
    for suffix in ('', '_compared'):
        a = (first / f'000007{suffix}.mp4').read_bytes()
        assert a == (second / f'000000{suffix}.mp4').read_bytes()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--layers=9-'], '--layers 9-: give A-B'),
        (['--component=8'], '--component 8: choose one from 0 to 7'),
        (['--component=0', '--edited=x'], 'choose one'),
        (['--mask=x'], '--mask needs --component'),
        (['--component=0', '--mask=x'], 'there is no file x'),
        (['--edited=x'], 'there is no file x'),
        (['--latents=x'], 'there is no file x'),
        (['--slow-motion=1e-6'], 'slow_motion=1e-06'),
        (
            [f'--seed={2**63 - 1}', '--num-videos=2'],
            f'seed {2**63} must be',
        ),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, edit, args, message):
    result = edit(tmp_path / 'out', *args)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count('\n') == 1
    assert not list((tmp_path / 'out').glob('*'))


def test_a_mask_is_of_one_video(tmp_path, edit):
    Image.new('L', (8, 8), 255).save(tmp_path / 'mask.png')
    args = ['--component=0', f'--mask={tmp_path / "mask.png"}']
    result = edit(tmp_path / 'out', *args, '--num-videos=2')
    assert result.returncode == 2
    assert '--mask is of one video, and these are 2' in result.stderr
