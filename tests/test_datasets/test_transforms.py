"""Each transform against brute force or a resize written out by hand."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare

from stylegan_v_mm.datasets.transforms import (
    FlipClip,
    LoadClip,
    PackClip,
    ResizeCrop,
    SampleClip,
)
from stylegan_v_mm.errors import InputError


class NumberedFrames:
    """A video whose frame i is filled with i."""

    name = 'numbers'

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def read(self, frame_inds):
        numbers = np.asarray(frame_inds, np.uint8)[:, None, None, None]
        return np.broadcast_to(numbers, (len(numbers), 4, 6, 3))


def sample(transform, count=2000, length=40, video_len=None, **results):
    """Draw many clips, as arrays of each added key."""
    rng = np.random.default_rng(0)
    drawn = [
        transform(
            {
                'source': NumberedFrames(length),
                'video_len': video_len or length,
                'rng': rng,
                **results,
            }
        )
        for _ in range(count)
    ]
    keys = {'frame_inds', 't', 'gen_t', 'gen_c'} & set(drawn[0])
    return {key: np.stack([d[key] for d in drawn]) for key in keys}


def assert_uniform_over(values, expected):
    counts = Counter(values)
    assert set(counts) == set(expected)
    assert chisquare([counts[e] for e in expected]).pvalue > 1e-4


def random_photo(height, width, seed=0):
    """Smooth colours with some noise, uint8."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(20, 235, (1, 3, 6, 6)))
    image = F.interpolate(coarse, (height, width), mode='bilinear')
    image = image[0].permute(1, 2, 0).numpy()
    noise = rng.normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


# SampleClip


def test_short_video_gives_every_sparse_clip_equally_often():
    # Span 2 or 4, any offset, then any frame in between, by brute force:
    # within a span, all (offset, inner) pairs are equally likely.
    clips = {
        span: [
            (start, start + inner, start + span)
            for start, inner in itertools.product(
                range(6 - span), range(1, span)
            )
        ]
        for span in (2, 4)
    }
    t = sample(SampleClip(3), count=4000, length=6)['t']
    assert t.dtype == np.float64
    drawn = [tuple(row) for row in t.astype(int).tolist()]
    assert_uniform_over([row[-1] - row[0] for row in drawn], [2, 4])
    for span in (2, 4):
        rows = [row for row in drawn if row[-1] - row[0] == span]
        assert_uniform_over(rows, clips[span])


def test_settings_reach_the_rule():
    t = sample(SampleClip(2, max_dist=5, total_dists=[3, 5, 9]))['t']
    assert set(t[:, 1] - t[:, 0]) == {3, 5}
    t = sample(SampleClip(4, method='uniform', gaps=[2, 7], max_gap=6))['t']
    np.testing.assert_array_equal(np.diff(t), 2)
    t = sample(SampleClip(4, method='consecutive', frame_stride=3))['t']
    np.testing.assert_array_equal(np.diff(t), 3)
    assert_uniform_over(t[:, 0].tolist(), range(31))


def test_frames_are_those_of_the_times_in_a_short_video():
    drawn = sample(SampleClip(3))
    assert drawn['frame_inds'].dtype == np.int64
    np.testing.assert_array_equal(drawn['frame_inds'], drawn['t'])
    assert drawn['frame_inds'].min() == 0
    assert drawn['frame_inds'].max() == 39


def test_long_video_gives_clips_from_any_window():
    drawn = sample(SampleClip(2), count=6000, length=12, video_len=8)
    window = drawn['frame_inds'] - drawn['t']
    # The times count from the start of the window, for all frames alike.
    np.testing.assert_array_equal(window[:, 0], window[:, 1])
    assert_uniform_over(window[:, 0].tolist(), range(5))
    assert set(drawn['t'].ravel()) == set(range(8))
    assert set(drawn['frame_inds'].ravel()) == set(range(12))


def test_start_of_the_video_without_randomness():
    transform = SampleClip(
        4, method='consecutive', frame_stride=2, random_start=False
    )
    drawn = sample(transform, count=5, length=40, video_len=10)
    np.testing.assert_array_equal(drawn['frame_inds'], [[0, 2, 4, 6]] * 5)
    np.testing.assert_array_equal(drawn['t'], [[0, 2, 4, 6]] * 5)


