"""tools/model_converters/export_model.py, and what its files compute."""

import copy
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from golden import ROOT
from PIL import Image, ImageSequence

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import export, load_sampler
from stylegan_v_mm.inference.export import export_generator
from stylegan_v_mm.models import Sampler, StyleGANVGenerator

TOOL = ROOT / 'tools/model_converters/export_model.py'
SIZES = dict(resolution=16, z_dim=6, w_dim=8, channel_base=64, channel_max=6)
MOTION = dict(motion_z_dim=5, motion_v_dim=8, time_enc_dim=4)
# By their names in ONNX Runtime.
DTYPES = {
    'tensor(float)': 'float32',
    'tensor(double)': 'float64',
    'tensor(int64)': 'int64',
}
SHORT = dict(**MOTION, motion_kernel_size=2, motion_z_distance=2.5)


def make(**settings):
    torch.manual_seed(0)
    generator = StyleGANVGenerator(**SIZES, **settings)
    generator.mapping.w_avg.normal_()
    for name, param in generator.named_parameters():
        if name.endswith('noise_strength'):
            param.data.normal_()
    return generator.eval().requires_grad_(False)


def compare(generator, folder, suffix, far):
    """Make videos with the files and with the network: 1, and 4 of them."""
    files = {
        path.stem: export.load(path) for path in folder.glob(f'*{suffix}')
    }
    encoder = generator.motion_encoder
    psi = torch.ones(generator.num_ws)
    psi[:2] = 0.7
    for n, num_frames in ((1, 1), (1, 6), (4, 1), (4, 3)):
        z = torch.randn(n, generator.z_dim)
        c = torch.eye(generator.c_dim)[torch.arange(n) % generator.c_dim]
        center = Sampler(generator).class_center(c)
        ws = files['mapping'](z, psi, c)
        torch.testing.assert_close(
            ws, generator.map(z, c, 0.7, 2, center), atol=1e-4, rtol=0
        )
        t = far + torch.rand(n, num_frames, dtype=torch.float64) * 30
        first, count = encoder.code_range(t)
        motion_z = torch.randn(n, count + 2, encoder.motion_z_dim)
        motion_v = files['motion'](motion_z, first, t, c)
        assert motion_v.shape == (n, num_frames, encoder.out_dim)
        precise = copy.deepcopy(encoder).double()
        theirs = precise(c, t, motion_z, first).float()
        frames = files['synthesis'](
            ws.repeat_interleave(num_frames, 0), motion_v.flatten(0, 1)
        )
        videos = generator.render(
            generator.map(z, c, 0.7, 2, center), theirs, num_frames
        )
        assert videos.std() > 0.01
        torch.testing.assert_close(
            frames, videos.flatten(0, 1), atol=1e-4, rtol=0
        )


def test_the_script_in_the_docs_renders_the_videos_of_the_package(
    job, tiny, tmp_path, run_script
):
    out = tmp_path / 'work_dirs/exported'
    ran = run_script(TOOL, 'tiny', '--out', out)
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        'mapping.pt2',
        'model.json',
        'motion.pt2',
        'synthesis.pt2',
    ]
    assert [path.name for path in out.parent.iterdir()] == ['exported']
    for name, difference in re.findall(r'(\w+)\.pt2 .* (\S+)\n', ran.stdout):
        assert float(difference) < 1e-4, name

    page = (ROOT / 'docs/export.md').read_text()
    script, *_ = re.findall('```python\n(.*?)```', page, re.DOTALL)
    check = (
        '\nimport sys\n'
        "assert not {'stylegan_v_mm', 'mmengine', 'mmcv'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, '-c', script + check], cwd=tmp_path, check=True
    )
    with Image.open(tmp_path / 'video.webp') as video:
        frames = [x.convert('RGB') for x in ImageSequence.Iterator(video)]
    sampler = load_sampler(job.config, str(job.checkpoint))
    videos = sampler.sample_video(9, torch.arange(128), truncation_psi=0.8)
    theirs = torch.cat(list(videos)).permute(0, 2, 3, 1).numpy()
    ours = np.stack(frames)
    assert ours.shape == theirs.shape
    # Equal to 1e-4 before rounding to bytes.
    assert abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert (ours != theirs).mean() < 0.01


def test_motion_of_other_kinds():
    settings = dict(c_dim=3, fourier=False, cond_type='sum_w')
    part = export.Motion(Sampler(make(**SHORT, **settings)).motion_encoder)
    program = export.trace(part).module()
    for more in (0, 1, 3):
        inputs = part.draw(more).values()
        torch.testing.assert_close(
            program(*inputs), part(*inputs), atol=1e-4, rtol=0
        )


def test_half_precision_becomes_float32_of_images_too():
    settings = dict(motion_v_dim=0, coord_dim=2)
    half = make(**settings, num_fp16_res=2, half_dtype='bfloat16')
    program = export.trace(export.Synthesis(half)).module()
    wide = make(**settings)
    for n in (1, 4):
        ws = torch.randn(n, wide.num_ws, wide.w_dim)
        frames = wide.render(ws, None, 1)[:, 0]
        torch.testing.assert_close(program(ws), frames, atol=1e-4, rtol=0)
        assert (half.render(ws, None, 1)[:, 0] - frames).abs().max() > 1e-3


def test_files_compute_what_the_network_does(tmp_path):
    pytest.importorskip('onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    settings = dict(c_dim=3, cond_type='concat_w', use_noise=True)
    generator = make(**SHORT | dict(motion_v_dim=7), **settings)
    out = tmp_path / 'out'
    export_generator(Sampler(generator), out, ['torch', 'onnx'])
    compare(generator, out, '.pt2', far=0)
    compare(generator, out, '.onnx', far=1e7)
    files = json.loads((out / 'model.json').read_text())['files']
    for name, file in files.items():
        session = onnxruntime.InferenceSession(out / f'{name}.onnx')
        inputs = {}
        for each in session.get_inputs():
            axes = ', '.join(map(str, each.shape))
            inputs[each.name] = f'{DTYPES[each.type]} [{axes}]'
        assert inputs == file['inputs']
        assert [x.name for x in session.get_outputs()] == [file['output']]


def test_a_wrong_file_is_an_error_and_nothing_is_left(tmp_path, monkeypatch):
    load = export.load
    monkeypatch.setattr(
        export, 'load', lambda path: lambda *x: load(path)(*x) + 2e-4
    )
    with pytest.raises(
        InputError, match=r'mapping\.pt2 differs .* by 0\.0002'
    ):
        export_generator(Sampler(make(motion_v_dim=0)), tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_first(tmp_path, monkeypatch):
    lstm = make(**MOTION, motion_type='lstm')
    with pytest.raises(InputError, match='LSTM'):
        export_generator(Sampler(lstm), tmp_path / 'out')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'pip install .* onnxscript'):
        export_generator(Sampler(lstm), tmp_path / 'out', ['onnx'])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path, run_script):
    (tmp_path / 'kept').touch()
    ran = run_script(TOOL, 'no_such.py', 'no_such.pth', '--out', tmp_path)
    assert ran.returncode == 2
    assert ran.stderr == (
        f'error: {tmp_path} exists: remove it or choose another --out\n'
    )
