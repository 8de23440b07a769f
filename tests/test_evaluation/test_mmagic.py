"""mmagic's own metrics on frames, with small networks in place of theirs."""

import io
import json
import multiprocessing
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from real_process import ROOT, run_program
from scipy.linalg import sqrtm
from scipy.special import softmax
from torch import Tensor, nn

from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine import VideoGANRunner
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation import MMagicFrames

RESOLUTION, NUM_FRAMES = 4, 2
# Other weights for each colour, so that their order matters.
WEIGHTS = np.array([1, 2, 4])


class Colours(nn.Module):
    """Called as the published Inception and VGG files are.

    Features are the mean colours; probabilities, their softmax.
    """

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]) / 255)

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        assert img.dtype == torch.uint8
        features = img.float().mean([2, 3]) * self.weights
        return features if return_features else features.softmax(1)


@pytest.fixture
def mmagic(monkeypatch, tmp_path):
    """The full mmagic, with its networks and its caches in a folder here."""
    pytest.importorskip(
        'mmagic.evaluation',
        reason='needs the full install',
        exc_type=ImportError,
    )
    functional = sys.modules['mmagic.evaluation.functional.inception_utils']
    monkeypatch.setattr(functional, 'MMAGIC_CACHE_DIR', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # PrecisionAndRecall looks nowhere else.
    (tmp_path / 'work_dirs/cache').mkdir(parents=True)
    script = torch.jit.script(Colours())
    script.save(str(tmp_path / 'inception.pt'))
    script.save('work_dirs/cache/vgg16.pt')
    return tmp_path


def draw(seed, num_clips, low=0, high=256):
    """Colours of frames, [N, T, 3], uint8."""
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (num_clips, NUM_FRAMES, 3), np.uint8)


def as_clips(colours):
    """Plain frames as a model's outputs."""
    videos = torch.from_numpy(colours)[..., None, None]
    return [
        {'video': video.expand(-1, -1, RESOLUTION, RESOLUTION)}
        for video in videos
    ]


def as_zip(colours, path):
    """Plain frames as a data set."""
    with zipfile.ZipFile(path, 'w') as archive:
        for i, clip in enumerate(colours):
            for t, colour in enumerate(clip):
                stream = io.BytesIO()
                size = (RESOLUTION, RESOLUTION)
                Image.new('RGB', size, tuple(map(int, colour))).save(
                    stream, 'png'
                )
                archive.writestr(f'{i:03d}/{t}.png', stream.getvalue())
    return path


def measure(metric, real, fake):
    """Two batches of unequal size, as loops give them."""
    adapter = MMagicFrames(
        metric,
        num_frames=NUM_FRAMES,
        num_real=1000,
        resolution=RESOLUTION,
        real_data=dict(data_root=str(as_zip(real, 'real.zip'))),
        batch_size=3,
    )
    clips = as_clips(fake)
    adapter.process({}, clips[:2])
    adapter.process({}, clips[2:])
    return adapter.evaluate(len(clips)), adapter


def features(colours):
    return colours.reshape(-1, 3) * WEIGHTS / 255


def test_frechet_inception_distance(mmagic):
    real, fake = draw(0, 6), draw(1, 5, low=100)
    metric = dict(
        type='mmagic.FrechetInceptionDistance',
        inception_path=str(mmagic / 'inception.pt'),
    )
    result, _ = measure(metric, real, fake)
    a, b = features(real), features(fake)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(
        cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real
    )
    assert result['FID/fid'] == pytest.approx(expected, rel=1e-4)
    # mmagic's cache does not take other videos or sizes for these.
    other, _ = measure(metric, fake, fake)
    assert other['FID/fid'] == pytest.approx(0, abs=1e-6)


def test_inception_score_twice(mmagic):
    fake = draw(1, 6)
    metric = dict(
        type='mmagic.InceptionScore',
        splits=2,
        inception_path=str(mmagic / 'inception.pt'),
    )
    result, adapter = measure(metric, draw(0, 2), fake)
    p = softmax(features(fake), axis=1)
    scores = [
        np.exp((q * np.log(q / q.mean(0))).sum(1).mean())
        for q in np.split(p, 2)
    ]
    assert result['IS/is'] == pytest.approx(np.mean(scores), rel=1e-4)
    assert result['IS/is_std'] == pytest.approx(np.std(scores), rel=1e-3)
    # As after the next validation: nothing is left of the first one.
    adapter.process({}, as_clips(fake[:3]))
    again = adapter.evaluate(3)
    p = softmax(features(fake[:3]), axis=1)
    scores = [
        np.exp((q * np.log(q / q.mean(0))).sum(1).mean())
        for q in np.split(p, 2)
    ]
    assert again['IS/is'] == pytest.approx(np.mean(scores), rel=1e-4)


