"""mmengine's wrappers around videos: the same clips, whoever holds them."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from stylegan_v_mm.datasets import ClipKey, ClipSampler, collate_clips
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.real_clips import real_clips
from stylegan_v_mm.registry import DATASETS
from stylegan_v_mm.video.encoding import write_video

PIPELINE = [
    dict(type='SampleClip', num_frames=3, num_gen=2),
    dict(type='LoadClip'),
    dict(type='PackClip'),
]
# Videos of each class in each of two folders, and the length of each video.
FOLDERS = dict(one=dict(a=3, b=1), two=dict(a=2, b=2))


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp('wrapped'), np.random.default_rng(0)
    roots = []
    for name, classes in FOLDERS.items():
        for label, count in classes.items():
            for i in range(count):
                frames = rng.integers(0, 256, (20 + 3 * i, 3, 16, 16))
                write_video(
                    folder / name / label / f'{i}.mp4',
                    frames.astype(np.uint8),
                    25,
                )
        roots.append(folder / name)
    return roots


def videos(root, **options):
    options = dict(labels='folder', pipeline=PIPELINE) | options
    return dict(type='VideoDataset', data_root=str(root), **options)


def build(config):
    return DATASETS.build(config)


def concat(roots, **options):
    return dict(
        type='ConcatDataset', datasets=[videos(r, **options) for r in roots]
    )


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[key], theirs[key]) for key in ours
    )


def balanced(inner):
    return dict(type='ClassBalancedDataset', oversample_thr=0.6, dataset=inner)


def places(roots):
    """Which folder and which of its videos each item is, by hand."""
    one, two = ([(i, j) for j in range(4)] for i in range(2))
    # Of 8 videos 5 are of class a, and come once; 3 are of class b, and come
    # ceil(sqrt(0.6 / (3 / 8))) = 2 times. Of the 4 of folder one, 1 is of
    # class b: ceil(sqrt(0.6 / (1 / 4))) = 2.
    of_one = [*one, one[3]]
    repeated = [*of_one, *two[:2], two[2], *two[2:], two[3]]
    return {
        'concat': (concat(roots), one + two),
        'repeat': (
            dict(type='RepeatDataset', times=3, dataset=videos(roots[0])),
            one * 3,
        ),
        'balanced': (balanced(videos(roots[0])), of_one),
        'nested': (balanced(concat(roots)), repeated),
    }


@pytest.mark.parametrize('kind', ['concat', 'repeat', 'balanced', 'nested'])
def test_items_are_those_of_the_videos_with_their_seeds(roots, kind):
    config, expected = places(roots)[kind]
    dataset = build(config)
    plain = [build(videos(root)) for root in roots]
    assert len(dataset) == len(expected)
    for index, (i, j) in enumerate(expected):
        key = ClipKey(index, (7, index))
        ours, theirs = dataset[key], plain[i][ClipKey(j, key.seed)]
        for name in ('video', 't', 'c'):
            assert torch.equal(ours[name], theirs[name])
        assert np.array_equal(dataset.labels[index], plain[i].labels[j])
        assert dataset.video_lens[index] == plain[i].video_lens[j]
    assert dataset.frame_size() == (16, 16)
    assert str(roots[0]) in dataset.data_root


@pytest.mark.parametrize('kind', ['concat', 'repeat', 'balanced', 'nested'])
def test_a_stream_of_clips_does_not_depend_on_workers(roots, kind):
    config, _ = places(roots)[kind]

    def batches(num_workers, start):
        dataset = build(config)
        sampler = ClipSampler(dataset, seed=5)
        sampler.start = start
        loader = DataLoader(
            dataset, 2, False, sampler, None, num_workers, collate_clips
        )
        found = iter(loader)
        return [next(found) for _ in range(3)]

    np.random.seed(0)
    expected = batches(0, 0)
    np.random.seed(1)
    assert all(map(same, batches(1, 0), expected))
    assert same(batches(0, 4)[0], expected[2])


def test_fakes_imitate_all_that_is_in_a_wrapper(roots):
    # Class a is 3 of 4 videos of folder one, and 2 of 4 of folder two. By
    # threshold, those of class b come 4 times as often in folder one.
    config = dict(
        type='ClassBalancedDataset', oversample_thr=4, dataset=videos(roots[0])
    )
    dataset = build(config)
    share = dataset.labels[:, 1].mean()
    assert share == pytest.approx(4 / (3 * 3 + 4))
    drawn = [
        dataset[ClipKey(0, (0, i))]['gen_c'][:, 1].mean() for i in range(200)
    ]
    assert np.mean(drawn) == pytest.approx(share, abs=0.1)
    lens = {20 + 3 * i for i in range(3)}
    assert set(dataset.video_lens) == lens


def test_a_fingerprint_tells_which_videos_in_which_order(roots):
    one, two = map(videos, roots)
    kinds = [
        one,
        two,
        dict(type='ConcatDataset', datasets=[one, two]),
        dict(type='ConcatDataset', datasets=[two, one]),
        dict(type='RepeatDataset', times=2, dataset=one),
        dict(type='RepeatDataset', times=3, dataset=one),
        balanced(one),
    ]
    prints = [build(kind).fingerprint for kind in kinds]
    # What comes twice is the same, balanced or repeated, in another order.
    assert len(set(prints)) == len(kinds)
    assert prints == [build(kind).fingerprint for kind in kinds]


def test_what_does_not_go_together_is_named(roots, tmp_path):
    unlabelled = videos(roots[0], labels=None)
    with pytest.raises(InputError, match='classes cannot be balanced'):
        build(balanced(unlabelled))
    for name, width in (('one', 2), ('two', 3)):
        labels = [[f'{c}/0.mp4', [0.5] * width] for c in 'ab']
        (tmp_path / name).mkdir()
        for label in 'ab':
            (tmp_path / name / label).mkdir()
            os.link(
                roots[0] / label / '0.mp4', tmp_path / name / label / '0.mp4'
            )
        (tmp_path / name / 'dataset.json').write_text(
            str({'labels': labels}).replace("'", '"')
        )
    parts = [tmp_path / 'one', tmp_path / 'two']
    with pytest.raises(InputError, match=r'labels of .* width: 2, 3'):
        build(concat(parts, labels='dataset.json'))
    with pytest.raises(InputError, match='classes cannot be balanced'):
        build(balanced(videos(parts[0], labels='dataset.json')))


class Own(Dataset):
    """What mmengine's wrappers ask for, and nothing else."""

    metainfo = {'classes': ('a', 'b')}  # noqa: RUF012

    def full_init(self):
        pass

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return dict(key=index, video=torch.full((1, 3, 4, 4), index).byte())