def test_generated_clips_imitate_the_data():
    # Each label tells the length of its video.
    video_lens = np.array([3, 9, 33])
    labels = np.eye(3, dtype=np.float32)
    drawn = sample(
        SampleClip(3, num_gen=2),
        count=4000,
        video_lens=video_lens,
        labels=labels,
    )
    t = drawn['gen_t'].reshape(-1, 3)
    c = drawn['gen_c'].reshape(-1, 3)
    assert (t.dtype, c.dtype) == (np.float64, np.float32)
    assert drawn['gen_t'].shape == (4000, 2, 3)
    video = c.argmax(axis=1)
    np.testing.assert_array_equal(c, labels[video])
    assert_uniform_over(video.tolist(), range(3))
    # Both clips of an item are drawn independently.
    first, second = video.reshape(-1, 2).T
    assert_uniform_over((3 * first + second).tolist(), range(9))

    assert (t >= 0).all()
    spans = {0: [2], 1: [2, 4, 8], 2: [2, 4, 8, 16, 32]}
    for i, allowed in spans.items():
        clips = t[video == i]
        span = clips[:, -1] - clips[:, 0]
        span = span.round().astype(int).tolist()
        assert set(span) == set(allowed)
        assert i == 0 or chisquare([*Counter(span).values()]).pvalue > 1e-4
        np.testing.assert_allclose(
            np.diff(clips), np.diff(clips).round(), atol=1e-9
        )
        assert (clips <= video_lens[i] - 1).all()
    # The smallest span leaves 30 frames of slack in the longest video.
    start = t[(video == 2) & np.isclose(t[:, 2] - t[:, 0], 2), 0]
    histogram = np.histogram(start, bins=10, range=(0, 30))[0]
    assert histogram.sum() == len(start)
    assert chisquare(histogram).pvalue > 1e-4
    assert (start % 1 > 0).mean() > 0.99


def test_same_generator_same_clip():
    lens, labels = np.array([20]), np.zeros((1, 0), np.float32)
    first, again = (
        sample(SampleClip(3, num_gen=1), 9, video_lens=lens, labels=labels)
        for _ in range(2)
    )
    for key in ('frame_inds', 't', 'gen_t', 'gen_c'):
        np.testing.assert_array_equal(first[key], again[key])
    assert first['gen_c'].shape == (9, 1, 0)


@pytest.mark.parametrize(
    ('settings', 'needed'),
    [
        ({'num_frames': 1}, 1),
        ({'num_frames': 3}, 3),
        ({'num_frames': 4}, 5),
        ({'num_frames': 16, 'method': 'consecutive'}, 16),
        ({'num_frames': 4, 'method': 'consecutive', 'frame_stride': 5}, 16),
        ({'num_frames': 4, 'method': 'uniform', 'gaps': [2, 3]}, 7),
    ],
)
def test_shortest_video(settings, needed):
    transform = SampleClip(**settings)
    assert transform.min_num_frames == needed
    sample(transform, count=3, length=needed)
    with pytest.raises(ValueError, match=f'{needed - 1} frames'):
        sample(transform, count=1, length=needed - 1, video_len=needed - 1)


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'num_frames': 0}, 'num_frames'),
        ({'num_frames': 40}, 'max_dist=32'),
        ({'num_frames': 3, 'method': 'sparse'}, 'sparse'),
        ({'num_frames': 3, 'max_gap': 2}, 'max_gap'),
        ({'num_frames': 3, 'max_distance': 2}, 'max_distance'),
        (
            {'num_frames': 3, 'method': 'consecutive', 'max_dist': 9},
            'max_dist',
        ),
        ({'num_frames': 3, 'random_start': False}, 'random_start'),
    ],
)
def test_clips_that_no_video_can_give(settings, text):
    with pytest.raises(InputError, match=f'SampleClip.*{text}'):
        SampleClip(**settings)


# LoadClip


