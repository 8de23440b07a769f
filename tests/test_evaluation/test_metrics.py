"""Metrics on real files: what they measure and depend on, the cache."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from PIL import Image
from real_process import run_program_twice
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stylegan_v_mm.config import load_config
from stylegan_v_mm.datasets import SeedDataset, VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import (
    FeatureStats,
    FrechetVideoDistance,
    InceptionScore,
    InceptionTorchScript,
    KernelDistance,
    PrecisionRecall,
    RandomI3D,
    frechet_distance,
)
from stylegan_v_mm.evaluation.frechet import FeatureRows
from stylegan_v_mm.registry import DATASETS, MODELS
from stylegan_v_mm.video.encoding import write_video

ROOT = Path(__file__).parents[2]
SIZE = 32


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Small matrices: more threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def moving_disc(seed, num_frames):
    """A disc that moves over a plain colour, [T, 3, SIZE, SIZE], uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    ground, colour = rng.uniform(0, 255, (2, 3, 1, 1))
    place, speed = rng.uniform(8, 24, 2), rng.normal(size=2)
    frames = []
    for i in range(num_frames):
        cy, cx = (place + i * speed) % SIZE
        inside = (y - cy) ** 2 + (x - cx) ** 2 < 36
        frames.append(np.where(inside, colour, ground))
    return np.stack(frames).astype(np.uint8)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Twelve videos of 20 frames."""
    root = tmp_path_factory.mktemp('videos')
    for i in range(12):
        write_video(root / f'{i}.mp4', moving_disc(i, 20), fps=25, crf=1)
    return root


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    """A detector with the published call: the means of a grid of places."""

    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones([]))

        def forward(
            self,
            x: Tensor,
            rescale: bool = False,
            resize: bool = False,
            return_features: bool = False,
        ) -> Tensor:
            x = torch.nn.functional.adaptive_avg_pool3d(x.float(), (2, 8, 8))
            x = x.flatten(1) / 128 - 1
            rest = torch.zeros(len(x), 400 - x.shape[1] % 400)
            x = torch.cat([x, rest], 1)[:, :400]
            return self.scale * x

    path = tmp_path_factory.mktemp('detector') / 'i3d.pt'
    torch.jit.script(Grid()).save(str(path))
    return path


def fvd(videos, **changes):
    settings = dict(
        num_frames=9,
        num_real=100,
        resolution=SIZE,
        real_data=dict(data_root=str(videos)),
        detector=dict(type='RandomI3D'),
    )
    return FrechetVideoDistance(**(settings | changes))


def measure(metric, clips, batch=4):
    """Run the metric as mmengine's loop does."""
    evaluator = Evaluator([metric])
    for part in torch.as_tensor(clips).split(batch):
        evaluator.process([dict(video=clip) for clip in part])
    return evaluator.evaluate(len(clips))


def real_clips(metric):
    """The clips that the metric should take, in another way: numpy."""
    return torch.stack(
        [
            metric.real_videos[i]['video']
            for i in range(len(metric.real_videos))
        ]
    )


def generated(num=12, num_frames=20, first_seed=100):
    seeds = range(first_seed, first_seed + num)
    return torch.from_numpy(
        np.stack([moving_disc(seed, num_frames) for seed in seeds])
    )


def test_the_distance_grows_from_zero_with_noise(videos):
    metric = fvd(videos)
    clips = real_clips(metric)
    noise = np.random.default_rng(0).normal(size=clips.shape)
    distances = [
        measure(metric, (clips + sigma * noise).clip(0, 255).byte())
        for sigma in (0, 5, 20, 80)
    ]
    itself, *others = [distance['FVD-random'] for distance in distances]
    assert itself < 1e-3 * others[0]
    assert others == sorted(others)


def test_the_value_is_the_distance_of_these_features(videos):
    """Computed apart from the metric: which frames, which statistics."""
    detector = RandomI3D(seed=3)
    dataset = VideoDataset(
        videos,
        pipeline=[
            dict(
                type='SampleClip',
                num_frames=10,
                method='consecutive',
                frame_stride=2,
            ),
            dict(type='LoadClip'),
            dict(type='ResizeCrop', resolution=16),
            dict(type='PackClip'),
        ],
        seed=0,
    )
    real = torch.stack([item['video'] for item in dataset_items(dataset)])
    fake = generated()[..., ::2, ::2]
    values = []
    for clips in (real, fake[:, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]]):
        values.append(FeatureStats(400))
        values[-1].append(detector.features(clips))
    metric = fvd(
        videos,
        num_frames=10,
        frame_stride=2,
        resolution=16,
        detector=dict(type='RandomI3D', seed=3),
    )
    assert metric.span == 19
    result = measure(metric, fake)
    expected = frechet_distance(*values)
    assert result['FVD10x2-random'] == pytest.approx(expected, rel=1e-4)


