"""Every config under configs/: what its header says, and a small run of it."""

import itertools
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stylegan_v_mm.checkpoints.loading import load_checkpoint
from stylegan_v_mm.config import load_config
from stylegan_v_mm.evaluation import InceptionTorchScript
from stylegan_v_mm.registry import MODELS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/stylegan_v').glob('*.py'))
# Of these, the headers say more.
DATA_SETS = [path for path in CONFIGS if not path.stem.startswith('demo_')]
VARIANTS = [path for path in CONFIGS if path.stem.endswith('_8xb2')]
# Where files lie, and the parameters of both networks.
LAYOUT = r'data/[\w/]*(?:<[\w<>/.]*\w|data\.mdb)'
SIZES = r'([\d.]+) \+ ([\d.]+) million'


def each(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda path: path.stem)


def said(path, pattern):
    """Find what the header of a config says, or that of its base."""
    text = path.read_text()
    header = re.match('(#.*\n)+', text)[0].replace('\n# ', ' ')
    found = re.findall(pattern, header)
    base = re.search(r"_base_ = \['\./(\w+\.py)'\]", text)
    if found or not base:
        return found[-1] if found else None
    return said(path.with_name(base[1]), pattern)


# What the headers say.


@each(DATA_SETS)
def test_the_number_of_parameters_is_what_the_header_says(path):
    with torch.device('meta'):
        model = MODELS.build(load_config(path).model)
    networks = model.generator, model.discriminator
    counts = [sum(p.numel() for p in n.parameters()) for n in networks]
    assert tuple(f'{n / 1e6:.1f}' for n in counts) == said(path, SIZES)


@each(DATA_SETS)
def test_the_layout_is_where_the_config_looks(path):
    config, where = load_config(path), said(path, LAYOUT)
    assert where.startswith(f'{config.data_root}/')
    in_classes = where.startswith(f'{config.data_root}/<class>/')
    assert config.labels != 'folder' or in_classes


@each(VARIANTS)
def test_a_variant_for_8_gpus_with_2_clips(path):
    full = load_config(path.with_name(path.name.replace('_8xb2', '')))
    small = load_config(path, {'num_processes': 8})
    assert small.train_dataloader.batch_size == 2
    assert small.model.num_frames == 2
    # The auto rule: 0.0002 R^2 / N.
    assert small.model.r1_gamma == pytest.approx(0.0002 * 256**2 / 16)
    # kimg counts frames.
    ratio = small.train_cfg.max_iters / full.train_cfg.max_iters
    assert ratio == pytest.approx(64 * 3 / (16 * 2), rel=1e-4)
    for key in ('data_root', 'labels', 'num_classes', 'motion_period', 'fps'):
        assert small[key] == full[key]


@each(CONFIGS)
def test_the_real_detector_is_asked_for_unless_it_is_a_demo(path):
    config = load_config(path)
    detector = dict(type='I3D')
    if path.stem.startswith('demo_'):
        detector = dict(type='RandomI3D')
    if config.images:
        detector = dict(
            type='InceptionTorchScript',
            path='checkpoints/inception-2015-12-05.pt',
        )
    assert config.detector == detector
    assert config.test_evaluator[0].detector == detector
    for metric in (config.fvd2048_16f, config.kvd2048_16f, config.pr2048_16f):
        assert metric.detector == detector
    assert config.fd50k_vgg16.detector == dict(type='VGG16')


# A small run.

SMALL = """
_base_ = ['{path}']
data_root = '{data_root}'
resolution = 16
batch_size = 4
max_iters = 2
num_workers = 0
log_interval = 1
preview_interval = checkpoint_interval = 2
preview_frames = 4
num_test_videos = 3
detector = {detector}
model = dict(
    generator=dict(
        z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim={motion_v_dim},
        time_enc_dim=4, channel_max=8,
    ),
    discriminator=dict(channel_max=8),
)
"""
NUM_FRAMES = 17  # one more than FVD16 takes
VALUES = {
    '<class>': ['walking', 'running'],
    '<frame>': [f'{i:06d}' for i in range(NUM_FRAMES)],
}


