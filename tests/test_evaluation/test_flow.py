"""Features of motion: known motions, brute force, machines."""

import cv2
import numpy as np
import pytest
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import FlowDistance, FlowHistograms
from stylegan_v_mm.evaluation.flow import (
    accelerations,
    histogram,
    lightness,
    velocities,
)
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.video.encoding import write_video


def texture(size, seed=0):
    """Smooth colours, [size, size, 3], float32."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (size // 8, size // 8, 3))
    return cv2.resize(
        coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    ).clip(0, 255)


def moving(size, offsets, seed=0):
    """A texture that has moved by so many pixels, (x, y), in each frame."""
    picture = texture(2 * size, seed)
    frames = []
    for x, y in offsets:
        shift = np.float32([[1, 0, x - size / 2], [0, 1, y - size / 2]])
        frames.append(cv2.warpAffine(picture, shift, (size, size)))
    return np.rint(frames).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('size', [64, 128, 256])
def test_velocities_are_those_of_a_picture_that_moves(size):
    steps = np.array([[0, 0], [3, 0], [3, -2], [3.5, -2]]) * size / 128
    found = velocities(moving(size, steps).max(-1))
    assert found.shape == (3, 128, 128, 2)
    inner = found[:, 16:-16, 16:-16]
    for each, expected in zip(inner, [[3, 0], [0, -2], [0.5, 0]]):
        np.testing.assert_allclose(
            np.median(each, (0, 1)), expected, atol=0.15
        )


def test_accelerations_follow_what_moves():
    """Of a steady field v = s x, that of a point is v(x + v) - v = s^2 x."""
    y, x = np.mgrid[:32, :32].astype(np.float32)
    field = np.stack([0.1 * x, 0.05 * y], -1)
    uniform = np.full_like(field, 2)
    found = accelerations(np.stack([field, field, uniform]))
    assert found.shape == (2, 32, 32, 2)
    steady, sudden = found[:, :20, :20]
    np.testing.assert_allclose(steady[..., 0], 0.01 * x[:20, :20], atol=0.01)
    np.testing.assert_allclose(steady[..., 1], 0.0025 * y[:20, :20], atol=0.01)
    np.testing.assert_allclose(sudden, (uniform - field)[:20, :20], atol=1e-6)


def test_lightness_does_not_change_with_the_hue():
    """By OpenCV, of which it is half of a colour's HLS, 0 to 255."""
    rgb = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    hls = cv2.cvtColor(rgb, cv2.COLOR_RGB2HLS)
    found = lightness(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0].numpy()
    assert found.dtype == np.uint8
    assert abs(found.astype(int) - hls[..., 1]).max() <= 1
    for turn in (30, 90, 140):
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL).astype(int)
        hsv[..., 0] = (hsv[..., 0] + turn) % 256
        other = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
        assert abs(other.astype(int) - rgb).mean() > 20
        other = lightness(torch.from_numpy(other).permute(2, 0, 1))
        assert abs(other.numpy().astype(int) - found).max() <= 1


def test_histograms_equal_brute_force():
    vectors = np.random.default_rng(0).normal(0, 3, (2, 8, 12, 2))
    expected = np.zeros((4, 4, 8))
    for t, row, column in np.ndindex(2, 8, 12):
        x, y = vectors[t, row, column]
        # Directions are centred on right, right and down, down...
        turn = round(np.degrees(np.arctan2(y, x)) / 45) % 8
        cell = row // 2, column // 3
        expected[(*cell, turn)] += np.log2(1 + (x * x + y * y) ** 0.5) / 12
    found = histogram(vectors.astype(np.float32)).reshape(4, 4, 8)
    # From left on: half a turn away.
    np.testing.assert_allclose(found, np.roll(expected, 4, 2), rtol=1e-5)
    assert (expected > 0).mean() > 0.7


def clips(num=2, num_frames=5, size=48):
    return torch.from_numpy(
        np.stack(
            [
                moving(size, [(i * t, t) for t in range(num_frames)], i)
                for i in range(num)
            ]
        ).transpose(0, 1, 4, 2, 3)
    )


def test_features_are_histograms_of_velocity_and_acceleration():
    detector = MODELS.build(dict(type='FlowHistograms'))
    video = clips()
    found = detector.features(video)
    assert found.shape == (2, detector.num_features)
    assert found.dtype == torch.float32
    assert not detector.is_random
    for clip, row in zip(video, found):
        v = velocities(lightness(clip).numpy())
        a = accelerations(v)
        expected = [histogram(each[:, 2::4, 2::4]) for each in (v, a)]
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-5)
    assert cv2.__version__ in detector.digest


def test_what_stands_still_has_no_motion_whatever_it_shows():
    still = clips()[:, :1].expand(-1, 4, -1, -1, -1)
    assert not FlowHistograms().features(still).any()


def test_features_do_not_depend_on_threads_or_batches(monkeypatch):
    video, before, used = clips(3, 4, 200), cv2.getNumThreads(), set()
    search = cv2.DISOpticalFlow

    class Watched:
        @classmethod
        def create(cls, preset):
            watched = cls()
            watched.search = search.create(preset)
            return watched

        def calc(self, *args):
            used.add(cv2.getNumThreads())
            return self.search.calc(*args)

    monkeypatch.setattr(cv2, 'DISOpticalFlow', Watched)
    found = []
    try:
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(FlowHistograms().features(video))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert torch.equal(*found)
    # OpenCV cuts frames into a stripe for each thread.
    assert used == {1}
    alone = [FlowHistograms().features(clip[None]) for clip in video]
    assert torch.equal(torch.cat(alone), found[0])


def test_clips_must_be_bytes_of_three_frames_or_more():
    detector = FlowHistograms()
    with pytest.raises(InputError, match='at least 3 frames, got 2'):
        detector.features(clips(num_frames=2))
    with pytest.raises(InputError, match='uint8'):
        detector.features(clips().float())


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Textures that move to the right, each at a speed of its own."""
    root = tmp_path_factory.mktemp('videos')
    for i in range(12):
        frames = moving(48, [((2 + i % 4) * t, 0) for t in range(9)], i)
        write_video(root / f'{i}.mp4', frames.transpose(0, 3, 1, 2), 25, crf=1)
    return root


def test_the_distance_sees_motion_and_no_colours(videos):
    def measure(speed, seed=100, tint=1.0):
        metric = FlowDistance(
            num_frames=9,
            num_real=50,
            resolution=48,
            real_data=dict(data_root=str(videos)),
        )
        assert metric.result_names == ['FlowDist9', 'FlowDist9-se']
        for i in range(12):
            offsets = [((2 + i % 4) * speed * t, 0) for t in range(9)]
            frames = moving(48, offsets, seed + i) * [tint, 1, 1]
            frames = torch.from_numpy(frames.astype(np.uint8))
            sample = dict(video=frames.permute(0, 3, 1, 2))
            metric.process({'index': torch.tensor([i])}, [sample])
        return metric.evaluate(12)

    other, red = measure(1), measure(1, tint=0.7)
    backwards, fast, still = measure(-1), measure(2), measure(0)
    error = other['FlowDist9-se']
    for worse in (backwards, fast, still):
        assert worse['FlowDist9'] > other['FlowDist9'] + 3 * error
    assert abs(red['FlowDist9'] - other['FlowDist9']) < 3 * error