def test_precision_and_recall(mmagic):
    real = draw(0, 8, high=100)
    # A quarter among the real ones, the others far away.
    fake = np.concatenate([real[:2], draw(1, 6, low=200)])
    result, _ = measure(
        dict(type='mmagic.PrecisionAndRecall', k=3), real, fake
    )

    def share_within(points, others):
        """Points within the third neighbour's distance of any other."""
        within = np.linalg.norm(others[:, None] - others, axis=2)
        radius = np.sort(within, axis=1)[:, 3]
        distance = np.linalg.norm(points[:, None] - others, axis=2)
        return (distance <= radius).any(1).mean()

    a, b = features(real), features(fake)
    assert result['PR/precision'] == share_within(b, a) == 0.25
    assert result['PR/recall'] == pytest.approx(share_within(a, b))


CONFIG = f"""
_base_ = ['{ROOT}/configs/stylegan_v/demo_moving_shapes.py']
data_root = 'real.zip'
resolution = 16
num_test_videos = 5
num_test_frames = {NUM_FRAMES}
model = dict(
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
        channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
on_frames = dict(
    type='MMagicFrames', num_frames={NUM_FRAMES}, num_real=1000,
    resolution='= resolution', real_data=dict(data_root='= data_root'),
)
test_evaluator = [
    dict(metric=dict(type='mmagic.FrechetInceptionDistance',
                     inception_path='inception.pt'), **on_frames),
    dict(metric=dict(type='mmagic.InceptionScore',
                     inception_path='inception.pt'), **on_frames),
    dict(metric=dict(type='mmagic.PrecisionAndRecall'), **on_frames),
]
"""


def test_a_generator_by_config(mmagic):
    (mmagic / 'config.py').write_text(CONFIG)
    real = draw(0, 6)
    as_zip(real, 'real.zip')
    config = load_config('config.py', {'work_dir': 'work'})
    runner = VideoGANRunner.from_cfg(config)
    metrics = runner.test()
    assert metrics.keys() == {
        'FID/fid', 'FID/mean', 'FID/cov', 'IS/is', 'IS/is_std',
        'PR/precision', 'PR/recall',
    }  # fmt: skip
    sampler = runner.model.sampler()
    videos = [
        torch.cat(list(sampler.sample_video(seed, torch.arange(2))))
        for seed in range(5)
    ]
    fake = torch.cat(videos).double().mean([2, 3]).numpy()
    a, b = features(real), features(fake)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    assert metrics['FID/mean'] == pytest.approx(expected, rel=1e-4)
    # Once more, as in the next validation.
    assert runner.test() == metrics


def measure_share(rank):
    """Be one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'file://{Path("meeting").absolute()}', rank=rank, world_size=2
    )
    metric = MMagicFrames(
        dict(
            type='mmagic.FrechetInceptionDistance',
            inception_path='inception.pt',
        ),
        num_frames=NUM_FRAMES,
        num_real=1000,
        resolution=RESOLUTION,
        real_data=dict(data_root='real.zip'),
    )
    clips = torch.from_numpy(np.load('clips.npy'))[rank::2]
    metric.process({}, [{'video': clip} for clip in clips])
    Path(f'{rank}.json').write_text(json.dumps(metric.evaluate(5)))
    # Left to the interpreter's end, gloo's threads now and then abort.
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_shares(mmagic):
    real, fake = draw(0, 5), draw(1, 5, low=100)
    as_zip(real, 'real.zip')
    clips = [clip['video'] for clip in as_clips(fake)]
    np.save('clips.npy', torch.stack(clips))
    # Forked, as the import of mmagic takes seconds.
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=measure_share, args=(rank,))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    first, second = (
        json.loads((mmagic / f'{rank}.json').read_text()) for rank in range(2)
    )
    assert first == second
    # The fifth clip is one more than the other process has.
    a, b = features(real), features(fake[:4])
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    assert first['FID/mean'] == pytest.approx(expected, rel=1e-4)


def test_what_does_not_fit_is_named(mmagic):
    metric = dict(
        type='mmagic.InceptionScore',
        inception_path=str(mmagic / 'inception.pt'),
    )
    _, adapter = measure(metric, draw(0, 2), draw(1, 10))
    (clip,) = as_clips(draw(0, 1))
    with pytest.raises(InputError, match='have 1 of 4 x 4'):
        adapter.process({}, [{'video': clip['video'][:1]}])
    with pytest.raises(InputError, match='have 2 of 3 x 4'):
        adapter.process({}, [{'video': clip['video'][..., :3]}])


def test_without_mmagic_it_says_what_is_missing(tmp_path, monkeypatch):
    # None: as if it were not installed.
    for name in [n for n in sys.modules if n.split('.')[0] == 'mmagic']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'mmagic', None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'mmagic.NoSuch is not there'):
        measure(dict(type='mmagic.NoSuch'), draw(0, 2), draw(1, 2))


def test_mmagic_is_imported_only_if_asked_for(tmp_path):
    program = (
        'import sys, stylegan_v_mm.evaluation\n'
        'assert "mmagic" not in sys.modules'
    )
    process = run_program(program, tmp_path)
    assert process.returncode == 0, process.stderr
