"""Sampling, editing and inversion on a device, of which none is needed.

Networks of the published sizes, on a device that computes nothing: tensors of
the CPU that meet one of the device raise, and memory is counted.
"""

from itertools import chain

import numpy as np
import pytest
import torch
from fake_device import FakeDevice, needs_fake_device
from PIL import Image
from real_process import ROOT

from stylegan_v_mm import inference
from stylegan_v_mm.evaluation.detectors.lpips import LPIPS
from stylegan_v_mm.inference import (
    VideoGANInferencer,
    editing,
    export,
    inversion,
    regions,
)
from stylegan_v_mm.inference.inversion import invert
from stylegan_v_mm.models import Sampler
from stylegan_v_mm.models import sampler as sampler_module
from stylegan_v_mm.models.latents import Latents
from stylegan_v_mm.models.noise import MotionNoise
from stylegan_v_mm.registry import MODELS

GIB = 2**30


def channel_base(resolution):
    """As in the published models."""
    return 16384 if resolution < 512 else 32768


# Frames and by hand the most elements of a tensor of one: channels of the
# last block times its size, which an upsampling convolution enlarges by one.
@pytest.mark.parametrize(
    ('resolution', 'channels', 'frames'),
    [(32, 512, 481), (256, 64, 63), (512, 64, 15), (1024, 32, 7)],
)
def test_frames_of_a_pass_by_hand(resolution, channels, frames):
    with torch.device('meta'):
        network = MODELS.build(
            dict(
                type='StyleGANVGenerator',
                resolution=resolution,
                channel_base=channel_base(resolution),
            )
        )
    sampler = Sampler(network)
    largest = channels * (resolution + 1) ** 2
    assert sampler.frames_at_once() == frames
    assert frames * largest <= 2**28 < (frames + 1) * largest
    assert sampler.frames_at_once(5) == max(1, 2**28 // 5 // largest)
    assert sampler.frames_at_once(10**9) == 1
    # What mmcv's kernels refuse.
    if resolution == 512:
        assert 128 * channels * 512**2 == 2**31


def make_sampler(resolution, c_dim=0):
    """A network on the device, whose weights are never drawn."""
    with torch.device('gpu'):
        generator = MODELS.build(
            dict(
                type='StyleGANVGenerator',
                resolution=resolution,
                channel_base=channel_base(resolution),
                c_dim=c_dim,
            )
        )
    return Sampler(generator.eval().requires_grad_(False))


@pytest.fixture
def device():
    with FakeDevice() as device:
        yield device


def as_inferencer(sampler):
    inferencer = VideoGANInferencer.__new__(VideoGANInferencer)
    inferencer.model = sampler
    return inferencer


def latents_on_the_cpu(sampler, count):
    """As those of a file, or made by hand."""
    network = sampler.generator
    shape = count, network.num_ws, network.w_dim
    motions = [MotionNoise(seed) for seed in range(count)]
    return Latents(torch.randn(shape), motions)


def measure(device, run):
    """Run; return the elements of the largest tensor, and the bytes added."""
    before = device.peak = device.in_use
    device.largest = 0
    run()
    return device.largest, device.peak - before


@needs_fake_device
def test_sampling_stays_within_its_memory(device):
    sampler = make_sampler(1024)
    latents = latents_on_the_cpu(sampler, 9)
    shapes = []

    def run():
        # Three frames of nine videos at once are more than there may be.
        t = torch.arange(3)
        for videos in sampler.render(latents, t, chunk=128):
            shapes.append(tuple(videos.shape))
            assert videos.device.type == 'gpu'

    largest, added = measure(device, run)
    assert shapes == [(9, 1, 3, 1024, 1024)] * 3
    # Of 7 frames, 32 channels at 1025 x 1025.
    assert largest == 7 * 32 * 1025**2
    assert added < 4 * GIB


@needs_fake_device
def test_labels_of_the_cpu_go_to_the_device(device):
    sampler = make_sampler(256, c_dim=3)
    labels = torch.eye(3, dtype=torch.float64)[:2]
    latents = sampler.latents([0, 1], labels)
    assert latents.ws.device.type == 'gpu'
    latents.c = labels  # as of a file
    (videos,) = sampler.render(latents, torch.arange(2))
    assert videos.device.type == 'gpu'


@needs_fake_device
def test_files_are_exported_from_the_cpu(device, tmp_path, monkeypatch):
    """Whatever a network was trained on; it stays where it is."""
    sampler = make_sampler(256, c_dim=3)
    found = {}

    def trace(part):
        result = part(**part.draw(1))
        tensors = [result, *part.parameters(), *part.buffers()]
        found[part.output] = {x.device.type for x in tensors}, result.dtype

    monkeypatch.setattr(export, 'trace', trace)
    monkeypatch.setattr(export, 'save', lambda *_: None)
    monkeypatch.setattr(export, 'compare', lambda *_: 0.0)
    export.export_generator(sampler, tmp_path / 'files')
    names = ('ws', 'frames', 'motion_v')
    assert found == dict.fromkeys(names, ({'cpu'}, torch.float32))
    networks = sampler.generator, sampler.motion_encoder
    for weight in chain(*(network.parameters() for network in networks)):
        assert weight.device.type == 'gpu'


@needs_fake_device
@pytest.mark.parametrize('what', ['content', 'motion'])
def test_walks_stay_within_their_memory(device, what):
    sampler = make_sampler(1024)
    latents = latents_on_the_cpu(sampler, 3)
    frames = []

    def run():
        walk = as_inferencer(sampler).walk(
            latents, torch.arange(9), what, chunk=128
        )
        frames.extend(len(piece) for piece in walk)

    largest, added = measure(device, run)
    assert frames == [7, 2]
    assert largest == 7 * 32 * 1025**2
    assert added < 4 * GIB


@needs_fake_device
def test_short_videos_that_share_a_pass_are_whole(device):
    sampler = make_sampler(1024)
    latents = latents_on_the_cpu(sampler, 2)
    videos = as_inferencer(sampler).videos(latents, torch.arange(5), 128)
    assert [(i, sum(map(len, video))) for i, video in videos] == [
        (0, 5),
        (1, 5),
    ]


@needs_fake_device
def test_region_edits_stay_within_their_memory(device, monkeypatch):
    # Where the region is depends on values.
    monkeypatch.setattr(
        regions,
        'carry_mask',
        lambda mask, reference, features: mask.expand(len(features), -1, -1),
    )
    sampler = make_sampler(1024)
    latents = latents_on_the_cpu(sampler, 1)
    mask = torch.zeros(1024, 1024)
    mask[:99, :99] = 1
    shapes = []

    def run():
        t = torch.arange(5)
        pieces = regions.render_region(
            sampler, latents, latents.ws + 1, mask, t, 128
        )
        shapes.extend(tuple(piece.after.shape) for piece in pieces)

    largest, added = measure(device, run)
    assert shapes == [(3, 3, 1024, 1024), (2, 3, 1024, 1024)]
    assert largest == 3 * 32 * 1025**2
    assert added < 4 * GIB


def random_lpips():
    """LPIPS, but for the values of its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lpips = LPIPS()
    for head in lpips.heads:
        head.fill_(1 / len(head))
    return lpips


@needs_fake_device
def test_inversion_stays_within_its_memory(device):
    sampler = make_sampler(512, c_dim=3)
    lpips = random_lpips()
    told = []

    def run():
        found = invert(
            sampler,
            torch.zeros(9, 3, 512, 512, dtype=torch.uint8),
            torch.arange(9),
            c=torch.eye(3)[1],
            num_steps=1,
            num_candidates=1,
            num_starts=1,
            lpips=lpips,
            progress=lambda *words: told.append(words[2].shape),
        )
        assert found.latents.ws.shape == (1, 16, 512)
        assert found.frames.shape == (9, 3, 512, 512)

    largest, added = measure(device, run)
    assert told == [(9, 3, 512, 512)]
    # The last rendering, of all nine frames, is without gradients.
    assert largest == 9 * 64 * 513**2
    assert {weight.device.type for weight in lpips.parameters()} == {'gpu'}
    assert added < 8 * GIB


# The same numbers, in pieces.


# A video of one frame at a time; two or three of the frames of one.
@pytest.mark.parametrize(('num_frames', 'most'), [(1, 1), (5, 3)])
def test_inversion_in_pieces_is_the_same(
    inferencer, monkeypatch, num_frames, most
):
    target = inferencer.sample(seeds=[3], num_frames=num_frames)[0]
    assert inferencer.sampler.frames_at_once(5) > 3 * 5
    lpips = random_lpips()

    def run():
        told = []
        found = invert(
            inferencer.sampler,
            target,
            torch.arange(num_frames),
            num_steps=4,
            num_candidates=3,
            num_starts=3,
            lpips=lpips,
            progress=lambda step, loss, frames: told.append(frames),
        )
        return found, torch.stack(told)

    expected, frames = run()
    limit = 5 * most * 16 * 33**2
    monkeypatch.setattr(sampler_module, '_MOST_ELEMENTS', limit)
    monkeypatch.setattr(inversion, '_MOST_VGG_ELEMENTS', most * 64 * 64**2)
    found, told = run()
    # Adam's first steps are signs of gradients: rounding may turn a small one.
    np.testing.assert_allclose(found.losses[0], expected.losses[0], rtol=1e-4)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=3e-2)
    torch.testing.assert_close(told[0], frames[0], rtol=0, atol=1e-4)
    assert (told - frames).abs().mean() < 1e-2
    difference = found.frames.int() - expected.frames.int()
    assert difference.abs().float().mean() < 2


# Latents of a file.


@pytest.fixture
def on_the_device(files, device, monkeypatch):
    """Let the tools render, and write nothing, as there are no values."""
    rendered = []

    def use_up(pieces=(), *_, chunks=(), **__):
        for piece in chain(pieces, chunks):
            frames = piece if isinstance(piece, torch.Tensor) else piece[0]
            rendered.append(tuple(frames.shape))

    monkeypatch.setattr(inference, 'save_video', use_up)
    monkeypatch.setattr(editing, 'write_edit', use_up)
    monkeypatch.setattr(Latents, 'save', lambda self, path: None)
    return rendered


@pytest.fixture
def files(work_dir, tmp_path):
    """Latents of three videos, and a mask."""
    gan = VideoGANInferencer(work_dir, device='cpu')
    latents = gan.latents([3, 4, 5])
    codes = torch.zeros(30, 16)
    latents.motions[1] = MotionNoise(4, codes)
    latents.save(tmp_path / 'latents.safetensors')
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 4:20] = 255
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    return tmp_path


@needs_fake_device
def test_latents_of_a_file_go_to_the_device(device, work_dir, files):
    sampler = VideoGANInferencer(work_dir, device='gpu').sampler
    file = files / 'latents.safetensors'
    loaded = Latents.load(file, sampler.generator)
    assert loaded.ws.device.type == 'gpu'


@needs_fake_device
@pytest.mark.parametrize(
    ('tool', 'options', 'shapes'),
    [
        ('generate', '--interpolate content', {(6, 3, 32, 32)}),
        ('generate', '--interpolate motion --loop', {(6, 3, 32, 32)}),
        ('generate', '--mix-seed 8 --mix-layers 2-', {(6, 3, 32, 32)}),
        # A grid of nine videos.
        ('generate', '--decomposition', {(6, 3, 100, 100)}),
        ('edit', '--component 1', {(6, 3, 32, 32)}),
        ('edit', '--component 1 --method pca --layers 3-4', {(6, 3, 32, 32)}),
        ('edit', '--edited FILE', {(6, 3, 32, 32)}),
    ],
)
def test_tools_move_latents_of_a_file_to_the_device(
    on_the_device, work_dir, files, run_script, tool, options, shapes
):
    file = files / 'latents.safetensors'
    words = [str(file) if word == 'FILE' else word for word in options.split()]
    out = files / 'out'
    if {'--interpolate', '--decomposition'} & set(words):
        out = files / 'out.mp4'
    result = run_script(
        ROOT / f'tools/{tool}.py',
        work_dir,
        *('--latents', file, '--device', 'gpu', '--num-frames', 6),
        *('--out', out),
        *words,
    )
    assert result.returncode == 0, result.stderr
    assert set(on_the_device) == shapes
