"""tools/invert.py on pictures, folders and videos."""

import json
import re

import av
import numpy as np
import pytest
from PIL import Image
from real_process import ROOT, run_tool

INVERT, GENERATE = ROOT / 'tools/invert.py', ROOT / 'tools/generate.py'
QUICK = ['--steps=6', '--starts=2', '--num-frames=5', '--loss=pixels']


@pytest.fixture
def invert(job, run_script, tmp_path):
    def invert(*args):
        model = [job.config, job.checkpoint, '--out', tmp_path / 'out']
        return run_script(INVERT, *model, *QUICK, *args)

    return invert


def decoded(path):
    with av.open(str(path)) as container:
        return np.stack(
            [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
        )


def test_inputs_of_all_kinds(job, invert, run_script, tmp_path):
    video = next(job.data.glob('*.mp4'))
    picture = tmp_path / 'wide.png'
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(picture)
    folder = tmp_path / 'frames'
    folder.mkdir()
    for i, frame in enumerate(decoded(video)[:12]):
        Image.fromarray(frame).save(folder / f'{i}.png')
    result = invert('--input', video, picture, folder, '--stride=2')
    assert result.returncode == 0, result.stderr
    out = tmp_path / 'out'
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ['latents.safetensors', 'report.json']
        + [
            f'{name}_{kind}.mp4'
            for name in (video.stem, 'wide', 'frames')
            for kind in ('compared', 'progress')
        ]
    )
    compared = decoded(out / f'{video.stem}_compared.mp4')
    assert compared.shape == (5, 16, 34, 3)
    target = compared[:, :, :16].astype(int)
    assert abs(target - decoded(video)[:10:2]).mean() < 12
    assert abs(decoded(out / 'wide_compared.mp4')[:, :, :16] - 99.0).max() < 8
    report = json.loads((out / 'report.json').read_text())
    assert report[str(video)]['times'] == [0, 2, 4, 6, 8]
    assert len(report[str(folder)]['losses']) == 6
    assert report[str(folder)]['psnr'] > 5
    # The latents are the videos, at any time.
    args = ['--latents', out / 'latents.safetensors', '--format=png']
    result = run_script(
        GENERATE, job.config, job.checkpoint, *args,
        '--num-frames=9', '--out', tmp_path / 'videos',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    again = [
        np.array(Image.open(tmp_path / f'videos/000000/{i:06d}.png'))
        for i in range(0, 9, 2)
    ]
    ours = compared[:, :, 18:].astype(int)
    assert abs(ours - np.stack(again)).mean() < 12


def test_what_an_operating_system_adds_to_a_folder(job, invert, tmp_path):
    """And pictures that move are videos."""
    folder = tmp_path / 'frames'
    (folder / '@eaDir').mkdir(parents=True)
    pictures = [Image.new('RGB', (16, 16), (40 * i, 0, 0)) for i in range(6)]
    for i, image in enumerate(pictures):
        image.save(folder / f'frame_{i}.png')
        (folder / f'._frame_{i}.png').write_bytes(b'resource fork')
    pictures[0].save(
        tmp_path / 'moving.webp', save_all=True, append_images=pictures[1:]
    )
    result = invert('--input', folder, tmp_path / 'moving.webp')
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / 'out/report.json').read_text())
    assert [len(entry['times']) for entry in report.values()] == [5, 5]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--input', 'nowhere.mp4'], ['nowhere.mp4', 'no such file']),
        (['--input', '{data}', '--steps=0'], ['--steps']),
        (['--input', '{data}'], ['has 0 frames']),
        (['--input', '{video}', '--start=38'], ['40 frames', 'frame 42']),
        (['--input', '{video}', '{video}'], ['names of the inputs']),
        (['--input', '{video}', '--times', '1'], ['5 frames', 'times']),
        (['--input', '{video}', '--times', '0', 'nan', '2'], ['nan']),
        (['--input', '{video}', '--label=1'], ['0 classes']),
        (
            ['--input', '{video}', '--loss=lpips'],
            ['python tools/get_detectors.py lpips', 'or add --loss pixels'],
        ),
        (['--input', '{config}'], ['config.py']),
    ],
)
def test_bad_arguments_are_named(job, invert, tmp_path, args, words):
    places = dict(
        data=job.data, video=next(job.data.glob('*.mp4')), config=job.config
    )
    result = invert(*[word.format(**places) for word in args])
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert re.match(r'(invert\.py: )?error: ', line)
    assert 'Traceback' not in result.stderr
    for word in words:
        assert word in line
    assert not any(tmp_path.iterdir())


def test_a_folder_that_exists_is_kept(job, invert, tmp_path):
    (tmp_path / 'out').mkdir()
    result = invert('--input', next(job.data.glob('*.mp4')))
    assert result.returncode == 2
    assert 'exists' in result.stderr


def test_as_a_real_process(job, tmp_path):
    video = next(job.data.glob('*.mp4'))
    result = run_tool(
        'invert.py', job.config, job.checkpoint, *QUICK,
        '--input', video, '--out', tmp_path / 'out',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert 'psnr' in result.stdout