class MeanColour(nn.Module):
    """A detector with the published call of Inception."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        return self.scale * img.float().mean([2, 3])


def test_images_have_an_fid(tmp_path, monkeypatch):
    """Compared with Heusel et al. 2017, eq. 6, by numpy and scipy."""
    monkeypatch.setattr(InceptionTorchScript, 'num_features', 3)
    path = str(tmp_path / 'inception.pt')
    torch.jit.script(MeanColour()).save(path)
    colours = np.random.default_rng(0).integers(0, 256, (2, 9, 3), np.uint8)
    plain = colours[:, :, None, None] * np.ones((SIZE, SIZE, 1), np.uint8)
    real, fake = plain
    for i, image in enumerate(real):
        Image.fromarray(image).save(tmp_path / f'{i}.png')
    metric = fvd(
        tmp_path,
        num_frames=1,
        real_data=dict(data_root=str(tmp_path), images=True),
        detector=dict(type='InceptionTorchScript', path=path),
    )
    clips = torch.from_numpy(fake).permute(0, 3, 1, 2)[:, None]
    (mean_a, cov_a), (mean_b, cov_b) = (
        (c.mean(0), np.cov(c.T, bias=True)) for c in np.float64(colours)
    )
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.square(mean_a - mean_b).sum() + np.trace(
        cov_a + cov_b - 2 * root
    )
    assert measure(metric, clips)['FID'] == pytest.approx(expected)


def test_a_standard_error_does_not_decompose_real_clips_again(
    videos, monkeypatch
):
    clips = generated(13)
    metric = fvd(videos)
    real = metric.real.stats  # read before it counts
    decomposed, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, 'eigh', lambda x: decomposed.append(x) or eigh(x)
    )
    found = measure(metric, clips)
    # Of real clips, of all generated ones, and without each of ten groups.
    assert len(decomposed) == 12
    # By fours as the metric gets them: float32 rounds by the batch.
    parts = clips[:, :9].split(4)
    features = torch.cat([RandomI3D().features(part) for part in parts])
    groups = [
        torch.tensor([i for i in range(13) if i % 10 != digit])
        for digit in range(10)
    ]
    values = []
    for inds in (torch.arange(13), *groups):
        stats = FeatureStats(400)
        stats.append(features[inds])
        values.append(frechet_distance(stats, real))
    assert found['FVD-random'] == pytest.approx(values[0], rel=1e-10)
    error = np.sqrt(9 / 10 * np.sum((values[1:] - np.mean(values[1:])) ** 2))
    assert found['FVD-random-se'] == pytest.approx(error, rel=1e-10)


def dataset_items(dataset):
    return [dataset[i] for i in range(len(dataset))]


def test_the_result_does_not_depend_on_batches(videos, cache_home):
    clips = generated(13)
    results = []
    for batch, real_batch, workers in [(1, 5, 0), (13, 1, 0), (4, 12, 2)]:
        shutil.rmtree(cache_home / 'stylegan_v_mm' / 'statistics', True)
        metric = fvd(videos, batch_size=real_batch, num_workers=workers)
        results.append(measure(metric, clips, batch)['FVD-random'])
    assert results[1:] == pytest.approx(results[:1] * 2, rel=1e-4)


def test_a_second_evaluation_starts_anew(videos):
    metric = fvd(videos)
    first = measure(metric, generated(8))
    measure(metric, generated(8, first_seed=300))
    assert measure(metric, generated(8)) == first


def test_torchs_random_state_stays(videos):
    """A run that measures goes on like one that does not.

    Both building the metric and decoding with workers count.
    """
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    measure(fvd(videos, num_workers=1), generated(4))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_two_processes_give_the_value_of_one(videos, tmp_path):
    """Odd numbers, so that the shares differ; real clips are divided, too."""
    program = """
        import sys
        import numpy as np
        import torch
        import torch.distributed as dist
        from stylegan_v_mm.evaluation import FrechetVideoDistance
        dist.init_process_group('gloo')
        rank, videos = dist.get_rank(), sys.argv[1]
        metric = FrechetVideoDistance(
            9, 11, 32, dict(data_root=videos), dict(type='RandomI3D'))
        seen = []
        features = metric.detector.features
        def watch(video):
            seen.append(len(video))
            return features(video)
        clips = torch.from_numpy(np.load('clips.npy'))[rank::2]
        for part in clips.split(3):
            metric.process({}, [dict(video=clip) for clip in part])
        metric.detector.features = watch
        result = metric.evaluate(13)
        np.save(f'{rank}.npy', [result['FVD-random'], sum(seen)])
        # Left to the interpreter's end, gloo's threads now and then abort.
        dist.destroy_process_group()
    """
    clips = generated(13)
    np.save(tmp_path / 'clips.npy', clips)
    run_program_twice(program, tmp_path, videos)
    alone = measure(fvd(videos, num_real=11), clips)['FVD-random']
    (first, real_first), (second, real_second) = (
        np.load(tmp_path / f'{rank}.npy') for rank in range(2)
    )
    assert first == second
    assert first == pytest.approx(alone, rel=1e-4)
    assert {real_first, real_second} == {6, 5}


# Which real clips.


def test_at_most_num_real_videos_count_spread_evenly(videos, monkeypatch):
    metric = fvd(videos, num_real=5)
    shown = []
    features = RandomI3D.features
    monkeypatch.setattr(
        RandomI3D,
        'features',
        lambda self, video: shown.extend(video) or features(self, video),
    )
    assert metric.real.num == 5
    expected = [metric.real_videos[i]['video'] for i in (0, 2, 4, 7, 9)]
    assert len(shown) == 5
    assert all(torch.equal(a, b) for a, b in zip(shown, expected))


def test_offsets_are_random_but_fixed(videos):
    """Clips are cut from the decoded videos at several offsets."""
    metric = fvd(videos)
    clips = real_clips(metric)
    again = real_clips(fvd(videos))
    assert torch.equal(clips, again)
    offsets = set()
    for i, clip in enumerate(clips):
        source = metric.real_videos.sources[i]
        whole = source.read(range(20)).transpose(0, 3, 1, 2)
        found = [
            o for o in range(12) if np.array_equal(clip, whole[o : o + 9])
        ]
        assert found, f'{source.name}: no 9 frames in a row, or flipped'
        offsets.update(found)
    assert len(offsets) > 3


@pytest.mark.parametrize('stride', [1, 2])
def test_disjoint_clips_are_all_of_the_videos(frames, stride, monkeypatch):
    """Against clips that numpy cuts from the frames."""
    span = 2 * stride + 1
    settings = dict(resolution=SIZE, detector=dict(type='Means'), num_real=99)
    whole = dict(data_root=str(frames))
    metric = FrechetVideoDistance(
        3,
        frame_stride=stride,
        real_data=dict(whole, disjoint=True),
        **settings,
    )
    videos = [
        source.read(range(10)).transpose(0, 3, 1, 2)
        for source in VideoDataset(frames).sources
    ]
    expected = [
        video[start : start + span : stride]
        for video in videos
        for start in range(0, 11 - span, span)
    ]
    assert len(expected) == {1: 42, 2: 28}[stride]
    assert np.array_equal(real_clips(metric), expected)
    # Fewer are spread over all.
    some = FrechetVideoDistance(
        3,
        frame_stride=stride,
        real_data=dict(whole, disjoint=True),
        **{**settings, 'num_real': 14},
    )
    shown = []
    features = type(some.detector).features
    monkeypatch.setattr(
        type(some.detector),
        'features',
        lambda self, video: shown.extend(video) or features(self, video),
    )
    assert some.real.num == 14
    assert np.array_equal(torch.stack(shown), expected[:: len(expected) // 14])
    # They are told from one clip of each video.
    one = FrechetVideoDistance(
        3, frame_stride=stride, real_data=whole, **settings
    )
    numbers = [each.protocol(5)['num_real'] for each in (metric, one)]
    assert numbers == [len(expected), 14]
    digests = {each.protocol(5)['data_digest'] for each in (metric, one)}
    assert len(digests) == 2
    assert metric._cache_file() != one._cache_file()


def test_images_are_the_same_of_disjoint_clips(frames):
    whole = dict(data_root=str(frames))
    clips = generated(5, 10)
    found = [
        measure_all([distance(1, real_data)], clips)
        for real_data in (whole, dict(whole, disjoint=True))
    ]
    assert found[0] == found[1]


def test_what_takes_a_damaged_videos_place_is_fixed(videos, tmp_path):
    """A frame in the middle is no image: seen only when it is read."""
    for i in range(6):
        folder = tmp_path / 'data' / str(i)
        folder.mkdir(parents=True)
        write_frames(folder, moving_disc(i, 9), damaged=i in (1, 4))
    forwards, backwards = (fvd(tmp_path / 'data').real_videos for _ in 'ab')
    first = {i: forwards[i]['video'] for i in range(6)}
    second = {i: backwards[i]['video'] for i in reversed(range(6))}
    for i in range(6):
        assert torch.equal(first[i], second[i])
    assert any(torch.equal(first[1], first[i]) for i in (0, 2, 3, 5))


def write_frames(folder, frames, damaged):
    import cv2

    for i, frame in enumerate(frames):
        path = folder / f'{i:03}.png'
        cv2.imwrite(str(path), frame.transpose(1, 2, 0)[..., ::-1])
    if damaged:
        (folder / '004.png').write_bytes(b'no image')


# Names.


@pytest.mark.parametrize(
    ('num_frames', 'frame_stride', 'name'),
    [(16, 1, 'FVD16'), (9, 2, 'FVD9x2')],
)
def test_names_tell_frames_and_stride(
    videos, script, num_frames, frame_stride, name
):
    settings = dict(num_frames=num_frames, frame_stride=frame_stride)
    trained = dict(type='I3DTorchScript', path=str(script))
    metric = fvd(videos, detector=trained, **settings)
    result = measure(metric, generated(4))
    assert list(result) == [name, f'{name}-se']
    assert result[name] > 0


# The cache.


def statistics(cache_home):
    return set((cache_home / 'stylegan_v_mm' / 'statistics').glob('*'))


def test_statistics_are_cached_until_something_changes(
    videos, tmp_path, cache_home, script
):
    root = tmp_path / 'videos'
    shutil.copytree(videos, root)
    clips = generated(6)

    def run(**changes):
        """Measure; tell how many files the cache has got more."""
        before = statistics(cache_home)
        value = measure(fvd(root, **changes), clips)
        return value, len(statistics(cache_home) - before)

    value, new = run()
    assert new == 1
    assert run() == (value, 0)
    # How it is computed is no part of what it is.
    assert run(batch_size=3, num_workers=1)[1] == 0
    for changes in (
        dict(num_frames=10),
        dict(frame_stride=2),
        dict(num_real=5),
        dict(detector=dict(type='RandomI3D', seed=1)),
        dict(detector=dict(type='I3DTorchScript', path=str(script))),
    ):
        assert run(**changes)[1] == 1, changes
        assert run(**changes)[1] == 0, changes
    half = generated(6)[..., ::2, ::2]
    before = statistics(cache_home)
    measure(fvd(root, resolution=16), half)
    assert len(statistics(cache_home) - before) == 1
    write_video(root / '3.mp4', moving_disc(999, 20), fps=25)
    changed, new = run()
    assert new == 1
    assert changed['FVD-random'] != value['FVD-random']


def test_cached_statistics_are_used(videos, cache_home, monkeypatch):
    clips = generated(6)
    value = measure(fvd(videos), clips)
    again = fvd(videos)

    def no_reading(*args):
        raise AssertionError('a real video is read')

    monkeypatch.setattr(VideoDataset, '__getitem__', no_reading)
    assert measure(again, clips) == value


def test_a_damaged_cache_file_is_replaced(videos, cache_home, warnings_logged):
    clips = generated(6)
    value = measure(fvd(videos), clips)
    (file,) = statistics(cache_home)
    content = file.read_bytes()
    for damaged in (content[:100], b'', b'text'):
        file.write_bytes(damaged)
        warnings_logged.clear()
        assert measure(fvd(videos), clips) == value
        assert [file.name in text for text in warnings_logged] == [True]
        assert FeatureRows.load(file).num == 12


def test_without_a_place_for_the_cache_it_works(
    videos, tmp_path, monkeypatch, warnings_logged
):
    expected = measure(fvd(videos), generated(6))
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert measure(fvd(videos), generated(6)) == expected
    assert any('cannot be cached' in text for text in warnings_logged)


# What is wrong is said before anything is generated.


def test_wrong_settings_are_named(videos, tmp_path):
    with pytest.raises(InputError, match=r'num_frames=8.*at least 9'):
        fvd(videos, num_frames=8)
    with pytest.raises(InputError, match='num_real=1'):
        fvd(videos, num_real=1)
    with pytest.raises(InputError, match='frame_stride=0'):
        fvd(videos, frame_stride=0)
    with pytest.raises(InputError, match='root'):
        fvd(videos, real_data=dict(root='data'))
    with pytest.raises(InputError, match='shorter than 21 frames'):
        fvd(
            videos,
            num_frames=21,
            real_data=dict(data_root=str(videos), disjoint=True),
        )
    with pytest.raises(InputError, match='no_such_folder'):
        fvd(tmp_path / 'no_such_folder')
    with pytest.raises(InputError, match='none of 12 videos'):
        fvd(videos, frame_stride=4)
    with pytest.raises(InputError, match=r'none\.pt'):
        fvd(videos, detector=dict(type='I3DTorchScript', path='none.pt'))
    write_video(tmp_path / 'one' / 'a.mp4', moving_disc(0, 9), fps=25)
    with pytest.raises(InputError, match='at least 2 videos'):
        fvd(tmp_path / 'one')


def test_clips_that_do_not_fit_are_refused_at_once(videos):
    metric = fvd(videos, frame_stride=2)
    with pytest.raises(InputError, match=r'17 frames.*clips have 16'):
        metric.process({}, [dict(video=generated(1, 16)[0])])
    with pytest.raises(InputError, match=r'resolution=32.*16 x 32'):
        metric.process({}, [dict(video=generated(1, 17)[0][..., ::2])])


def test_clips_that_count_twice_are_reported(videos, warnings_logged):
    metric = fvd(videos)
    for _ in range(2):
        metric.process({}, [dict(video=clip) for clip in generated(3)])
    metric.evaluate(5)
    assert any('6 clips of 5 seeds' in text for text in warnings_logged)


# All metrics of one detector.


@MODELS.register_module(force=True)
class Means(nn.Module):
    """Features of clips: means over halves of height and time, exact sums.

    So they depend on a clip alone, to the last bit.
    """

    min_num_frames = 1
    num_features = 12
    is_random = False
    seen: list = []  # noqa: RUF012

    def __init__(self, digest='means'):
        super().__init__()
        self.digest = digest

    def features(self, video):
        self.seen.append(tuple(video.shape[:2]))
        half = video.shape[1] // 2
        parts = [
            rows.double().mean([1, 3, 4])
            for times in (video[:, : half + 1], video[:, half:])
            for rows in (
                times[..., : SIZE // 2, :],
                times[..., SIZE // 2 :, :],
            )
        ]
        return torch.cat(parts, 1).float() / 32

    def probabilities(self, video):
        return self.features(video).double().softmax(1)


def all_metrics(root, num_fake=None, **changes):
    settings = dict(num_fake=num_fake, detector=dict(type='Means'))
    comparing = dict(
        num_real=40, real_data=dict(data_root=str(root)), **changes
    )
    metrics = [
        cls(num_frames, resolution=SIZE, **settings, **comparing)
        for cls in (FrechetVideoDistance, KernelDistance, PrecisionRecall)
        for num_frames in (9, 1)
    ]
    return metrics + [
        InceptionScore(num_frames, SIZE, **settings) for num_frames in (9, 1)
    ]


def measure_all(metrics, clips, batch=5, order=None):
    order = range(len(clips)) if order is None else order
    order = torch.as_tensor(list(order))
    evaluator = Evaluator(metrics)
    for inds in order.split(batch):
        samples = [dict(video=clips[i]) for i in inds]
        evaluator.process(samples, dict(index=inds))
    return evaluator.evaluate(len(clips))


NAMES = {
    f'{name}{ending}'
    for video, image in [
        ('FVD9', 'FID'),
        ('KVD9', 'KID'),
        ('Precision9', 'Precision'),
        ('Recall9', 'Recall'),
        ('Density9', 'Density'),
        ('Coverage9', 'Coverage'),
        ('ISv9', 'IS'),
    ]
    for name in (video, image)
    for ending in ('', '-se')
} | {'ISv9-std', 'IS-std'}


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """Fourteen videos of 10 frames as images, which are decoded exactly."""
    root = tmp_path_factory.mktemp('frames')
    for i in range(14):
        (root / f'{i:02}').mkdir()
        write_frames(root / f'{i:02}', moving_disc(i, 10), damaged=False)
    return root


def test_batches_and_order_change_nothing(frames):
    clips = generated(23, 10)
    expected = measure_all(all_metrics(frames), clips, 1)
    assert set(expected) == NAMES
    shuffled = np.random.default_rng(0).permutation(23)
    for batch in (3, 8):
        found = measure_all(
            all_metrics(frames, batch_size=batch, cache=False),
            clips,
            batch,
            shuffled,
        )
        assert found == pytest.approx(expected, rel=1e-9)


# Distances of classes.


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
    """Videos of 10 frames in folders of classes: 6, 5, 4 and 1."""
    root = tmp_path_factory.mktemp('classes')
    for i, name in enumerate('aaaaaabbbbbccccd'):
        folder = root / name / f'{i:02}'
        folder.mkdir(parents=True)
        write_frames(folder, moving_disc(i, 10), damaged=False)
    return root


def labelled(root, **changes):
    """Of clips as long as the videos, so that no offset is drawn."""
    settings = dict(
        num_frames=10,
        detector=dict(type='Means'),
        real_data=dict(data_root=str(root), labels='folder'),
        per_class=True,
    )
    return fvd(root, **(settings | changes))


def class_metrics(root, **changes):
    return [labelled(root, **changes)]


# Two of the third class would do, one does not; the last has one real video.
GENERATED = 'aabbbcaddabbaadbab'


def labels_of(text, names='abcd'):
    return torch.eye(len(names))[[names.index(name) for name in text]]


def measure_classes(metrics, clips, text=GENERATED, batch=4, order=None):
    order = torch.as_tensor(list(order or range(len(clips))))
    c = labels_of(text)
    evaluator = Evaluator(metrics)
    for inds in order.split(batch):
        evaluator.process(
            [dict(video=clips[i]) for i in inds], dict(index=inds, c=c[inds])
        )
    return evaluator.evaluate(len(clips))


def apart(root, clips, **changes):
    """Distances by as many metrics, each of the files of one class."""
    texts = np.array(list(GENERATED))
    expected = {}
    for name in 'ab':
        settings = dict(num_frames=10, detector=dict(type='Means'))
        metric = fvd(root / name, **(settings | changes))
        found = measure(metric, clips[texts == name])
        expected[f'{metric.name}/{name}'] = found[metric.name]
    expected[f'{metric.name}-class-mean'] = np.mean([*expected.values()])
    metric = fvd(root, **(settings | changes))
    return expected | measure_all([metric], clips)


@pytest.mark.parametrize('batch', [1, 3, 8])
@pytest.mark.parametrize('num_real', [None, 100])
def test_classes_are_compared_as_if_apart(
    classes, monkeypatch, batch, num_real
):
    texts = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', texts.append)
    clips = generated(18, 10)
    expected = apart(classes, clips)
    assert expected['FVD10/a'] != pytest.approx(expected['FVD10/b'], rel=0.01)
    texts.clear()
    found = measure_classes(
        class_metrics(
            classes, batch_size=batch, num_real=num_real, cache=False
        ),
        clips,
        batch=batch,
        order=np.random.default_rng(batch).permutation(18).tolist(),
    )
    assert found == pytest.approx(expected, rel=1e-9)
    assert next(iter(found)) == 'FVD10'
    (line,) = (text for text in texts if 'too few' in text)
    assert line.endswith('c (1, 4), d (3, 1)')


def test_frames_of_classes_are_compared_as_if_apart(classes):
    clips = generated(18, 10)
    settings = dict(num_frames=1, clips_per_video=3, num_real=None)
    # All frames of the only video of a class are enough, and so are those
    # of the only generated one.
    found = measure_classes(class_metrics(classes, **settings), clips)
    assert {'FID/c', 'FID/d'} < set(found)
    expected = apart(classes, clips, **settings)
    del expected['FID-class-mean']
    found = {name: found[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-9)


def test_labels_come_from_the_seeds(classes):
    """Lists of labels, as the config's loader gives them."""
    seeds = SeedDataset(18, 10, data_root=str(classes), labels='folder')
    clips = generated(18, 10)
    evaluator = Evaluator(class_metrics(classes))
    for batch in DataLoader(seeds, batch_size=4, collate_fn=pseudo_collate):
        samples = [dict(video=clips[seed]) for seed in batch['seed']]
        evaluator.process(samples, batch)
    text = ''.join('abcd'[seeds[i]['c'].argmax()] for i in range(18))
    expected = measure_classes(class_metrics(classes), clips, text)
    assert evaluator.evaluate(18) == expected
    assert {'FVD10/a', 'FVD10/b'} < set(expected)