def test_load_reads_the_chosen_frames_in_their_order():
    results = {'source': NumberedFrames(9), 'frame_inds': np.array([7, 0, 3])}
    frames = LoadClip()(results)['frames']
    assert frames.shape == (3, 4, 6, 3)
    assert frames[:, 0, 0, 0].tolist() == [7, 0, 3]


# ResizeCrop


def area_weights(size, new_size):
    """Share of each old pixel in each new one: the overlap of intervals."""
    scale = size / new_size
    weights = np.zeros((new_size, size))
    for i, j in itertools.product(range(new_size), range(size)):
        overlap = min((i + 1) * scale, j + 1) - max(i * scale, j)
        weights[i, j] = max(overlap, 0) / scale
    return weights


def lanczos_weights(size, new_size):
    """Weights of the Lanczos kernel with four lobes, edges repeated."""
    weights = np.zeros((new_size, size))
    for i in range(new_size):
        centre = (i + 0.5) * size / new_size - 0.5
        for j in range(int(np.floor(centre)) - 3, int(np.floor(centre)) + 5):
            x = centre - j
            lobe = np.sinc(x) * np.sinc(x / 4)
            weights[i, min(max(j, 0), size - 1)] += lobe
    return weights / weights.sum(axis=1, keepdims=True)


def resize_by_weights(image, weights):
    out = np.einsum('ih,jw,hwc->ijc', weights, weights, image.astype(float))
    return np.clip(out, 0, 255)


def crop_by_hand(image):
    """Drop rows or columns from both ends in turn until it is square."""
    last = True
    while image.shape[0] != image.shape[1]:
        axis = int(image.shape[1] > image.shape[0])
        keep = slice(None, -1) if last else slice(1, None)
        image = image[keep] if axis == 0 else image[:, keep]
        last = not last
    return image


@pytest.mark.parametrize('size', [(64, 64), (64, 96), (97, 64), (64, 65)])
@pytest.mark.parametrize('resolution', [16, 32])
def test_shrinking_by_whole_factors_averages_blocks(size, resolution):
    frames = np.stack([random_photo(*size, seed) for seed in range(3)])
    out = ResizeCrop(resolution)({'frames': frames})['frames']
    assert out.dtype == np.uint8
    assert out.shape == (3, resolution, resolution, 3)
    square = np.stack([crop_by_hand(frame) for frame in frames])
    truth = F.interpolate(
        torch.from_numpy(square).permute(0, 3, 1, 2).double(),
        (resolution, resolution),
        mode='area',
    )
    truth = truth.permute(0, 2, 3, 1).numpy()
    assert np.abs(out - truth).max() <= 0.51


@pytest.mark.parametrize('size', [(45, 45), (80, 61), (53, 71), (34, 33)])
@pytest.mark.parametrize('resolution', [7, 32])
def test_shrinking_by_any_factor_weights_areas(size, resolution):
    frame = random_photo(*size)
    out = ResizeCrop(resolution)({'frames': frame[None]})['frames'][0]
    square = crop_by_hand(frame)
    truth = resize_by_weights(square, area_weights(len(square), resolution))
    assert np.abs(out - truth).max() <= 1


@pytest.mark.parametrize('size', [(20, 20), (31, 20), (17, 24)])
def test_enlarging_is_lanczos(size):
    frame = random_photo(*size)
    out = ResizeCrop(48)({'frames': frame[None]})['frames'][0]
    square = crop_by_hand(frame)
    truth = resize_by_weights(square, lanczos_weights(len(square), 48))
    assert np.abs(out - truth).max() <= 2


