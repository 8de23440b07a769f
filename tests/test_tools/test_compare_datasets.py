"""tools/analysis_tools/compare_datasets.py on real files."""

import hashlib
import json
import re
import zipfile
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from real_process import ROOT, run_tool
from scipy.linalg import sqrtm
from torch import Tensor, nn

from stylegan_v_mm.evaluation import InceptionTorchScript, RandomI3D
from stylegan_v_mm.version import __version__
from stylegan_v_mm.video.encoding import write_video

TOOL = ROOT / 'tools/analysis_tools/compare_datasets.py'
NUM_FRAMES, SIZE = 20, 32


def draw(seed, speed):
    """A pattern that moves sideways, [T, 3, H, W], uint8.

    Grey, as decoders differ in how they make colours.
    """
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (4, 4, 1), np.uint8).repeat(3, axis=2)
    picture = cv2.resize(noise, (SIZE, SIZE))
    frames = [np.roll(picture, speed * i, axis=1) for i in range(NUM_FRAMES)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def decode(path):
    """Frames by OpenCV, [T, 3, H, W], uint8, RGB."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read())[0]:
        frames.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def write_zip(path, videos):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, video in videos.items():
            for t, frame in enumerate(video.permute(0, 2, 3, 1).numpy()):
                bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
                blob = cv2.imencode('.png', bgr)[1].tobytes()
                archive.writestr(f'{name}/{t:03d}.png', blob)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder of mp4 of just 16 frames; zips of others and of the same."""
    folder = tmp_path_factory.mktemp('data')
    for i in range(6):
        write_video(folder / f'real/{i}.mp4', draw(i, 1)[:16], 25)
    real = {path.stem: decode(path) for path in folder.glob('real/*')}
    write_zip(folder / 'same.zip', real)
    write_zip(
        folder / 'other.zip', {str(i): draw(100 + i, 3) for i in range(11)}
    )
    return folder


def frechet(a, b):
    a, b = (x.double().numpy() for x in (a, b))
    cov_a, cov_b = (np.cov(x.T, bias=True) for x in (a, b))
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real
    )