def test_classes_are_cached_until_labels_change(
    classes, tmp_path, cache_home, monkeypatch
):
    clips = generated(18, 10)
    names = [f'{v.parent.name}/{v.name}' for v in classes.glob('*/*')]

    def run(labels):
        """Measure with labels of a file, without names of classes."""
        path = tmp_path / 'labels.csv'
        lines = [f'{name},{label}\n' for name, label in labels.items()]
        path.write_text('video,label\n' + ''.join(lines))
        real_data = dict(data_root=str(classes), labels=str(path))
        before = statistics(cache_home)
        found = measure_classes(
            class_metrics(classes, real_data=real_data), clips
        )
        return found, len(statistics(cache_home) - before)

    measure_all([fvd(classes, **UNLABELLED)], clips)
    labels = {name: 'abcd'.index(name[0]) for name in names}
    found, new = run(labels)
    assert new == 1
    expected = measure_classes(class_metrics(classes), clips)
    numbers = str.maketrans('abcd', '0123')
    assert found == {
        name[:-1] + name[-1].translate(numbers) if '/' in name else name: value
        for name, value in expected.items()
    }
    with monkeypatch.context() as patch:
        patch.delattr(VideoDataset, '__getitem__')
        assert run(labels) == (found, 0)
    swapped = {name: [1, 0, 2, 3][label] for name, label in labels.items()}
    other, new = run(swapped)
    assert new == 1
    assert other['FVD10'] == found['FVD10']
    assert other['FVD10/0'] != found['FVD10/0']


