"""The nearest real frames, by brute force and as users look for them.

LPIPS has random weights, as the published ones are a download.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from real_process import ROOT
from torch import nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.detectors import lpips as lpips_module
from stylegan_v_mm.evaluation.nearest import nearest_frames, spread_frames

TOOL = ROOT / 'tools/analysis_tools/nearest_frames.py'
SIZE = 32


@pytest.fixture(scope='module')
def lpips():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = lpips_module.LPIPS('alex')
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        for head in network.heads:
            head.uniform_(0, 1)
    return network


def write_frames(folder, video):
    folder.mkdir(parents=True)
    for i, frame in enumerate(video):
        Image.fromarray(frame).save(folder / f'{i:03}.png')


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Real videos of coarse noise; two frames of "fake" come from them."""
    folder = tmp_path_factory.mktemp('videos')
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (4, 9, 8, 8, 3), np.uint8)
    real = real.repeat(4, 2).repeat(4, 3)
    for i, video in enumerate(real):
        write_frames(folder / f'real/{i}', video[: 6 + i])
    fake = np.stack([real[2, 7], real[1, 3], real[0, 0], real[3, 1]])
    fake[2:] = 255 - fake[2:]
    write_frames(folder / 'fake/a', fake[:2])
    write_frames(folder / 'fake/b', fake[2:])
    return folder, real, fake


def to_tensor(frames):
    return torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)


def test_the_nearest_frames_by_brute_force(lpips, videos):
    folder, real, fake = videos
    samples = to_tensor(fake)
    found = nearest_frames(samples, str(folder / 'real'), lpips, 3)
    for i, sample in enumerate(samples):
        best = []
        for number, video in enumerate(real):
            frames = to_tensor(video[: 6 + number])
            distances = lpips(
                sample.expand_as(frames) / 127.5 - 1, frames / 127.5 - 1
            )
            best.append((float(distances.min()), frames[distances.argmin()]))
        best = sorted(best, key=lambda pair: pair[0])[:3]
        np.testing.assert_allclose(
            found.distances[i], [d for d, _ in best], rtol=1e-4, atol=1e-4
        )
        for ours, (_, expected) in zip(found.frames[i], best):
            assert torch.equal(ours, expected)
    with pytest.raises(InputError, match='of 5 videos are wanted'):
        nearest_frames(samples, str(folder / 'real'), lpips, 5)


def test_frames_are_spread_over_all_videos(videos):
    folder, real, _ = videos
    frames = np.concatenate([v[: 6 + i] for i, v in enumerate(real)])
    for num, places in (
        (100, range(30)),
        (30, range(30)),
        (3, (5, 15, 25)),
        (1, (15,)),
    ):
        expected = to_tensor(frames[list(places)])
        got = spread_frames(str(folder / 'real'), num, SIZE)
        assert torch.equal(got, expected)


def test_the_table_and_the_picture(
    lpips, videos, run_script, tmp_path, monkeypatch
):
    folder, _, fake = videos
    monkeypatch.setattr(lpips_module, 'load_lpips', lambda network: lpips)
    out = tmp_path / 'nearest.png'
    result = run_script(
        TOOL, folder / 'real', folder / 'fake', folder / 'real/1',
        '--resolution=32', '--out', out, '--num-frames=4',
    )  # fmt: skip
    assert result.returncode == 2
    assert 'real/1: ' in result.stderr
    result = run_script(
        TOOL, folder / 'real', folder / 'fake', folder / 'real',
        '--resolution=32', '--out', out, '--num-frames=4',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ['frames', 'smallest', 'median', 'largest']
    assert rows[1][:3] == [str(folder / 'fake'), '4', '0.000']
    assert float(rows[1][4]) > 0.1
    assert rows[2] == [str(folder / 'real'), '4', *['0.000'] * 3]
    image = np.array(Image.open(out))
    step = SIZE + 2
    assert image.shape == (4 * step - 2, 4 * step - 2, 3)
    cells = [
        [image[y : y + SIZE, x : x + SIZE] for y in range(0, 4 * step, step)]
        for x in range(0, 4 * step, step)
    ]
    for sample, (top, *below) in zip(fake, cells):
        assert np.array_equal(top, sample)
        assert len({b.tobytes() for b in below}) == 3
    for sample, (_, nearest, *_) in zip(fake[:2], cells):
        assert np.array_equal(nearest, sample)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--out=a.jpg'], 'must end in .png'),
        (['--resolution=16'], 'at least 32'),
        ([], 'python tools/get_detectors.py lpips'),
    ],
)
def test_mistakes_are_named(
    videos, run_script, cache_home, monkeypatch, options, words
):
    folder, *_ = videos
    monkeypatch.chdir(cache_home)
    result = run_script(TOOL, folder / 'real', folder / 'fake', *options)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr
