"""Seeds, their times, and labels in the shares of the real data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from stylegan_v_mm.config import load_config
from stylegan_v_mm.datasets import SeedDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.registry import DATASETS
from stylegan_v_mm.video.encoding import write_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Six videos of class run, two of class swim."""
    root = tmp_path_factory.mktemp('videos')
    frames = np.zeros((3, 3, 16, 16), np.uint8)
    for i in range(8):
        folder = 'run' if i < 6 else 'swim'
        write_video(root / folder / f'{i}.mp4', frames, fps=25)
    return root


def test_items_are_seeds_with_their_times():
    dataset = SeedDataset(num_videos=3, num_frames=4, frame_stride=8)
    assert len(dataset) == 3
    for seed, item in enumerate(dataset):
        assert item['seed'] == seed
        assert item['t'].tolist() == [0, 8, 16, 24]
        assert item['t'].dtype == torch.float64
        assert item['c'].shape == (0,)
        assert item['c'].dtype == torch.float32
    assert seed == 2
    assert dataset.c_dim == 0


def test_a_batch_is_what_the_model_takes():
    dataset = SeedDataset(num_videos=3, num_frames=2)
    batch = default_collate(list(dataset))
    assert batch['seed'].tolist() == [0, 1, 2]
    assert batch['t'].tolist() == [[0, 1]] * 3
    assert batch['c'].shape == (3, 0)


def test_more_and_shorter_clips_come_after_the_long_ones():
    dataset = SeedDataset(
        3, 5, frame_stride=2, first_seed=10, extra_videos=2, extra_frames=7
    )
    items = list(dataset)
    assert len(dataset) == len(items) == 5
    assert [item['index'] for item in items] == [0, 1, 2, 3, 4]
    assert [item['seed'] for item in items] == [10, 11, 12, 13, 14]
    assert [len(item['t']) for item in items] == [5, 5, 5, 7, 7]
    assert items[4]['t'].tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_no_clip_of_the_four_usual_metrics_is_made_twice():
    """2048 of 128 frames, and what 50,000 frames, 16 of each, still need."""
    names = ('16f', '128f', '128f_subsample8f')
    options = dict(
        num_test_frames=128,
        num_test_images=50000,
        test_evaluator=[
            *(f'= fvd2048_{name}' for name in names),
            '= fid50k_full',
        ],
    )
    config = load_config(ROOT / 'configs/stylegan_v/ucf101.py', options)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    seeds, lengths = zip(*((i['seed'], len(i['t'])) for i in dataset))
    assert len(set(seeds)) == len(dataset) == 50000 // 16
    assert sum(lengths) == 2048 * 128 + (50000 - 2048 * 16)
    *distances, fid = config.test_evaluator
    assert [metric.num_fake for metric in distances] == [2048] * 3
    assert [metric.num_frames for metric in distances] == [16, 128, 16]
    assert [metric.get('frame_stride', 1) for metric in distances] == [1, 1, 8]
    assert (fid.num_fake, fid.clips_per_video, fid.num_frames) == (
        50000,
        16,
        1,
    )


def test_labels_are_as_frequent_as_in_the_data(videos):
    dataset = DATASETS.build(
        dict(
            type='stylegan_v_mm.SeedDataset',
            num_videos=2000,
            num_frames=1,
            data_root=str(videos),
            labels='folder',
        )
    )
    assert dataset.c_dim == 2
    assert dataset.metainfo == {'classes': ('run', 'swim')}
    labels = torch.stack([item['c'] for item in dataset])
    assert labels.sum(1).eq(1).all()
    # 1500 expected of 2000, standard deviation 19.
    assert 1400 < labels[:, 0].sum() < 1600


def test_a_seeds_label_does_not_depend_on_other_seeds(videos):
    few, many = (
        SeedDataset(n, 1, data_root=videos, labels='folder') for n in (20, 90)
    )
    backwards = {i: many[i]['c'] for i in reversed(range(90))}
    for i, item in enumerate(few):
        assert torch.equal(item['c'], backwards[i])


def test_labels_of_numbers_are_taken_as_they_are(videos, tmp_path):
    entries = [
        [f'{"run" if i < 6 else "swim"}/{i}.mp4', [i / 4, -1.5]]
        for i in range(8)
    ]
    file = tmp_path / 'labels.json'
    file.write_text(json.dumps({'labels': entries}))
    dataset = SeedDataset(60, 1, data_root=videos, labels=str(file))
    drawn = {tuple(item['c'].tolist()) for item in dataset}
    assert drawn == {(i / 4, -1.5) for i in range(8)}


def test_without_labels_the_data_are_not_read():
    dataset = SeedDataset(1, 1, data_root='there/is/no/such/folder')
    assert dataset[0]['c'].shape == (0,)


@pytest.mark.parametrize(
    'name', ['num_videos', 'num_frames', 'frame_stride', 'extra_frames']
)
def test_numbers_must_be_positive(name):
    settings = dict(num_videos=2, num_frames=2, frame_stride=2)
    with pytest.raises(InputError, match=f'{name}=0'):
        SeedDataset(**(settings | {name: 0}))


def test_wrong_labels_are_named(videos):
    with pytest.raises(InputError, match=r'none\.json'):
        SeedDataset(1, 1, data_root=videos, labels='none.json')
    with pytest.raises(InputError, match='data_root'):
        SeedDataset(1, 1, labels='folder')


def test_labels_of_any_data_set_that_has_them(videos):
    folder = dict(type='VideoDataset', data_root=str(videos), labels='folder')
    plain = SeedDataset(20, 1, data_root=videos, labels='folder')
    same = SeedDataset(20, 1, real_videos=folder)
    assert same.metainfo == {'classes': ('run', 'swim')}
    for i in range(20):
        assert torch.equal(same[i]['c'], plain[i]['c'])
    # ceil(sqrt(0.7 / (6 / 8))) = 1 and ceil(sqrt(0.7 / (2 / 8))) = 2 times.
    balanced = dict(
        type='ClassBalancedDataset', oversample_thr=0.7, dataset=folder
    )
    many = SeedDataset(2000, 1, real_videos=balanced)
    share = torch.stack([many[i]['c'] for i in range(2000)]).mean(0)
    assert share[1] == pytest.approx(4 / 10, abs=0.05)
    with pytest.raises(InputError, match=r'real_videos .* list has none'):
        SeedDataset(1, 1, real_videos=dict(type=list))