def test_a_folder_of_mp4_against_a_zip_of_frames(data, tmp_path):
    out = tmp_path / 'results.jsonl'
    result = run_tool(
        TOOL, data / 'real', data / 'other.zip', '--metrics', 'fvd16',
        '--resolution', SIZE, '--detector', 'random', '--out', out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (line,) = map(json.loads, out.read_text().splitlines())

    # Of other clips than the first 16 frames the distance is another one.
    detector = RandomI3D()
    real = torch.stack([decode(p) for p in sorted(data.glob('real/*'))])
    fake = torch.stack([draw(100 + i, 3) for i in range(11)])
    expected, late = (
        frechet(
            detector.features(real), detector.features(fake[:, s : s + 16])
        )
        for s in (0, 4)
    )
    assert line['value'] == pytest.approx(expected, rel=1e-3)
    assert line['value'] != pytest.approx(late, rel=1e-2)

    assert line['metric'] == 'FVD-random'
    assert (line['num_real'], line['num_fake']) == (6, 11)
    assert Path(line['real']) == data / 'real'
    assert Path(line['fake']) == data / 'other.zip'
    assert line['resolution'] == SIZE
    assert line['detector'] == 'RandomI3D'
    assert line['checksum'] == detector.digest
    assert line['precision'] == 'float32'
    assert (line['num_frames'], line['frame_stride']) == (16, 1)
    assert line['version'] == __version__
    datetime.fromisoformat(line['date'])
    row = result.stdout.splitlines()[-1].split()
    numbers = (line['value'], line['standard_error'])
    texts = [f'{number:.4f}' for number in numbers]
    assert row == ['FVD-random', *texts, '6', '11']


def values(result, out):
    assert result.returncode == 0, result.stderr
    return [json.loads(line)['value'] for line in out.read_text().splitlines()]


def test_equal_frames_in_other_files_are_at_distance_0(
    data, tmp_path, run_script
):
    out = tmp_path / 'results.jsonl'
    for fake in ('same.zip', 'other.zip'):
        result = run_script(
            TOOL, data / 'real', data / fake, '--resolution', SIZE,
            '--detector', 'random', '--out', out,
        )  # fmt: skip
    same, other = values(result, out)
    assert same < 1e-3 * other


def test_the_first_clips_in_order_count(data, tmp_path, run_script):
    out = tmp_path / 'results.jsonl'
    write_zip(
        tmp_path / 'more.zip',
        {str(i): draw(i + 100 * (i < 4), 3) for i in range(9)},
    )
    write_zip(
        tmp_path / 'four.zip', {str(i): draw(i + 100, 3) for i in range(4)}
    )
    for fake in ('more.zip', 'four.zip'):
        result = run_script(
            TOOL, data / 'real', tmp_path / fake, '--num-clips', 4,
            '--resolution', SIZE, '--detector', 'random', '--out', out,
        )  # fmt: skip
    more, four = values(result, out)
    assert more == pytest.approx(four, rel=1e-6)


def test_disjoint_clips_are_those_of_short_videos(data, tmp_path, run_script):
    """Long videos are compared as the clips that they consist of."""
    out = tmp_path / 'results.jsonl'
    long = {str(i): torch.cat([draw(i, 1), draw(i, 3)]) for i in range(5)}
    parts = {
        f'{name}{start}': video[start : start + 16]
        for name, video in long.items()
        for start in (0, 16)
    }
    write_zip(tmp_path / 'long.zip', long)
    write_zip(tmp_path / 'parts.zip', parts)
    other = data / 'real'
    for name, option in (('long', ['--disjoint']), ('parts', [])):
        for sides in ((f'{name}.zip', other), (other, f'{name}.zip')):
            result = run_script(
                TOOL, *(tmp_path / side for side in sides), *option,
                '--resolution', SIZE, '--detector', 'random', '--out', out,
            )  # fmt: skip
            numbers = sorted(map(int, result.stdout.split()[-2:]))
            assert numbers == [6, 10]
    real, fake, *expected = values(result, out)
    assert [real, fake] == pytest.approx(expected, rel=1e-4)


class SmallInception(nn.Module):
    """Called as the published file is; features of mean colours."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]) / 64)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        features = img.float().mean([2, 3]) * self.weights
        return features if return_features else features.softmax(1)


class SmallC3D(nn.Module):
    """Called as the published file is: clips to 101 probabilities."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(0, 0.1, 101))

    def forward(self, x: Tensor) -> Tensor:
        brightness = x.float().mean([1, 2, 3, 4])
        return (brightness[:, None] * self.weights).softmax(1)


def test_all_metrics_in_one_go(data, tmp_path, run_script, monkeypatch):
    # The root of a matrix of 2048 x 2048 takes a while.
    monkeypatch.setattr(InceptionTorchScript, 'num_features', 3)
    networks = {'inception': SmallInception(), 'c3d': SmallC3D()}
    for name, network in networks.items():
        torch.jit.script(network).save(str(tmp_path / f'{name}.pt'))
    out = tmp_path / 'results.jsonl'
    result = run_script(
        TOOL, data / 'real', data / 'other.zip', '--resolution', SIZE,
        '--metrics', 'fvd16', 'kvd16', 'pr16', 'fid', 'kid', 'is', 'isv16',
        'motion', '--detector', 'random',
        '--inception', tmp_path / 'inception.pt',
        '--c3d', tmp_path / 'c3d.pt', '--out', out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = map(json.loads, out.read_text().splitlines())
    lines = {line['metric']: line for line in lines}
    assert {
        'FVD-random', 'KVD-random', 'Precision-random', 'Coverage-random',
        'FID', 'KID', 'IS', 'ISv16', 'FrameDiff8', 'FrameDiff8-real',
    } <= lines.keys()  # fmt: skip
    assert all(np.isfinite(line['value']) for line in lines.values())
    for name, line in lines.items():
        numbers = [line['num_real'], line['num_fake']]
        assert numbers == {
            'FID': [6 * 16, 11 * 16],
            'KID': [6 * 16, 11 * 16],
            'IS': [0, 11 * 16],
            'IS-std': [0, 11 * 16],
            'ISv16': [0, 11],
            'ISv16-std': [0, 11],
        }.get(name, [6, 11])

    # Colours of single frames, by hand.
    weights = torch.tensor([1, 2, 4]) / 64
    real, fake = (
        torch.cat([video[:16] for video in videos]).float().mean([2, 3])
        for videos in (
            [decode(path) for path in data.glob('real/*')],
            [draw(100 + i, 3) for i in range(11)],
        )
    )
    expected = frechet(real * weights, fake * weights)
    assert lines['FID']['value'] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--detector', 'none.pt'], 'none.pt.*docs/metrics.md'),
        (['--detector', 'i3d'], 'python tools/get_detectors.py i3d'),
        (['--metrics', 'fd-vgg16'], 'python tools/get_detectors.py lpips'),
        (['--metrics', 'fvd128'], 'shorter than 128 frames'),
        (['--out', 'nowhere/results.jsonl'], 'there is no folder nowhere'),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(
    data, run_script, change, message
):
    result = run_script(
        TOOL, data / 'real', data / 'other.zip', '--resolution', SIZE,
        '--detector', 'random', *change,
    )  # fmt: skip
    assert result.returncode == 2
    (line,) = [
        line for line in result.stderr.splitlines() if line.startswith('error')
    ]
    assert re.search(message, line)
    assert 'clip/s' not in result.stderr


def test_the_real_detector_is_the_usual_one(data, run_script):
    result = run_script(
        TOOL, data / 'real', data / 'other.zip', '--resolution', SIZE
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert 'python tools/get_detectors.py i3d' in line


def test_plain_weights_of_inception_are_told_from_torchscript(
    data, run_script, tmp_path
):
    path = tmp_path / 'inception-12345678.pth'
    torch.save(nn.Linear(1, 1).state_dict(), path)
    result = run_script(
        TOOL, data / 'real', data / 'other.zip', '--resolution', SIZE,
        '--metrics', 'fid', '--inception', path,
    )  # fmt: skip
    assert result.returncode == 2
    assert 'digits that end its name' in result.stderr
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(tmp_path / f'inception-{digest[:8]}.pth')
    result = run_script(
        TOOL, data / 'real', data / 'other.zip', '--resolution', SIZE,
        '--metrics', 'fid', '--inception', path,
    )  # fmt: skip
    assert result.returncode == 2
    assert 'no weights of Inception-v3 with 1008 classes' in result.stderr


def test_fake_videos_that_cannot_be_read_are_named(data, run_script, tmp_path):
    result = run_script(
        TOOL, data / 'real', tmp_path / 'nowhere', '--resolution', SIZE,
        '--detector', 'random',
    )  # fmt: skip
    assert result.returncode == 2
    assert f'{tmp_path}/nowhere' in result.stderr