UNLABELLED = dict(num_frames=10, detector=dict(type='Means'))


def test_without_classes_they_cannot_be_compared(classes, tmp_path):
    with pytest.raises(InputError, match='no labels: set labels of real_data'):
        labelled(classes, real_data=dict(data_root=str(classes)))
    path = tmp_path / 'labels.json'
    names = [f'{v.parent.name}/{v.name}' for v in classes.glob('*/*')]
    path.write_text(json.dumps({'labels': [[n, [0.5, 0.5]] for n in names]}))
    real_data = dict(data_root=str(classes), labels=str(path))
    with pytest.raises(InputError, match='other labels'):
        labelled(classes, real_data=real_data)
    metric = labelled(classes)
    samples = [dict(video=clip) for clip in generated(2, 10)]
    for batch in (
        {},
        dict(c=torch.zeros(2, 0)),
        dict(c=torch.eye(3)[:2]),
        dict(c=torch.full((2, 4), 0.25)),
        dict(c=torch.eye(4)[:1]),
    ):
        with pytest.raises(InputError, match='label of 4 classes'):
            metric.process(batch, samples)


def test_no_class_with_enough_clips_gives_no_mean(classes):
    found = measure_classes(class_metrics(classes), generated(4, 10), 'abcd')
    assert set(found) == {'FVD10', 'FVD10-se'}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('make', 'data'), [('all_metrics', 'frames'), ('class_metrics', 'classes')]
)
def test_two_processes_change_nothing(make, data, request, tmp_path):
    """Shares of 12 and 11 clips, and real ones divided otherwise."""
    root = request.getfixturevalue(data)
    program = """
        import json, sys
        import numpy as np, torch
        import torch.distributed as dist
        root, here, make = sys.argv[1:]
        sys.path.insert(0, here)
        import test_metrics
        dist.init_process_group('gloo')
        rank = dist.get_rank()
        clips = torch.from_numpy(np.load('clips.npy'))
        c = torch.eye(4)[torch.arange(len(clips)) % 4]
        metrics = getattr(test_metrics, make)(root, cache=False)
        evaluator = test_metrics.Evaluator(metrics)
        for inds in torch.arange(len(clips))[rank::2].split(3):
            evaluator.process(
                [dict(video=clips[i]) for i in inds],
                dict(index=inds, c=c[inds]))
        print(json.dumps(evaluator.evaluate(len(clips))))
        dist.destroy_process_group()
    """
    clips = generated(23, 10)
    np.save(tmp_path / 'clips.npy', clips)
    here = os.path.dirname(__file__)
    said = run_program_twice(program, tmp_path, root, here, make)
    first, second = (json.loads(text.splitlines()[-1]) for text in said)
    assert first == second
    metrics = globals()[make](root)
    expected = measure_classes(metrics, clips, ('abcd' * 6)[:23])
    assert first == pytest.approx(expected, rel=1e-9)


