"""How clips move: closed forms, brute force, scipy, several batches."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from mmengine.evaluator import Evaluator

from stylegan_v_mm.datasets import ResizeCrop, VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import MotionReport
from stylegan_v_mm.evaluation.motion_report import (
    clip_motion,
    frame_difference,
    gram_matrix,
    is_frozen,
    lags,
    loop_period,
    power_spectrum,
    squared_differences,
)
from stylegan_v_mm.video.encoding import write_video

REAL = Path(os.environ.get('STYLEGAN_V_VIDEOS', '/nowhere'))


def rising(step, num_frames=24):
    """Every frame is brighter than the last one by ``step`` grey levels."""
    levels = 10 + step * np.arange(num_frames)
    video = np.broadcast_to(levels[:, None, None, None], (num_frames, 3, 8, 8))
    return torch.from_numpy(video.astype(np.uint8))


def grating(period, num_frames=32, amplitude=100):
    """A sine over 64 columns that moves by one of its waves in a period."""
    t, x = np.arange(num_frames)[:, None], np.arange(64)
    wave = np.sin(2 * np.pi * (4 * x / 64 - t / period))
    video = np.rint(127.5 + amplitude * wave)[:, None, None]
    video = np.broadcast_to(video, (num_frames, 3, 4, 64))
    return torch.from_numpy(video.astype(np.uint8))


def random_clip(num_frames=11, size=(4, 5), seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (num_frames, 3, *size), np.uint8)
    return torch.from_numpy(video)


# Single statistics


def test_differences_by_brute_force():
    video = random_clip(7)
    frames = video.numpy().astype(int)
    pairs = [frames[i + 3] - frames[i] for i in range(4)]
    assert frame_difference(video, 3) == pytest.approx(np.abs(pairs).mean())
    squares = squared_differences(gram_matrix(video), 3)
    expected = [np.square(pair).mean() for pair in pairs]
    np.testing.assert_allclose(squares, expected, rtol=1e-12)
    assert frame_difference(rising(2), 8) == 16
    assert frame_difference(rising(0), 8) == 0


def test_lags():
    assert [lags(n) for n in (8, 15, 16, 31, 128)] == [
        [1, 2, 4],
        [1, 2, 4],
        [1, 2, 4, 8],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 16, 32, 64],
    ]


@pytest.mark.parametrize('num_frames', [8, 11, 32])
def test_the_spectrum_is_that_of_scipy(num_frames):
    video = random_clip(num_frames)
    _, power = scipy.signal.periodogram(
        video.double().numpy(), window='hann', axis=0
    )
    expected = power.mean((1, 2, 3))
    ours = power_spectrum(gram_matrix(video))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)
    # In decibels, over what rounding adds; without frequency 0.
    np.testing.assert_allclose(
        clip_motion(video).spectrum,
        10 * np.log10(expected[1:] + 1 / 6),
        rtol=1e-9,
    )


@pytest.mark.parametrize('period', [4, 8, 16])
def test_a_grating_that_moves(period):
    """|sin a - sin b| averages 4 / pi |sin| of half of their distance."""
    motion = clip_motion(grating(period))
    lag = np.array([1, 2, 4, 8, 16])
    shift = np.abs(np.sin(np.pi * lag / period))
    np.testing.assert_allclose(
        motion.differences, 400 / np.pi * shift, rtol=0.03, atol=0.5
    )
    assert motion.spectrum.argmax() + 1 == 32 // period
    # A window of Hann has a third of its power in the two bins beside.
    assert motion.frequency == pytest.approx(1 / period, rel=0.01)
    power = 10 ** (motion.spectrum / 10)
    assert power.sum() / 32 == pytest.approx(100**2 / 2, rel=0.01)
    assert loop_period(gram_matrix(grating(period))) == period
    assert motion.loops
    assert not motion.frozen


def test_a_still():
    motion = clip_motion(random_clip(1).expand(16, -1, -1, -1))
    assert motion.differences.tolist() == [0] * 4
    assert motion.spectrum.tolist() == pytest.approx(
        [10 * np.log10(1 / 6)] * 8
    )
    assert (motion.frequency, motion.frozen, motion.loops) == (0, 1, 0)


def test_white_noise_has_power_at_all_frequencies():
    motion = clip_motion(random_clip(16, (32, 32)))
    # Of all 256 levels: their variance, one-sided, but for frequency 1 / 2.
    variance = (256**2 - 1) / 12
    expected = 10 * np.log10(2 * variance)
    np.testing.assert_allclose(motion.spectrum[1:-1], expected, atol=0.3)
    assert motion.differences == pytest.approx([256 / 3] * 4, rel=0.02)
    assert (motion.frozen, motion.loops) == (0, 0)


# Frozen


@pytest.mark.parametrize(('levels', 'frozen'), [(0.45, True), (0.55, False)])
def test_where_frozen_ends(levels, frozen):
    """Root mean square differences just below and above half a level."""
    # Neighbours differ in this share of the pixels, by two.
    share = levels**2 / 4
    still = torch.full((16, 3, 32, 32), 100, dtype=torch.uint8)
    still[::2].flatten(1)[:, : round(share * 3072)] += 2
    assert is_frozen(gram_matrix(still)) is frozen


def test_a_twitch_and_a_start_do_not_count():
    still = random_clip(1).repeat(16, 1, 1, 1)
    still[7] = 0
    still[:2] = 255
    assert is_frozen(gram_matrix(still))


def test_loops_are_not_frozen():
    """Some frames away is the same picture."""
    for period in (2, 4, 8):
        assert not is_frozen(gram_matrix(grating(period, 16)))


@pytest.mark.parametrize('crf', [18, 23])
def test_an_encoded_still_is_frozen(tmp_path, crf):
    # Soft edges and slopes, as photographs have.
    rng = np.random.default_rng(0)
    image = np.kron(rng.uniform(40, 200, (3, 8, 8)), np.ones((1, 32, 32)))
    image = scipy.ndimage.gaussian_filter(image, (0, 2, 2))
    image += 30 * np.sin(np.linspace(0, 9, 256))
    frames = np.repeat(image[None].astype(np.uint8), 32, 0)
    write_video(tmp_path / 'a.mp4', frames, 25, crf=crf)
    # Once more seen small, and beside something that moves a little.
    for resolution in (256, 64):
        metric = report(tmp_path, resolution=resolution)
        assert measure(Evaluator([metric]), [rising(1)])['Frozen-real'] == 1
    for i in range(32):
        frames[i, :, 100:120, 50 + 2 * i :][..., :20] = 255
    write_video(tmp_path / 'a.mp4', frames, 25, crf=crf)
    metric = report(tmp_path, resolution=256)
    assert measure(Evaluator([metric]), [rising(1)])['Frozen-real'] == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(), reason='STYLEGAN_V_VIDEOS names no folder of videos'
)
def test_encoded_stills_of_real_videos_are_frozen(tmp_path):
    resize = ResizeCrop(256)
    for source in VideoDataset(REAL, min_num_frames=16).sources:
        for place in range(0, len(source), 100):
            still = resize({'frames': source.read([place] * 32)})['frames']
            path = tmp_path / f'{source.name}_{place}.mp4'
            write_video(path, still.transpose(0, 3, 1, 2), 25, crf=23)
    metric = report(tmp_path, resolution=256, num_real=100)
    # Some settle in large steps.
    assert measure(Evaluator([metric]), [rising(1)])['Frozen-real'] > 0.9


# Loops


def test_a_repeated_clip():
    once = random_clip(6)
    # Noise on top, as a generator or a codec adds it.
    video = once.repeat(4, 1, 1, 1)[:20].int()
    video = (video + random_clip(20, seed=1).int() // 20).clamp(0, 255).byte()
    assert loop_period(gram_matrix(video)) == 6
    # Shuffled, slowly moving or played back, it is none.
    order = np.random.default_rng(0).permutation(20)
    assert loop_period(gram_matrix(random_clip(20)[order])) is None
    assert loop_period(gram_matrix(grating(64))) is None
    assert loop_period(gram_matrix(rising(3))) is None
    assert loop_period(gram_matrix(torch.cat([once, once.flip(0)]))) is None


def test_the_longest_period_is_half_a_clip():
    video = random_clip(12)
    for period, found in ((10, 10), (11, None)):
        twice = video[:period].repeat(2, 1, 1, 1)[:20]
        assert loop_period(gram_matrix(twice)) == found


# The metric


def report(folder, **changes):
    settings = dict(
        num_frames=16,
        num_real=10,
        resolution=8,
        real_data=dict(data_root=str(folder)),
    )
    return MotionReport(**(settings | changes))


@pytest.fixture
def metric(tmp_path):
    # Brighter by 1, 2 and 3 a frame; one that is too short to count.
    for step in (1, 2, 3):
        write_video(tmp_path / f'{step}.mp4', rising(step), 25, crf=1)
    write_video(tmp_path / 'short.mp4', rising(9, 6), 25)
    return partial(report, tmp_path)


def measure(evaluator, clips, size=4):
    for i in range(0, len(clips), size):
        evaluator.process([dict(video=clip) for clip in clips[i : i + size]])
    return evaluator.evaluate(len(clips))


@pytest.mark.parametrize('batch_size', [1, 2, 4])
def test_means_of_generated_and_real_clips(metric, batch_size):
    evaluator = Evaluator([metric()])
    for _ in range(2):  # nothing is left over from an earlier evaluation
        clips = [rising(step, 20) for step in (0, 1, 1, 4)]
        values = measure(evaluator, clips, batch_size)
        for lag in (1, 2, 4, 8):
            # Encoding rounds colours by up to a level or two.
            name = f'FrameDiff{lag}'
            assert values[name] == pytest.approx(lag * 1.5)
            assert values[f'{name}-real'] == pytest.approx(lag * 2, abs=0.5)
        assert values['Frozen'] == 0.25
        assert values['Loops'] == values['Frozen-real'] == 0
    assert list(values)[:2] == ['FrameDiff1', 'FrameDiff1-real']
    assert len(values) == 15


def test_the_order_does_not_matter(metric):
    clips = [random_clip(16, seed=seed) for seed in range(7)]
    one = measure(Evaluator([metric()]), clips, 3)
    other = measure(Evaluator([metric()]), clips[::-1], 4)
    assert one == pytest.approx(other, rel=1e-9)


def test_the_distance_of_spectra(metric):
    """Ten times the amplitude is 20 decibels, where rounding is little."""
    truth = metric(resolution=64)

    def distance(a, b):
        truth._real = truth._row(a)
        return measure(Evaluator([truth]), [b])['SpectrumDist']

    noise = random_clip(16, (64, 64)).int() - 128
    loud = (noise * 0.9).round().add(128).byte()
    soft = (noise * 0.09).round().add(128).byte()
    assert distance(loud, soft) == pytest.approx(20, abs=0.1)
    assert distance(loud, loud) == 0
    # Which way time runs, no spectrum tells; Hann's window of even length is
    # not quite symmetric.
    assert distance(loud, loud.flip(0)) < 0.05


def test_clips_after_the_first_ones_may_be_shorter(metric):
    evaluator = Evaluator([metric(num_fake=2)])
    clips = [dict(video=rising(1, n)) for n in (16, 3, 16, 3)]
    batch = dict(index=torch.tensor([1, 2, 0, 3]))
    evaluator.process(clips, batch)
    assert evaluator.evaluate(4)['FrameDiff4'] == 4


def test_bad_values(metric):
    evaluator = Evaluator([metric()])
    with pytest.raises(InputError, match=r'dataset\.num_frames=16'):
        evaluator.process([dict(video=rising(1, 12))])
    with pytest.raises(InputError, match=r'num_frames=7 must be at least 8'):
        metric(num_frames=7)
