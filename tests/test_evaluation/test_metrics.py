"""FVD on real files: what it measures, what it depends on, its cache."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.linalg
import torch
from mmengine.evaluator import Evaluator
from PIL import Image
from torch import Tensor, nn

from stylegan_v_mm.datasets import VideoDataset
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import (
    FeatureStats,
    FrechetVideoDistance,
    InceptionTorchScript,
    RandomI3D,
    frechet_distance,
)
from stylegan_v_mm.video_io import write_video

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
    assert result['FVD-random'] == pytest.approx(expected, rel=1e-4)


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
    assert measure(metric, clips) == {'FID': pytest.approx(expected)}


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
    program = textwrap.dedent("""
        import sys
        import numpy as np
        import torch
        import torch.distributed as dist
        from stylegan_v_mm.evaluation import FrechetVideoDistance
        torch.set_num_threads(1)
        rank, folder, videos = int(sys.argv[1]), sys.argv[2], sys.argv[3]
        dist.init_process_group(
            'gloo', f'file://{folder}/meeting', rank=rank, world_size=2)
        metric = FrechetVideoDistance(
            9, 11, 32, dict(data_root=videos), dict(type='RandomI3D'))
        seen = []
        features = metric.detector.features
        def watch(video):
            seen.append(len(video))
            return features(video)
        clips = torch.from_numpy(np.load(f'{folder}/clips.npy'))[rank::2]
        for part in clips.split(3):
            metric.process({}, [dict(video=clip) for clip in part])
        metric.detector.features = watch
        result = metric.evaluate(13)
        np.save(f'{folder}/{rank}.npy', [result['FVD-random'], sum(seen)])
    """)
    clips = generated(13)
    np.save(tmp_path / 'clips.npy', clips)
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', program, str(rank), tmp_path, videos],
            env=os.environ | {'XDG_CACHE_HOME': str(tmp_path / 'cache')},
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
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
    metric.compute_metrics([stats_of(generated(3, 9))])
    shown = shown[-5:]
    expected = [metric.real_videos[i]['video'] for i in (0, 2, 4, 7, 9)]
    assert len(shown) == 5
    assert all(torch.equal(a, b) for a, b in zip(shown, expected))


def stats_of(clips):
    stats = FeatureStats(400)
    stats.append(RandomI3D().features(clips))
    return stats


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
    assert list(result) == [name]
    assert result[name] > 0
    assert fvd(videos, **settings).name == 'FVD-random'


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
        assert FeatureStats.load(file).num == 12


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