def test_golden_numbers(frames):
    """What the metrics gave when they were written."""
    found = measure_all(all_metrics(frames), generated(23, 10))
    assert found == pytest.approx(GOLDEN, rel=1e-6)


GOLDEN = {
    'FVD9': 10.0335125548,
    'FVD9-se': 5.22013286958,
    'FID': 10.2401337931,
    'FID-se': 5.23831982094,
    'KVD9': -622816.157825,
    'KVD9-se': 564115.256214,
    'KID': -158400.434641,
    'KID-se': 501319.58908,
    'Precision9': 1,
    'Precision9-se': 0,
    'Recall9': 0.928571428571,
    'Recall9-se': 0.0714285714286,
    'Density9': 1.20869565217,
    'Density9-se': 0.114192999979,
    'Coverage9': 1,
    'Coverage9-se': 0,
    'Precision': 0.565217391304,
    'Precision-se': 0.10568965974,
    'Recall': 0.925,
    'Recall-se': 0.0421763696143,
    'Density': 1.00869565217,
    'Density-se': 0.11960294051,
    'Coverage': 0.7,
    'Coverage-se': 0.0733799385705,
    'ISv9': 1.28562710653,
    'ISv9-std': 0.227844140008,
    'ISv9-se': 0.0759480466692,
    'IS': 1.29076952356,
    'IS-std': 0.225084209116,
    'IS-se': 0.0750280697052,
}


