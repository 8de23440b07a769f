"""Bad input gives one clear line that names the culprit, and status 2."""

import hashlib
import re
import shutil

import pytest
from real_process import ROOT, run_tool

from stylegan_v_mm.video.encoding import write_video

TRAIN, TEST, GENERATE = 'train.py', 'test.py', 'generate.py'


def noise_video(path, num_frames, rng_value=128):
    import numpy as np

    frames = np.full((num_frames, 3, 16, 16), rng_value, np.uint8)
    write_video(path, frames, 25)


@pytest.fixture
def folders(tmp_path):
    """Folders of bad data."""
    (tmp_path / 'empty').mkdir()
    for i in range(2):
        noise_video(tmp_path / 'short' / f'{i}.mp4', 2)
        noise_video(tmp_path / 'mixed' / f'{i}.mp4', 40)
    (tmp_path / 'mixed/dataset.json').write_text(
        '{"labels": [["0.mp4", [1, 0]], ["1.mp4", [1, 0, 0]]]}'
    )
    (tmp_path / 'labels.csv').write_text(
        ''.join(f'{i:05d}.mp4,{i % 2}\n' for i in range(8))
    )
    (tmp_path / 'file').write_text('not a folder')
    (tmp_path / 'not_torchscript.pt').write_text('nothing')
    return tmp_path