def test_shrinking_does_not_alias():
    # A checkerboard of single pixels becomes grey, not a coarser pattern.
    board = np.indices((60, 60)).sum(axis=0) % 2 * 255
    frames = np.repeat(board[None, :, :, None], 3, axis=3).astype(np.uint8)
    out = ResizeCrop(15)({'frames': frames})['frames']
    assert np.abs(out.astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize('size', [(32, 32), (32, 47), (64, 32)])
def test_frames_of_the_size_are_left_as_they_are(size):
    frames = np.stack([random_photo(*size, seed) for seed in range(2)])
    out = ResizeCrop(32)({'frames': frames})['frames']
    np.testing.assert_array_equal(
        out, np.stack([crop_by_hand(frame) for frame in frames])
    )


@pytest.mark.parametrize('resolution', [0, -4, 32.0, '32', None])
def test_resolutions_that_cannot_be(resolution):
    with pytest.raises(InputError, match='resolution'):
        ResizeCrop(resolution)


# FlipClip


def test_flip_mirrors_the_whole_clip_or_nothing():
    frames = np.stack([random_photo(8, 9, seed) for seed in range(4)])
    mirrored = np.stack([np.fliplr(frame) for frame in frames])
    flip, rng = FlipClip(), np.random.default_rng(0)
    num_flipped = 0
    for _ in range(1000):
        out = flip({'frames': frames, 'rng': rng})['frames']
        flipped = np.array_equal(out, mirrored)
        assert flipped or np.array_equal(out, frames)
        num_flipped += flipped
    assert abs(num_flipped - 500) < 65  # four standard deviations


def test_flip_probabilities_and_involution():
    frames = random_photo(6, 7)[None]
    rng = np.random.default_rng(0)
    always, never = FlipClip(1), FlipClip(0)
    for _ in range(50):
        once = always({'frames': frames, 'rng': rng})
        np.testing.assert_array_equal(once['frames'], frames[:, :, ::-1])
        twice = always({**once, 'rng': rng})
        np.testing.assert_array_equal(twice['frames'], frames)
        same = never({'frames': frames, 'rng': rng})
        np.testing.assert_array_equal(same['frames'], frames)
    rare = FlipClip(0.1)
    outs = [rare({'frames': frames, 'rng': rng}) for _ in range(1000)]
    count = sum(not np.array_equal(o['frames'], frames) for o in outs)
    assert abs(count - 100) < 40


def test_flip_and_resize_may_change_places():
    frames = random_photo(50, 40)[None]
    rng = np.random.default_rng(0)
    flip, resize = FlipClip(1), ResizeCrop(20)
    first = resize(flip({'frames': frames, 'rng': rng}))['frames']
    last = flip({**resize({'frames': frames}), 'rng': rng})['frames']
    assert np.abs(first.astype(int) - last).max() <= 1


@pytest.mark.parametrize('prob', [-0.1, 1.1, float('nan')])
def test_flip_probabilities_that_cannot_be(prob):
    with pytest.raises(InputError, match='prob'):
        FlipClip(prob)


# PackClip


def test_pack_makes_the_tensors_the_model_needs():
    frames = np.stack([random_photo(5, 4, seed) for seed in range(2)])
    results = {
        'frames': frames[:, :, ::-1],
        't': np.array([0.0, 3.0]),
        'c': np.array([0, 1, 0], np.float32),
        'gen_t': np.array([[0.5, 4.5]]),
        'gen_c': np.array([[1, 0, 0]], np.float32),
        'rng': np.random.default_rng(0),
        'source': None,
    }
    packed = PackClip()(results)
    assert set(packed) == {'video', 't', 'c', 'gen_t', 'gen_c'}
    video = packed['video']
    assert (video.dtype, tuple(video.shape)) == (torch.uint8, (2, 3, 5, 4))
    assert video.is_contiguous()
    for t, channel, y, x in itertools.product(
        range(2), range(3), range(5), range(4)
    ):
        assert video[t, channel, y, x] == frames[t, y, 3 - x, channel]
    for key, dtype in {
        't': torch.float64,
        'c': torch.float32,
        'gen_t': torch.float64,
        'gen_c': torch.float32,
    }.items():
        assert packed[key].dtype == dtype
        np.testing.assert_array_equal(packed[key].numpy(), results[key])


def test_pack_without_generated_clips_and_labels():
    results = {
        'frames': np.zeros((1, 2, 2, 3), np.uint8),
        't': np.zeros(1),
        'c': np.zeros(0, np.float32),
    }
    packed = PackClip()(results)
    assert set(packed) == {'video', 't', 'c'}
    assert packed['c'].shape == (0,)
    # The tensors do not share memory with what the data set keeps.
    packed['t'][0] = 7
    assert results['t'][0] == 0