def test_metrics_of_the_same_clips_share_their_features(frames, monkeypatch):
    metrics = all_metrics(frames)
    assert len({id(metric.detector) for metric in metrics}) == 1
    other = dict(detector=dict(type='Means', digest='other'))
    assert fvd(frames, **other).detector is not metrics[0].detector
    seen = []
    monkeypatch.setattr(Means, 'seen', seen)
    for metric in metrics[:6]:
        assert metric.real.num == (14 if metric.num_frames == 9 else 40)
    # 14 clips of 9 frames and 40 of one: in files since the first asked.
    assert sum(num * length for num, length in seen) == 14 * 9 + 40
    seen.clear()
    samples = [dict(video=clip) for clip in generated(5, 10)]
    for metric in metrics:
        metric.process({}, samples)
    # Features and probabilities, each of clips and of first frames.
    assert sorted(seen) == [(5, 1)] * 2 + [(5, 9)] * 2


def test_a_detector_gets_few_frames_at_a_time(frames, monkeypatch):
    """Or one clip, however long."""
    seen = []
    monkeypatch.setattr(Means, 'seen', seen)
    settings = dict(detector=dict(type='Means'))
    metrics = [
        fvd(frames, num_frames=9, **settings),
        fvd(frames, num_frames=1, clips_per_video=10, **settings),
    ]
    for metric in metrics:
        metric.process({}, [dict(video=clip) for clip in generated(10, 10)])
    assert seen == [(7, 9), (3, 9), (64, 1), (36, 1)]
    long = fvd(frames, **settings)
    long.num_frames = long.span = 100
    seen.clear()
    long.process({}, [dict(video=clip) for clip in generated(2, 100)])
    assert seen == [(1, 100)] * 2


# Which generated clips.


def test_frames_of_clips_are_images_until_there_are_enough(frames):
    """The first three frames of each, 20 in all; scipy's distance."""
    metric = fvd(
        frames,
        num_frames=1,
        num_real=None,
        num_fake=20,
        clips_per_video=3,
        detector=dict(type='Means'),
    )
    clips = generated(9, 10)
    result = measure_all([metric], clips)
    real = torch.from_numpy(
        np.concatenate([moving_disc(i, 10) for i in range(14)])
    )
    means = Means()
    sets = []
    for images in (clips[:, :3].flatten(0, 1)[:20], real):
        x = means.features(images[:, None]).double().numpy()
        sets.append((x.mean(0), np.cov(x.T, bias=True)))
    (mean_a, cov_a), (mean_b, cov_b) = sets
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = np.square(mean_a - mean_b).sum() + np.trace(
        cov_a + cov_b - 2 * root
    )
    assert result['FID'] == pytest.approx(expected, rel=1e-4)


def test_metrics_of_long_and_of_many_clips_share_a_loop(frames):
    """As in published protocols: long clips first, then short ones."""
    seeds = SeedDataset(6, 10, extra_videos=5, extra_frames=2)
    clips = generated(11, 10)
    settings = dict(detector=dict(type='Means'), num_real=8)
    metrics = [
        fvd(frames, num_frames=10, num_fake=6, **settings),
        fvd(frames, num_frames=1, num_fake=21, clips_per_video=2, **settings),
    ]
    evaluator = Evaluator(metrics)
    loader = DataLoader(seeds, batch_size=4, collate_fn=pseudo_collate)
    for batch in loader:
        samples = [
            dict(video=clips[seed][: len(t)])
            for seed, t in zip(batch['seed'], batch['t'])
        ]
        evaluator.process(samples, batch)
    assert metrics[0]._fake.num == 6
    assert metrics[1]._fake.num == 21
    found = evaluator.evaluate(len(seeds))
    alone = [
        measure_all([fvd(frames, num_frames=10, **settings)], clips[:6]),
        measure_all(
            [
                fvd(
                    frames,
                    num_frames=1,
                    num_fake=21,
                    clips_per_video=2,
                    **settings,
                )
            ],
            clips,
        ),
    ]
    assert found == pytest.approx(alone[0] | alone[1], rel=1e-9)


def test_a_seed_that_comes_twice_counts_once(frames):
    """As samplers pad the last batch; where sums are kept, it is told."""
    metric = KernelDistance(
        9, 40, SIZE, dict(data_root=str(frames)), dict(type='Means')
    )
    clips = generated(7, 9)
    once = measure_all([metric], clips)
    assert measure_all([metric], clips, order=[*range(7), 2]) == once


def test_a_kernel_of_ones_own_is_named_and_computed(frames):
    """JEDi's, here a tenth of it: by numpy, of the features of all clips."""
    settings = dict(
        num_frames=9,
        num_real=40,
        resolution=SIZE,
        real_data=dict(data_root=str(frames)),
        detector=dict(type='Means'),
    )
    metric = KernelDistance(degree=2, offset=0, biased=True, **settings)
    name = 'KVD9-degree2-offset0-biased'
    assert metric.result_names == [name, f'{name}-se']
    clips = generated(7, 9)
    x, y = (
        Means().features(each).double() for each in (clips, real_clips(metric))
    )
    xx, yy, xy = (
        float(((a @ b.T / 12) ** 2).mean())
        for a, b in ((x, x), (y, y), (x, y))
    )
    found = measure_all([metric], clips)
    assert found[name] == pytest.approx(1000 * (xx + yy - 2 * xy), rel=1e-6)
    assert found[f'{name}-se'] > 0
    linear = KernelDistance(degree=1, offset=0.25, **settings)
    assert linear.name == 'KVD9-degree1-offset0.25'
    for wrong in (dict(degree=0), dict(offset=-1)):
        with pytest.raises(InputError, match=r'KernelDistance.* at least'):
            KernelDistance(**wrong, **settings)


def test_fewer_clips_than_asked_for_are_told(frames, monkeypatch):
    texts = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', texts.append)
    measure_all([fvd(frames, num_fake=30)], generated(4, 9))
    assert any('14 real clips' in text for text in texts)
    wanted = '4 generated clips instead of the requested 30'
    assert any(wanted in text for text in texts)


# Which real ones.


def real_shown(metric, monkeypatch):
    """All frames that the detector is shown for the real side."""
    shown = []
    features = Means.features
    with monkeypatch.context() as patch:
        patch.setattr(
            Means,
            'features',
            lambda self, video: shown.extend(video) or features(self, video),
        )
        metric.real  # noqa: B018
    return torch.stack(shown)


