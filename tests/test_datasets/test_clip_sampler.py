"""The stream of clips: complete rounds, any start, any number of processes."""

from itertools import islice

import numpy as np
import pytest

from stylegan_v_mm.datasets import ClipKey, ClipSampler


def take(count, num_videos=5, start=0, **options):
    sampler = ClipSampler(range(num_videos), **{'seed': 3, **options})
    sampler.start = start
    return list(islice(sampler, count))


@pytest.fixture
def in_process(monkeypatch):
    def in_process(rank, world_size):
        monkeypatch.setattr(
            'stylegan_v_mm.datasets.clip_sampler.get_dist_info',
            lambda: (rank, world_size),
        )

    return in_process


def test_each_round_shows_every_video_once():
    keys = take(20)
    rounds = np.array([key.index for key in keys]).reshape(4, 5)
    assert (np.sort(rounds, axis=1) == np.arange(5)).all()
    assert len({tuple(r) for r in rounds}) > 1


def test_without_shuffling_videos_come_in_order():
    assert [key.index for key in take(7, shuffle=False)] == [
        *range(5),
        0,
        1,
    ]


def test_every_clip_has_a_seed_of_its_own():
    keys = take(20)
    assert [key.seed for key in keys] == [(3, i) for i in range(20)]
    assert all(isinstance(key, ClipKey) for key in keys)


@pytest.mark.parametrize('start', [1, 4, 5, 13, 10**7])
def test_a_run_can_start_anywhere(start):
    far = take(8, start=start)
    if start < 100:
        assert far == take(start + 8)[start:]
    assert [key.seed[1] for key in far] == list(range(start, start + 8))


def test_other_seeds_give_other_orders():
    orders = {tuple(k.index for k in take(10, seed=s)) for s in range(8)}
    assert len(orders) > 6


@pytest.mark.parametrize('world_size', [2, 3, 4])
def test_processes_share_one_stream(world_size, in_process):
    in_process(0, 1)
    whole = take(24, start=24)
    shares = []
    for rank in range(world_size):
        in_process(rank, world_size)
        shares.append(take(24 // world_size, start=24))
    dealt = [key for row in zip(*shares) for key in row]
    assert dealt == whole


def test_items_are_fixed_by_their_key(tmp_path):
    from stylegan_v_mm.datasets import VideoDataset
    from stylegan_v_mm.video.encoding import write_video

    rng = np.random.default_rng(0)
    for i in range(3):
        video = rng.integers(0, 256, (20, 3, 16, 16), dtype=np.uint8)
        write_video(tmp_path / f'{i}.mp4', video, 25)
    dataset = VideoDataset(
        tmp_path,
        [
            dict(type='SampleClip', num_frames=3, num_gen=2),
            dict(type='LoadClip'),
        ],
    )

    def times(key):
        item = dataset[key]
        return item['source'].name, *item['t'], *item['gen_t'].flatten()

    np.random.seed(0)
    first = times(ClipKey(1, (7, 100)))
    np.random.seed(1)
    assert times(ClipKey(1, (7, 100))) == first
    assert times(ClipKey(1, (7, 101))) != first
    assert times(ClipKey(1, (8, 100))) != first
