"""The comparison of I3D's speed: fair turns, right distances."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_v_mm.evaluation.detectors.i3d import InceptionI3D
from stylegan_v_mm.video.encoding import write_video

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/detector_speed.py'


@pytest.fixture
def videos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = rng.integers(0, 256, (8, 3, 4, 4), np.uint8)
        frames = coarse.repeat(2, 0).repeat(8, 2).repeat(8, 3)
        write_video(tmp_path / f'videos/{i}.mp4', frames, 25)
    return tmp_path / 'videos'


def test_all_see_the_same_clips_and_the_first_ones_twice():
    take_turns = runpy.run_path(str(TOOL))['take_turns']
    clips, seen = torch.arange(6.0)[:, None], []

    def detector(name, factor):
        def detect(part):
            seen.append((name, part.flatten().tolist()))
            return factor * part

        return detect

    detectors = {'a': detector('a', 1), 'b': detector('b', 3)}
    features, seconds = take_turns(detectors, list(clips.split(4)))
    warm, first, last = [0.0, 1, 2, 3], [0.0, 1, 2, 3], [4.0, 5]
    assert seen == [(n, part) for part in (warm, first, last) for n in 'ab']
    assert torch.equal(features['a'], clips)
    assert torch.equal(features['b'], 3 * clips)
    assert all(len(times) == 2 for times in seconds.values())


@pytest.mark.slow
def test_ours_gives_the_distance_of_cd_fvd(videos, tmp_path, run_script):
    pytest.importorskip('cdfvd', reason='compares with the package cd-fvd')
    torch.manual_seed(0)
    torch.save(InceptionI3D().state_dict(), tmp_path / 'i3d.pt')
    result = run_script(
        TOOL, videos, '--weights', tmp_path / 'i3d.pt', '--resolution', 32
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    baseline, ours, rounded = result.stdout.splitlines()[-3:]
    assert baseline.split()[::5] == ['cd-fvd', '0.0e+00']
    assert ours.split()[:2] == ['ours,', 'float32']
    assert float(ours.split()[-1]) < 1e-4
    assert rounded.split()[:2] == ['ours,', 'bfloat16']
    # It may be near by chance, but rounds.
    assert float(rounded.split()[-1]) > 1e-6


def test_mistakes_are_named(videos, tmp_path, run_script):
    for options, words in (
        ((videos, '--threads=0'), "'0' must be a whole number from 1"),
        ((videos, '--weights', tmp_path / 'no.pt'), 'no.pt'),
        ((videos,), 'tools/get_detectors.py i3d'),
    ):
        result = run_script(TOOL, *options)
        assert result.returncode == 2
        assert words in result.stderr.splitlines()[-1]