def test_a_data_set_of_the_users_own_in_a_wrapper(roots):
    own = dict(type=Own)
    dataset = build(
        dict(type='ConcatDataset', datasets=[own, videos(roots[0]), own])
    )
    assert len(dataset) == 10
    for index, expected in ((2, 2), (7, 0)):
        key = dataset[ClipKey(index, (1, 9))]['key']
        assert (key, key.seed) == (expected, (1, 9))
    for name in ('labels', 'video_lens', 'fingerprint', 'read', 'frame_size'):
        assert not hasattr(dataset, name)
    real = real_clips(dict(type='RepeatDataset', times=2, dataset=own), 1, 4)
    seen = [int(real[i]['video'].max()) for i in range(len(real))]
    assert seen == [0, 1, 2] * 2


def test_keys_are_integers_that_keep_their_seed():
    key = ClipKey(5, (1, 2))
    assert key == 5
    assert 'abcdef'[key] == 'f'
    again = pickle.loads(pickle.dumps(key))
    assert (type(again), again, again.seed) == (ClipKey, 5, (1, 2))


# Batches.


def test_a_batch_takes_any_value():
    items = [
        dict(video=torch.full((2, 3), i), t=np.ones(4), name=f'{i}.mp4',
             place=i, nothing=None, ragged=[0] * i, boxes=torch.zeros(i, 4))
        for i in range(3)
    ]  # fmt: skip
    items[1]['some'] = 'here'
    batch = collate_clips(items)
    assert batch['video'].tolist() == [[[i] * 3] * 2 for i in range(3)]
    assert torch.equal(batch['t'], torch.ones(3, 4, dtype=torch.float64))
    assert batch['name'] == ['0.mp4', '1.mp4', '2.mp4']
    assert batch['place'] == [0, 1, 2]
    assert batch['nothing'] == [None] * 3
    assert batch['ragged'] == [[], [0], [0, 0]]
    assert [len(box) for box in batch['boxes']] == [0, 1, 2]
    assert batch['some'] == [None, 'here', None]