class SmallInception(nn.Module):
    """Called as the published file is; features of mean colours."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))

    def forward(
        self,
        img: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
    ) -> Tensor:
        colour = img.float().mean([2, 3])
        return self.scale * colour


def pictures(num_frames=NUM_FRAMES):
    """Draw a video of noise that moves, [T, 20, 20, 3], uint8."""
    noise = np.random.default_rng(0).integers(0, 255, (5, 5, 3), np.uint8)
    noise = cv2.resize(noise, (20, 20))
    return [np.roll(noise, i, axis=1) for i in range(num_frames)]


def write_video(path):
    codec = {'.avi': 'MJPG', '.mp4': 'mp4v'}[path.suffix]
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*codec), 25, (20, 20)
    )
    for picture in pictures():
        writer.write(picture)
    writer.release()


def write_lmdb(folder):
    lmdb = pytest.importorskip('lmdb')
    with (
        lmdb.open(str(folder), map_size=2**20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for i, picture in enumerate(pictures(6)):
            blob = cv2.imencode('.webp', picture)[1].tobytes()
            transaction.put(b'%040x' % i, blob)


def write_data(pattern, root):
    """Fill a folder with files in the layout that a pattern describes."""
    if pattern.endswith('data.mdb'):
        return write_lmdb(root)
    names = re.findall('<[a-z]+>', pattern)
    choices = [VALUES.get(name, ['2', '10', '1']) for name in names]
    frames = itertools.cycle(pictures())
    for values in itertools.product(*choices):
        file = pattern
        for name, value in zip(names, values):
            file = file.replace(name, value)
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in ('.avi', '.mp4'):
            write_video(path)
        else:
            cv2.imwrite(str(path), next(frames))


@pytest.fixture(scope='module')
def inception(tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'inception.pt'
    torch.jit.script(SmallInception()).save(str(path))
    return path


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Do without what takes longer than all the rest."""
    # The root of a matrix of 2048 x 2048.
    monkeypatch.setattr(InceptionTorchScript, 'num_features', 3)
    # Tiny tensors: more threads would wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@each([path for path in CONFIGS if path not in VARIANTS])
def test_a_small_run(path, tmp_path, run_script, inception):
    full = load_config(path)
    pattern = said(path, LAYOUT)
    if pattern is None:
        folder = '<class>/' if full.labels == 'folder' else ''
        pattern = f'{full.data_root}/{folder}<video>.mp4'
    write_data(pattern.removeprefix(f'{full.data_root}/'), tmp_path / 'data')
    detector = dict(_delete_=True, type='RandomI3D')
    if full.images:
        detector = dict(path=str(inception))
    text = SMALL.format(
        path=path,
        data_root=tmp_path / 'data',
        detector=detector,
        motion_v_dim=min(8, full.model.generator.get('motion_v_dim', 512)),
    )
    if full.num_classes:
        text += 'num_classes = 2\n'
    # mmengine's visualizers go by the config's name and the second.
    config = tmp_path / path.name
    config.write_text(text)

    work_dir = tmp_path / 'work'
    train = run_script('tools/train.py', config, '--work-dir', work_dir)
    assert train.returncode == 0, train.stderr
    checkpoint = work_dir / 'iter_2.pth'
    state = load_checkpoint(checkpoint)['state_dict']
    assert int(state['frames_seen']) == 2 * 4 * full.num_frames
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.open()]
    assert [line['iter'] for line in lines] == [1, 2]
    assert all(map(math.isfinite, lines[-1].values()))
    assert (work_dir / 'previews/iter_0000002.mp4').stat().st_size > 0

    out = tmp_path / 'metrics.json'
    test = run_script(
        'tools/test.py', config, checkpoint, '--work-dir', work_dir,
        '--out', out,
    )  # fmt: skip
    assert test.returncode == 0, test.stderr
    metrics = json.loads(out.read_text())
    assert metrics['FID' if full.images else 'FVD-random'] > 0
    assert all(map(math.isfinite, metrics.values()))

    out = tmp_path / 'samples'
    generate = run_script(
        'tools/generate.py', config, checkpoint, '--num-videos', 2,
        '--num-frames', 3, '--format', 'png', '--out', out,
    )  # fmt: skip
    assert generate.returncode == 0, generate.stderr
    for folder in ('000000', '000001'):
        frames = [cv2.imread(str(p)) for p in (out / folder).iterdir()]
        assert np.shape(frames) == (3, 16, 16, 3)
    assert np.ptp(frames) > 0
    still = np.array_equal(frames[0], frames[1])
    assert still == full.images
