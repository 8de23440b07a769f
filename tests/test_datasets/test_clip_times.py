"""Which times make a clip: histograms and brute force."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from stylegan_v_mm.datasets.clip_times import (
    consecutive,
    min_video_len,
    random_span,
    uniform_gap,
)


def draw(rule, count=2000, **settings):
    rng = np.random.default_rng(0)
    return np.stack([rule(rng=rng, **settings) for _ in range(count)])


def assert_uniform_over(values, expected):
    counts = Counter(np.asarray(values).tolist())
    assert set(counts) == set(expected)
    assert chisquare([counts[e] for e in expected]).pvalue > 1e-4


@pytest.mark.parametrize(
    ('num_frames', 'spans'),
    [(2, [1, 2, 4, 8, 16, 32]), (3, [2, 4, 8, 16, 32]), (5, [4, 8, 16, 32])],
)
def test_spans_are_uniform_over_the_list(num_frames, spans):
    t = draw(random_span, video_len=100, num_frames=num_frames)
    assert t.dtype == np.int64
    assert t.shape == (2000, num_frames)
    assert_uniform_over(t[:, -1] - t[:, 0], spans)
    assert (np.diff(t) > 0).all()


def test_offset_and_inner_times_are_uniform():
    t = draw(
        random_span,
        4000,
        video_len=9,
        num_frames=4,
        total_dists=[5],
        max_dist=5,
    )
    assert_uniform_over(t[:, 0], [0, 1, 2, 3])
    inner = [tuple(row) for row in (t[:, 1:3] - t[:, :1]).tolist()]
    pairs = list(itertools.combinations(range(1, 5), 2))
    counts = Counter(inner)
    assert set(counts) == set(pairs)
    assert chisquare([counts[p] for p in pairs]).pvalue > 1e-4


def test_span_is_limited_by_video_and_max_dist():
    t = draw(random_span, video_len=9, num_frames=2, max_dist=100)
    assert set(t[:, 1] - t[:, 0]) == {1, 2, 4, 8}
    assert t.min() == 0
    assert t.max() == 8
    t = draw(random_span, video_len=100, num_frames=2, max_dist=4)
    assert set(t[:, 1] - t[:, 0]) == {1, 2, 4}


def test_fractional_clip_keeps_whole_distances_and_fills_the_slack():
    t = draw(random_span, video_len=37, num_frames=3, fractional=True)
    assert t.dtype == np.float64
    np.testing.assert_allclose(np.diff(t), np.round(np.diff(t)), atol=1e-9)
    span = t[:, -1] - t[:, 0]
    assert (t >= 0).all()
    assert (t <= 36).all()
    long = t[np.isclose(span, 32), 0] / 4
    assert abs(long.mean() - 0.5) < 0.05
    assert long.max() > 0.95
    assert (t[:, 0] % 1 != 0).mean() > 0.9


@pytest.mark.parametrize('rule', [random_span, uniform_gap, consecutive])
def test_one_frame_may_be_any(rule):
    t = draw(rule, video_len=5, num_frames=1)
    assert_uniform_over(t[:, 0], range(5))
    t = draw(rule, video_len=5, num_frames=1, fractional=True)
    assert t.dtype == np.float64
    assert 3.9 < t.max() < 4
    assert t.min() < 0.1


def test_uniform_gap_from_list():
    t = draw(
        uniform_gap,
        video_len=20,
        num_frames=4,
        gaps=[1, 2, 4, 6, 8],
        max_gap=6,
    )
    gaps = np.diff(t)
    assert (gaps == gaps[:, :1]).all()
    # 3 * 6 + 1 = 19 frames fit in 20, 3 * 8 + 1 do not.
    assert_uniform_over(gaps[:, 0], [1, 2, 4, 6])
    assert set(t[gaps[:, 0] == 6, 0]) == {0, 1}


def test_uniform_gap_of_any_size():
    t = draw(uniform_gap, video_len=20, num_frames=4)
    assert_uniform_over(t[:, 1] - t[:, 0], [1, 2, 3, 4, 5])
    t = draw(uniform_gap, video_len=20, num_frames=4, max_gap=2)
    assert_uniform_over(t[:, 1] - t[:, 0], [1, 2])
    t = draw(uniform_gap, video_len=20, num_frames=4, fractional=True)
    assert t.dtype == np.float64
    np.testing.assert_allclose(np.diff(t, n=2), 0, atol=1e-9)
    assert t.max() <= 19


def test_consecutive():
    np.testing.assert_array_equal(consecutive(7, 3, frame_stride=3), [0, 3, 6])
    t = draw(consecutive, video_len=9, num_frames=3, frame_stride=3)
    assert_uniform_over(t[:, 0], [0, 1, 2])
    assert (np.diff(t) == 3).all()


@pytest.mark.parametrize(
    ('rule', 'settings', 'text'),
    [
        (random_span, {'video_len': 2, 'num_frames': 3}, 'video of 2 frames'),
        (random_span, {'video_len': 9, 'num_frames': 0}, 'num_frames'),
        (random_span, {'video_len': 0, 'num_frames': 1}, 'video of 0 frames'),
        (uniform_gap, {'video_len': 3, 'num_frames': 4}, 'video of 3 frames'),
        (
            consecutive,
            {'video_len': 6, 'num_frames': 3, 'frame_stride': 3},
            'frame_stride=3',
        ),
        (consecutive, {'video_len': 0, 'num_frames': 1}, 'video of 0 frames'),
        (
            consecutive,
            {'video_len': 6, 'num_frames': 2, 'frame_stride': 0},
            'frame_stride must be positive',
        ),
    ],
)
def test_impossible_clips_raise(rule, settings, text):
    with pytest.raises(ValueError, match=text):
        rule(rng=np.random.default_rng(0), **settings)


@pytest.mark.parametrize(
    ('method', 'rule', 'settings'),
    [
        ('random', random_span, {'max_dist': 32}),
        ('random', random_span, {'max_dist': 12, 'total_dists': [3, 5, 12]}),
        ('uniform', uniform_gap, {}),
        ('uniform', uniform_gap, {'gaps': [3, 2, 9], 'max_gap': 8}),
        ('consecutive', consecutive, {'frame_stride': 3}),
    ],
)
@pytest.mark.parametrize('num_frames', [1, 2, 3, 4, 7])
def test_min_video_len_is_the_first_length_that_works(
    method, rule, settings, num_frames
):
    def works(video_len):
        try:
            rule(
                video_len, num_frames, rng=np.random.default_rng(0), **settings
            )
        except ValueError:
            return False
        return True

    brute_force = next(n for n in range(1, 100) if works(n))
    assert min_video_len(method, num_frames, **settings) == brute_force


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'method': 'random', 'num_frames': 0}, 'num_frames'),
        ({'method': 'random', 'num_frames': 34}, 'max_dist=32'),
        ({'method': 'uniform', 'num_frames': 4, 'max_gap': 0}, 'max_gap=0'),
        ({'method': 'uniform', 'num_frames': 4, 'gaps': [0]}, 'gaps'),
        (
            {'method': 'consecutive', 'num_frames': 2, 'frame_stride': 0},
            'frame_stride=0',
        ),
        ({'method': 'sparse', 'num_frames': 4}, "'sparse'"),
    ],
)
def test_settings_that_no_video_can_meet_raise(settings, text):
    with pytest.raises(ValueError, match=text):
        min_video_len(**settings)