CASES = {
    'no data': (
        TRAIN, ['data_root={tmp}/empty'], ['{tmp}/empty', 'no videos']
    ),
    'wrong path': (
        TRAIN, ['data_root={tmp}/nowhere'], ['{tmp}/nowhere', 'no such']
    ),
    'all too short': (
        TRAIN, ['data_root={tmp}/short'], ['{tmp}/short', 'shorter than 3']
    ),
    'mixed label widths': (
        TRAIN,
        ['data_root={tmp}/mixed', 'labels=dataset.json'],
        ['dataset.json', 'width', '1.mp4'],
    ),
    'labels without classes': (
        TRAIN, ['num_classes=3'], ['num_classes=0', '3']
    ),
    'labels of another model': (
        TEST,
        ['labels={tmp}/labels.csv'],
        ['num_classes=2', '0'],
    ),
    'resolution': (
        TRAIN, ['resolution=48'], ['resolution', '48', 'power of two']
    ),
    'num_frames': (TRAIN, ['num_frames=0'], ['num_frames', '0']),
    'batch size': (TRAIN, ['batch_size=0'], ['batch_size=0']),
    'unknown key': (
        TRAIN, ['model.generator.z_dimm=8'], ['z_dimm', "'z_dim'"]
    ),
    'unknown variable': (
        TRAIN, ['resolutoin=32'], ['resolutoin', "'resolution'"]
    ),
    'other architecture': (
        TEST, ['model.generator.z_dim=16'], ['iter_4.pth', 'architecture']
    ),
    'a detector that was not fetched': (
        TEST,
        ['detector.type=I3D'],
        ['detectors/i3d.safetensors', 'python tools/get_detectors.py i3d'],
    ),
    'the same while training': (
        TRAIN,
        ['detector.type=I3D', 'val_interval=2'],
        ['detectors/i3d.safetensors', 'python tools/get_detectors.py i3d'],
    ),
    'the features of frames': (
        TEST,
        [
            'num_test_images=20',
            'test_evaluator=["= fd50k_vgg16"]',
        ],
        ['detectors/lpips.safetensors', 'python tools/get_detectors.py lpips'],
    ),
    'missing detector': (
        TEST,
        ['detector.type=I3DTorchScript', 'detector.path={tmp}/i3d.pt'],
        ['{tmp}/i3d.pt', 'docs/metrics.md'],
    ),
    'wrong checksum': (
        TEST,
        [
            'detector.type=I3DTorchScript',
            'detector.path={tmp}/not_torchscript.pt',
            'detector.sha256=' + 32 * 'ab',
        ],
        [
            '{tmp}/not_torchscript.pt',
            hashlib.sha256(b'nothing').hexdigest(),
            32 * 'ab',
        ],
    ),
    'not TorchScript': (
        TEST,
        [
            'detector.type=I3DTorchScript',
            'detector.path={tmp}/not_torchscript.pt',
        ],
        ['{tmp}/not_torchscript.pt', 'TorchScript'],
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_one_line_names_the_culprit(case, job, folders):
    tool, options, words = CASES[case]
    options = [option.format(tmp=folders) for option in options]
    work_dir = folders / 'work'
    positional = (
        [job.config] if tool == TRAIN else [job.config, job.checkpoint]
    )
    result = run_tool(
        tool, *positional, '--work-dir', work_dir, '--cfg-options', *options
    )
    check(result, [word.format(tmp=folders) for word in words])
    assert not list(work_dir.glob('**/*.pth'))


def check(result, words):
    """One line, on stderr, the last thing said."""
    assert result.returncode == 2, result.stderr
    assert 'Traceback' not in result.stderr
    # argparse puts the name of the script before its own.
    lines = re.findall(r'(?m)^(?:\w+\.py: )?error: .*', result.stderr)
    assert len(lines) == 1
    assert result.stderr.rstrip().endswith(lines[0])
    for word in words:
        assert word in lines[0]


def test_output_folder_not_writable(job, folders):
    # Root may write anywhere, but not below a file.
    result = run_tool(
        GENERATE, job.config, job.checkpoint, '--out', folders / 'file/out'
    )
    check(result, [str(folders / 'file/out'), 'not writable'])
    result = run_tool(TRAIN, job.config, '--work-dir', folders / 'file/work')
    check(result, [str(folders / 'file/work')])


def test_missing_and_damaged_checkpoints(job, folders):
    missing = folders / 'iter_9.pth'
    result = run_tool(GENERATE, job.config, missing, '--out', folders / 'out')
    check(result, [str(missing)])
    damaged = folders / 'damaged.pth'
    shutil.copy(job.checkpoint, damaged)
    with damaged.open('r+b') as file:
        file.truncate(damaged.stat().st_size // 2)
    result = run_tool(GENERATE, job.config, damaged, '--out', folders / 'out')
    check(result, [str(damaged)])


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--num-frames=0'], ['--num-frames']),
        (['--label=2'], ['--label 2', '0 classes']),
        (['--grid'], ['.mp4', '--grid']),
        (['--out=o.mp4', '--num-videos=2'], ['o.mp4', '--grid']),
        (['--out=o.mp4', '--format=png'], ['o.mp4', '--format png']),
        (['--truncation-cutoff=99'], ['truncation_cutoff', '99']),
        (['--seed=-1'], ['--seed']),
        (['--seed', '1', '2', '--num-videos=3'], ['--num-videos 3', '2']),
        (['--motion-seed', '1', '2'], ['2 motion seeds', '1 videos']),
        (['--slow-motion=0'], ['--slow-motion']),
        (['--fps-out=nan'], ['--fps-out']),
        (['--fps=1000', '--fps-out=0.001'], ['slow_motion=1e-06']),
        (['--time-offset=-3'], ['--time-offset', '-3']),
        (
            ['--seed', f'{2**63 - 1}', '--num-videos=2'],
            [f'seed {2**63}', '2^63'],
        ),
        (['--label', 5000 * '1'], ['--label 111', 'class']),
        (['--mix-seed=3', f'--mix-layers={5000 * "1"}-'], ['--mix-layers']),
        (['--label=cat'], ['--label cat', 'class']),
        (['--label=data'], ['--label data', 'labels']),
        (['--mix-seed=3'], ['--mix-seed', '--mix-layers']),
        (
            ['--mix-seed=3', '--mix-layers=4-99'],
            ['--mix-layers 4-99', '0 to 5'],
        ),
        (['--mix-seed=3', '--mix-layers=x'], ['--mix-layers x']),
        (['--interpolate=motion'], ['.mp4', '.gif']),
        (['--latents=nowhere.safetensors'], ['nowhere.safetensors']),
        (['--metric=FVD16'], ['metrics.jsonl', 'tools/test.py']),
    ],
)
def test_bad_arguments_of_generate(
    args, words, job, tmp_path, run_script, monkeypatch
):
    checkpoint = job.work_dir if '--metric=FVD16' in args else job.checkpoint
    monkeypatch.chdir(tmp_path)
    model = [job.config, checkpoint, '--out', tmp_path / 'out']
    result = run_script(ROOT / 'tools' / GENERATE, *model, *args)
    check(result, words)
    assert not any(path.is_file() for path in tmp_path.rglob('*'))