@pytest.mark.parametrize(
    ('changes', 'chosen'),
    [
        (dict(num_real=7), [20 * i for i in range(7)]),
        (dict(num_real=35), [4 * i for i in range(35)]),
        (dict(num_real=35, first_real=True), list(range(35))),
        (dict(num_real=35, published=True), list(range(140))),
        (dict(num_real=None), list(range(140))),
        (dict(num_real=1000), list(range(140))),
    ],
)
def test_real_images_are_frames_of_all_videos(
    frames, monkeypatch, changes, chosen
):
    metric = fvd(frames, num_frames=1, detector=dict(type='Means'), **changes)
    shown = real_shown(metric, monkeypatch)
    every = np.concatenate([moving_disc(i, 10) for i in range(14)])
    assert torch.equal(shown[:, 0], torch.from_numpy(every[chosen]))


@pytest.mark.parametrize('name', ['first_real', 'published'])
def test_the_published_protocol_takes_the_first_videos(
    frames, monkeypatch, name
):
    settings = dict(num_real=5, detector=dict(type='Means'))
    metric = fvd(frames, **{name: True}, **settings)
    shown = real_shown(metric, monkeypatch)
    expected = real_clips(metric)
    assert torch.equal(shown, expected[:5])
    spread = real_shown(fvd(frames, **settings), monkeypatch)
    assert torch.equal(spread, expected[[0, 2, 5, 8, 11]])


def test_the_published_kid_takes_the_first_million_images(frames):
    metric = KernelDistance(
        num_frames=1,
        num_real=7,
        resolution=SIZE,
        real_data=dict(data_root=str(frames)),
        detector=dict(type='Means'),
        published=True,
    )
    assert metric.num_real == 1_000_000
    assert metric.first_real


def test_a_damaged_video_gives_no_images(
    tmp_path, monkeypatch, warnings_logged
):
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        write_frames(tmp_path / str(i), moving_disc(i, 9), damaged=i == 1)
    metric = fvd(
        tmp_path, num_frames=1, num_real=None, detector=dict(type='Means')
    )
    shown = real_shown(metric, monkeypatch)
    expected = np.concatenate([moving_disc(i, 9) for i in (0, 2)])
    assert torch.equal(shown[:, 0], torch.from_numpy(expected))
    assert any('left out' in text for text in warnings_logged)


@pytest.mark.parametrize('published', [False, True])
def test_protocols_by_their_published_names(published):
    """The numbers in the names, and the one switch."""
    config = load_config(
        ROOT / 'configs/stylegan_v/ucf101.py',
        dict(
            num_test_frames=128,
            num_test_images=50000,
            published_protocol=published,
        ),
    )
    images = dict(num_frames=1, clips_per_video=16, num_fake=50000)
    clips = dict(num_frames=16, num_fake=2048)
    real = dict(num_real=2048, published=published)
    for name, kind, expected in [
        ('fvd2048_16f', FrechetVideoDistance, clips | real),
        (
            'fvd2048_128f',
            FrechetVideoDistance,
            clips | real | dict(num_frames=128),
        ),
        (
            'fvd2048_128f_subsample8f',
            FrechetVideoDistance,
            clips | real | dict(frame_stride=8),
        ),
        (
            'fid50k_full',
            FrechetVideoDistance,
            images | dict(num_real=50000, published=published),
        ),
        (
            'kid50k_full',
            KernelDistance,
            images | dict(num_real=50000, published=published),
        ),
        ('is50k', InceptionScore, images),
        ('isv2048_ucf', InceptionScore, clips),
        ('kvd2048_16f', KernelDistance, clips | real),
        ('pr2048_16f', PrecisionRecall, clips | real),
    ]:
        found = config[name]
        assert found.type == kind.__name__
        assert found.resolution == 256
        assert {key: found.get(key) for key in expected} == expected, name


# Standard errors.


def test_the_error_of_the_distance_is_a_jackknife(frames):
    clips = generated(23, 9)
    metric = fvd(frames, detector=dict(type='Means'))
    found = measure_all([metric], clips)['FVD9-se']
    real = metric.real.stats
    features = Means().features(clips)
    values = []
    for digit in range(10):
        stats = FeatureStats(12)
        stats.append(features[torch.arange(23) % 10 != digit])
        values.append(frechet_distance(stats, real))
    expected = np.sqrt(9 * np.var(values))
    assert found == pytest.approx(expected, rel=1e-6)


def test_two_clips_give_no_error(frames):
    assert list(measure(fvd(frames), generated(2))) == ['FVD-random']


# The cache, again.


def test_without_cache_nothing_is_read_or_written(frames, cache_home):
    clips = generated(6)
    expected = measure(fvd(frames), clips)
    for file in statistics(cache_home):
        file.write_bytes(b'damaged')
    before = {file: file.read_bytes() for file in statistics(cache_home)}
    assert measure(fvd(frames, cache=False), clips) == expected
    assert {f: f.read_bytes() for f in statistics(cache_home)} == before


def save_often(value, path):
    rows = FeatureRows()
    rows.append(torch.full((500, 64), value), 0)
    for _ in range(30):
        rows.save(path)


def test_processes_that_write_at_once_leave_a_whole_file(tmp_path):
    """Each writes its own numbers, while another reads."""
    path = tmp_path / 'features.npz'
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=save_often, args=(value, path))
        for value in (0.0, 1.0)
    ]
    for process in processes:
        process.start()
    reads = 0
    while any(process.is_alive() for process in processes):
        if path.exists():
            features = FeatureRows.load(path).features
            assert features.shape == (500, 64)
            assert features.eq(features[0, 0]).all()
            reads += 1
    assert reads > 3
    assert [process.exitcode for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


# Wrong settings, again.


def test_a_detector_without_probabilities_is_refused():
    with pytest.raises(InputError, match=r'probabilities, which RandomI3D'):
        InceptionScore(16, SIZE, dict(type='RandomI3D'))


def test_only_inceptions_distance_of_images_is_called_fid(frames, monkeypatch):
    def names():
        return {metric.name for metric in all_metrics(frames)}

    usual = {'FVD9', 'FID', 'KVD9', 'KID', 'Precision9', 'Precision'}
    assert names() == usual | {'ISv9', 'IS'}
    monkeypatch.setattr(Means, 'name', 'Own', raising=False)
    assert names() == {
        'FVD9-Own', 'FD-Own', 'KVD9-Own', 'KD-Own', 'Precision9-Own',
        'Precision-Own', 'ISv9-Own', 'IS-Own',
    }  # fmt: skip
    monkeypatch.setattr(Means, 'is_random', True)
    assert 'FD-random' in names()


@pytest.mark.parametrize(
    'name', ['num_frames', 'num_fake', 'clips_per_video', 'frame_stride']
)
def test_numbers_must_be_positive(frames, name):
    with pytest.raises(InputError, match=f'{name}=0'):
        fvd(frames, **{name: 0})


def test_too_few_clips_are_refused_before_any_work(frames):
    settings = dict(resolution=SIZE, detector=dict(type='Means'))
    real = dict(num_real=40, real_data=dict(data_root=str(frames)))
    with pytest.raises(InputError, match=r'num_fake=9 must be at least 10'):
        InceptionScore(9, num_fake=9, **settings)
    with pytest.raises(InputError, match='num_fake=5 must be at least 6'):
        PrecisionRecall(9, num_fake=5, **settings, **real)
    with pytest.raises(InputError, match='num_real=5 must be at least 6'):
        PrecisionRecall(9, **settings, **(real | dict(num_real=5)))


def test_names_of_long_clips_tell_so_with_random_weights(videos):
    assert fvd(videos, num_frames=16).name == 'FVD-random'
    assert fvd(videos, num_frames=17).name == 'FVD17-random'
    assert fvd(videos, frame_stride=2).name == 'FVD9x2-random'


# Real clips of other data sets.


@pytest.fixture
def halves(frames, tmp_path):
    """The videos of ``frames`` in two folders."""
    names = sorted(path.name for path in frames.iterdir())
    for folder, some in (('one', names[:7]), ('two', names[7:])):
        (tmp_path / folder).mkdir()
        for name in some:
            (tmp_path / folder / name).symlink_to(frames / name)
    return [
        dict(type='VideoDataset', data_root=str(tmp_path / folder))
        for folder in ('one', 'two')
    ]


def distance(num_frames, real_data, **changes):
    settings = dict(
        num_real=200,
        resolution=SIZE,
        real_data=real_data,
        detector=dict(type='Means'),
    )
    return FrechetVideoDistance(num_frames, **(settings | changes))


def two_distances(*args, **changes):
    """Of clips of all 10 frames, which lie nowhere else, and of images."""
    return [distance(number, *args, **changes) for number in (10, 1)]


def test_wrapped_videos_are_those_of_one_folder(frames, halves):
    clips = generated(11, 10)
    whole = dict(data_root=str(frames))
    expected = measure_all(two_distances(whole), clips)
    both = dict(type='ConcatDataset', datasets=halves)
    found = measure_all(two_distances(both), clips)
    assert found == pytest.approx(expected, rel=1e-9)
    # Each video twice is the same distribution.
    twice = dict(type='RepeatDataset', times=2, dataset=both)
    metrics = two_distances(twice, num_real=400)
    assert measure_all(metrics, clips) == pytest.approx(expected, rel=1e-6)
    assert [metric.real.num for metric in metrics] == [28, 280]
    (one,) = halves[:1]
    other = measure_all(two_distances(one), clips)
    assert other['FID'] != pytest.approx(expected['FID'], rel=1e-3)


def test_wrapped_videos_are_cached_by_what_is_in_them(halves, cache_home):
    both = dict(type='ConcatDataset', datasets=halves)
    for real_data, number in (
        (both, 1),
        (both, 1),
        (dict(both, datasets=halves[::-1]), 2),
        (dict(both, datasets=[dict(halves[0], seed=3), halves[1]]), 3),
    ):
        _ = distance(10, real_data).real
        assert len(statistics(cache_home)) == number


class OwnClips(torch.utils.data.Dataset):
    """A data set that knows nothing of videos, files or this package."""

    def __init__(self, first, count, num_frames=10):
        self.seeds = range(first, first + count)
        self.num_frames = num_frames

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, index):
        clip = moving_disc(self.seeds[index], self.num_frames)
        return dict(video=torch.from_numpy(clip), name=str(index))


@pytest.fixture
def own_clips():
    DATASETS.register_module(module=OwnClips, force=True)
    yield dict(type='OwnClips', first=0, count=14)
    DATASETS.module_dict.pop('OwnClips')


def test_a_data_set_of_the_users_own_gives_real_clips(
    frames, own_clips, cache_home
):
    clips = generated(11, 10)
    # These are the same discs.
    files = distance(10, dict(data_root=str(frames)), cache=False)
    expected = measure_all([files], clips)
    found = measure_all([distance(10, own_clips)], clips)
    assert found == pytest.approx(expected, rel=1e-9)
    assert not statistics(cache_home)
    # As images, each clip counts once.
    assert distance(1, dict(own_clips, num_frames=1)).real.num == 14


def test_protocols_know_the_clips_of_any_data_set(halves, own_clips):
    both = dict(type='ConcatDataset', datasets=halves)
    digests = [
        distance(10, real_data).protocol(5)['data_digest']
        for real_data in (
            both,
            dict(both),
            dict(both, datasets=halves[::-1]),
            dict(type='RepeatDataset', times=2, dataset=both),
            own_clips,
            dict(own_clips),
            dict(own_clips, first=1),
        )
    ]
    assert digests[0] == digests[1]
    assert digests[4] == digests[5]
    assert len({*digests}) == 5


def test_clips_of_other_sizes_are_named(own_clips):
    with pytest.raises(
        InputError,
        match=r'OwnClips must have a video, uint8 \[10, 3, 32, 32\], got '
        r'uint8 \[7, 3, 32, 32\]',
    ):
        distance(10, dict(own_clips, num_frames=7))
    with pytest.raises(InputError, match='OwnClips: FVD10 needs at '):
        distance(10, dict(own_clips, count=1))
    with pytest.raises(InputError, match='but these have no labels'):
        distance(10, own_clips, per_class=True)


def test_distances_by_class_of_wrapped_videos(classes):
    clips = generated(len(GENERATED), 10)
    expected = measure_classes(class_metrics(classes), clips)
    one = dict(type='VideoDataset', data_root=str(classes), labels='folder')
    wrapped = dict(type='RepeatDataset', times=1, dataset=one)
    found = measure_classes(class_metrics(classes, real_data=wrapped), clips)
    assert found == pytest.approx(expected, rel=1e-9)
