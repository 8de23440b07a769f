"""MoCoGAN+SG2: the published discriminators, and that they train."""

import math
from pathlib import Path

import numpy as np
import pytest
import real_process
import torch
from torch import nn

from projects.mocogan_sg2.mocogan_sg2 import (
    MoCoGANDiscriminator,
    discriminator,
)
from stylegan_v_mm.config import load_config
from stylegan_v_mm.engine.optim import GANOptimWrapperConstructor
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.fakes import make_batch, make_fakes
from stylegan_v_mm.registry import MODELS, TRANSFORMS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'projects/mocogan_sg2/configs'
T = 16


def image_config(resolution, c_dim=0, channel_max=4, **options):
    return dict(
        type='StyleGANVDiscriminator',
        resolution=resolution,
        num_frames=1,
        c_dim=c_dim,
        concat_res=8,
        num_frames_div_factor=1,
        channel_max=channel_max,
        **options,
    )


def make(resolution=16, num_frames=T, c_dim=0, video_channels=2, **options):
    keys = ('channel_max', 'mbstd_group_size')
    image = {key: options.pop(key) for key in keys if key in options}
    return MoCoGANDiscriminator(
        image_config(resolution, c_dim, **image),
        num_frames=num_frames,
        video_channels=video_channels,
        **options,
    )


def on_meta(**options):
    with torch.device('meta'):
        return make(**options)


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(
        discriminator,
        'own_rows',
        lambda draw, shape, device: torch.zeros(shape, device=device),
    )


def load(name, **options):
    return load_config(str(CONFIGS / f'mocogan_sg2_{name}.py'), options)


def count(network):
    return sum(param.numel() for param in network.parameters())


# Names and sizes


PUBLISHED_CONVS = {
    1: [64, 3, 4, 4, 4],
    4: [128, 64, 4, 4, 4],
    8: [256, 128, 4, 4, 4],
    12: [512, 256, 4, 4, 4],
    16: [512, 512, 3, 3, 3],
    20: [512, 512, 3, 3, 3],
    23: [1, 512, 4, 4, 4],
}
PUBLISHED_NORMS = {5: 128, 9: 256, 13: 512, 17: 512, 21: 512}


def published_names(resolution):
    """List the entries of the published video discriminator, and shapes."""
    convs, norms = dict(PUBLISHED_CONVS), dict(PUBLISHED_NORMS)
    if resolution != 256:
        convs = {i: convs[i] for i in (1, 4, 8, 12)} | {15: convs[23]}
        norms = {i: norms[i] for i in (5, 9, 13)}
    names = {f'main.{i}.weight': shape for i, shape in convs.items()}
    for i, width in norms.items():
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            names[f'main.{i}.{name}'] = [width]
        names[f'main.{i}.num_batches_tracked'] = []
    return names


@pytest.mark.parametrize('resolution', [64, 128, 256, 512])
def test_published_names(resolution):
    network = on_meta(
        resolution=resolution, channel_max=512, video_channels=64
    )
    state = network.state_dict()
    shapes = {name: list(value.shape) for name, value in state.items()}
    video = {
        name.removeprefix('video_discr.'): shape
        for name, shape in shapes.items()
        if name.startswith('video_discr.')
    }
    assert video == published_names(resolution)
    if resolution == 256:
        assert count(network.video_discr) == 25214720
    # StyleGAN2's: nothing halved, no time, no condition.
    image = {k for k in shapes if k.startswith('image_discr.')}
    assert len(image) + len(video) == len(shapes)
    assert shapes['image_discr.b16.conv0.weight'] == [512, 512, 3, 3]
    assert shapes['image_discr.b8.conv1.weight'] == [512, 512, 3, 3]
    assert shapes['image_discr.b4.out.weight'] == [1, 512]
    assert not any('mapping' in k or 'time_encoder' in k for k in image)


def test_initial_values():
    network = make(resolution=64, video_channels=32).video_discr
    for module in network.main:
        if isinstance(module, nn.Conv3d):
            assert module.bias is None
            std = 0.02 * (1 + 4 / module.weight.numel() ** 0.5)
            assert 0.04 - std < module.weight.std().item() < std
        elif isinstance(module, nn.BatchNorm3d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert 0.01 < module.weight.std().item() < 0.03
            assert module.bias.eq(0).all()


# Logits


@pytest.mark.parametrize(
    ('resolution', 'patches'),
    # From 128 px on, (R / 16 - 3)^2 places.
    [(64, 1), (128, 25), (256, 169), (512, 29**2), (1024, 61**2)],
)
def test_published_patches(resolution, patches):
    network = on_meta(resolution=resolution, channel_max=8)
    videos = torch.zeros(1, T, 3, resolution, resolution, device='meta')
    frames, clips = network(videos, None, torch.zeros(1, T, device='meta'))
    assert frames.shape == (T,)
    assert clips.shape == (1, patches)


@pytest.mark.parametrize('resolution', [16, 32, 64])
@pytest.mark.parametrize('num_clips', [1, 3])
def test_small_pictures_have_logits(resolution, num_clips):
    network = make(resolution=resolution)
    videos = torch.randn(num_clips, T, 3, resolution, resolution)
    frames, clips = network(videos, None, torch.zeros(num_clips, T))
    assert frames.shape == (num_clips * T,)
    assert clips.shape[0] == num_clips
    assert clips.ndim == 2
    (frames.square().sum() + clips.square().sum()).backward()
    for name, param in network.named_parameters():
        assert param.grad.abs().sum() > 0, name


def convolve(x, weight, stride, pad):
    """3-D cross-correlation by the definition."""
    x = np.pad(x, [(0, 0), (0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(
        x, weight.shape[2:], (2, 3, 4)
    )[:, :, :, ::stride, ::stride]
    return np.einsum('ncthwijk,ocijk->nothw', windows, weight)


@pytest.mark.parametrize(('resolution', 'halvings'), [(64, 4), (32, 3)])
def test_the_video_logits_by_hand(resolution, halvings, no_noise):
    network = make(resolution=resolution).video_discr.double()
    for param in network.parameters():
        nn.init.normal_(param, std=0.5)
    convs = [m for m in network.main if isinstance(m, nn.Conv3d)]
    norms = [m for m in network.main if isinstance(m, nn.BatchNorm3d)]
    assert len(convs) == halvings + 1
    videos = torch.randn(2, T + 1, 3, resolution, resolution).double()
    x = videos.numpy().transpose(0, 2, 1, 3, 4)
    for i, conv in enumerate(convs[:-1]):
        x = convolve(x, conv.weight.detach().numpy(), 2, 1)
        if i > 0:
            mean, var = (f(x, (0, 2, 3, 4)) for f in (np.mean, np.var))
            scale, shift = (
                p.detach().numpy()[:, None, None, None]
                for p in (norms[i - 1].weight, norms[i - 1].bias)
            )
            x = x.swapaxes(0, 1).swapaxes(0, 1) - mean[:, None, None, None]
            x = x / np.sqrt(var + 1e-5)[:, None, None, None] * scale + shift
        x = np.where(x > 0, x, 0.2 * x)
    x = convolve(x, convs[-1].weight.detach().numpy(), 1, 0)
    logits = network(videos).detach().numpy()
    assert logits.shape[1] == T + 1 - network.min_num_frames + 1
    np.testing.assert_allclose(logits, x.reshape(2, -1), rtol=1e-9)


@pytest.mark.parametrize('training', [True, False])
def test_noise_enters_every_layer_but_the_last(training):
    network = make(resolution=64, video_channels=8).video_discr
    network.train(training)
    videos = torch.randn(4, T, 3, 64, 64)
    given, seen = [videos.transpose(1, 2)], []
    for module in network.main:
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(
                lambda _, args, out: given.append(out.clone())
            )
        elif isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].clone())
            )
    network(videos)
    noises = [(b - a).detach() for a, b in zip(given, seen, strict=True)]
    assert noises.pop().eq(0).all()
    assert len(noises) == 4
    for noise in noises:
        assert noise.std().item() == pytest.approx(0.1, rel=0.02)
        assert abs(noise.mean().item()) < 0.5 / noise.numel() ** 0.5
        # Each clip has its own.
        assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(network(videos), network(videos))


def test_processes_share_the_noise_of_one_batch(monkeypatch):
    network = make(resolution=16).video_discr.eval()
    videos = torch.randn(4, T, 3, 16, 16)
    torch.manual_seed(3)
    whole = network(videos)
    for rank in range(2):
        monkeypatch.setattr(
            'stylegan_v_mm.models.noise.get_dist_info',
            lambda rank=rank: (rank, 2),
        )
        torch.manual_seed(3)
        torch.testing.assert_close(network(videos[rank::2]), whole[rank::2])


def test_each_frame_is_judged_with_the_label_of_its_clip():
    network = make(c_dim=3, mbstd_group_size=1)
    for name, param in network.image_discr.named_parameters():
        if name.endswith('bias'):
            nn.init.normal_(param)
    videos, c = torch.randn(3, T, 3, 16, 16), torch.eye(3)[[2, 0, 0]]
    frames, _ = network(videos, c, torch.arange(T).expand(3, T))
    frames = frames.reshape(3, T)
    for i, j in ((0, 0), (0, 9), (1, 15), (2, 4)):
        alone = network.image_discr(
            videos[i : i + 1, j : j + 1], c[i : i + 1], torch.zeros(1, 1)
        )
        torch.testing.assert_close(frames[i, j], alone[0])
    other, _ = network(videos, c.roll(1, 0), torch.zeros(3, T))
    changed = (other.reshape(3, T) != frames).any(1)
    assert changed.tolist() == [True, True, False]


# Length of clips


def gives_logits(network, num_frames):
    size = 1, 3, num_frames, 256, 256
    try:
        return network.main(torch.zeros(size, device='meta')).numel() > 0
    except RuntimeError:
        return False


@pytest.mark.parametrize('num_t_paddings', range(7))
@pytest.mark.parametrize('resolution', [16, 32, 128, 256])
def test_the_shortest_clip(resolution, num_t_paddings):
    network = on_meta(
        resolution=resolution, num_frames=20, num_t_paddings=num_t_paddings
    ).video_discr
    shortest = next(n for n in range(1, 20) if gives_logits(network, n))
    assert max(network.min_num_frames, 1) == shortest
    if num_t_paddings == 0 and resolution >= 64:
        assert shortest == 16


@pytest.mark.parametrize(
    ('num_t_paddings', 'paddings'),
    [
        (0, [0, 0, 0, 0, 1, 1, 0]),
        (3, [2, 2, 2, 0, 1, 1, 0]),
        (5, [2, 2, 2, 2, 2, 1, 0]),
        (6, [2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_published_time_paddings(num_t_paddings, paddings):
    network = on_meta(
        resolution=256, num_frames=20, num_t_paddings=num_t_paddings
    ).video_discr
    convs = [m for m in network.main if isinstance(m, nn.Conv3d)]
    assert [conv.padding[0] for conv in convs] == paddings
    assert [conv.padding[1] for conv in convs] == [1, 1, 1, 1, 1, 1, 0]


def test_short_clips_are_refused():
    with pytest.raises(InputError, match=r'num_frames=3: .* at least 16 fr'):
        make(resolution=64, num_frames=3)
    network = make(resolution=64).video_discr
    with pytest.raises(InputError, match='num_frames=15'):
        network(torch.zeros(1, 15, 3, 64, 64))
    make(resolution=64, num_frames=3, num_t_paddings=4)


@pytest.mark.parametrize(
    ('options', 'key'),
    [
        (dict(resolution=48), 'resolution=48'),
        (dict(video_channels=0), 'video_channels=0'),
        (dict(num_t_paddings=7), 'num_t_paddings=7'),
    ],
)
def test_nonsense_is_refused(options, key):
    with pytest.raises(InputError, match=key):
        make(**options)


# Configs


@pytest.mark.parametrize('name', ['ucf101', 'sky_timelapse'])
def test_published_configs(name):
    config = load(name)
    with torch.device('meta'):
        gan = MODELS.build(config.model)
    assert count(gan.generator) == 29619157
    # StyleGAN2's at 256 px: colours, blocks 256 to 8, and the last one.
    assert count(gan.discriminator.image_discr) == (
        256 + 118976 + 475520 + 1901312 + 3 * 4981760 + 6559745
    )
    assert count(gan.discriminator.video_discr) == 25214720
    assert config.train_dataloader.batch_size == 16
    assert config.model.r1_gamma == pytest.approx(0.8192)


@pytest.mark.parametrize('longest', [16, 64])
def test_clips_are_sixteen_frames_in_a_row(longest):
    dataset = load('ucf101', max_num_frames=longest).train_dataloader.dataset
    assert dataset.max_num_frames == longest
    results = dict(
        source=range(300),
        video_len=longest,
        video_lens=np.array([longest]),
        labels=np.zeros((1, 0), np.float32),
        rng=np.random.default_rng(0),
    )
    sample = TRANSFORMS.build(dataset.pipeline[0])
    assert sample.min_num_frames == T
    clips = [sample(dict(results)) for _ in range(10)]
    for clip in clips:
        assert clip['frame_inds'].shape == (T,)
        assert (np.diff(clip['frame_inds']) == 1).all()
        np.testing.assert_allclose(np.diff(clip['gen_t']), 1)
    whole = [(clip['gen_t'] % 1 == 0).all() for clip in clips]
    assert all(whole) if longest == T else not any(whole)


def test_all_configs_are_tried():
    names = {path.stem for path in CONFIGS.glob('*.py')}
    assert names == {
        f'mocogan_sg2_{name}' for name in ('ucf101', 'sky_timelapse', 'demo')
    }


def test_misspelt_and_short_are_refused():
    with pytest.raises(InputError, match='chanel_max'):
        load('demo', **{'model.discriminator.image_discr.chanel_max': 8})
    with pytest.raises(InputError, match='num_frames=12'):
        MODELS.build(load('demo', num_frames=12).model)


# Training


@pytest.fixture
def gan():
    return MODELS.build(load('demo', resolution=16, batch_size=2).model)


def batch(num_clips=2):
    t = torch.arange(T).double()
    return dict(
        video=torch.randint(
            0, 256, (num_clips, T, 3, 16, 16), dtype=torch.uint8
        ),
        t=t.expand(num_clips, T),
        c=torch.zeros(num_clips, 0),
        gen_t=t.expand(num_clips, 2, T),
        gen_c=torch.zeros(num_clips, 2, 0),
    )


def test_an_iteration_moves_both_at_their_own_rates(gan):
    config = load('demo')
    cfg = {k: v for k, v in config.optim_wrapper.items() if k != 'constructor'}
    optimizers = GANOptimWrapperConstructor(cfg)(gan)
    before = {k: v.clone() for k, v in gan.discriminator.named_parameters()}
    logs = gan.train_step(batch(), optimizers)
    assert all(map(math.isfinite, logs.values()))
    assert logs['r1_penalty'] > 0
    lr = config.lr * 16 / 17
    for name, param in gan.discriminator.named_parameters():
        moved = (param - before[name]).abs()
        if name.startswith('video_discr.'):
            # Adam's first step is the learning rate in each direction; the
            # second, on R1, has nothing to say on the video discriminator.
            assert moved.max().item() == pytest.approx(lr / 10, rel=1e-3)
            assert moved.median().item() == pytest.approx(lr / 10, rel=1e-2)
        else:
            assert moved.max().item() > 0.9 * lr, name


def test_the_loss_has_both_parts(gan, no_noise):
    data = make_batch(gan.generator, batch())
    losses = []
    logs = gan.generator_loss(data, losses.append)
    fakes = make_fakes(gan.generator, data, 0)
    frames, clips = gan.discriminator(fakes.videos, None, fakes.t)
    assert frames.shape == (2 * T,)
    expected = sum(
        np.logaddexp(0, -x.detach().double().numpy()).mean()
        for x in (frames, clips)
    )
    assert float(logs['loss_g']) == pytest.approx(expected, rel=1e-5)


def test_a_generator_with_noise_trains_and_does_not_flicker():
    options = {'model.generator.use_noise': True}
    config = load('demo', resolution=16, batch_size=2, **options)
    gan = MODELS.build(config.model)
    cfg = {k: v for k, v in config.optim_wrapper.items() if k != 'constructor'}
    logs = gan.train_step(batch(), GANOptimWrapperConstructor(cfg)(gan))
    assert all(map(math.isfinite, logs.values()))
    lr = config.lr * 4 / 5
    for layer in gan.generator.synthesis.modules():
        if hasattr(layer, 'noise_strength'):
            # Adam's first step.
            moved = abs(layer.noise_strength.item())
            assert moved == pytest.approx(lr, rel=1e-2)
            layer.noise_strength.data.fill_(1)
    gan.generator_ema.load_state_dict(gan.generator.state_dict())
    # A time of its own for each frame, but the same noise.
    (frames,) = gan.sampler().sample_video(3, torch.tensor([2.0, 5, 2, 2]))
    assert torch.equal(frames[0], frames[2])
    assert torch.equal(frames[0], frames[3])
    assert not torch.equal(frames[0], frames[1])


def test_the_video_loss_reaches_the_motion_codes(gan):
    generator = gan.generator
    z = torch.randn(2, generator.z_dim)
    t = torch.arange(T).double().expand(2, T)
    motion_z = torch.randn(2, T + 1, 64, requires_grad=True)
    videos = generator(z, None, t, motion_z)
    gan.discriminator.video_discr(videos).mean().backward()
    for name, param in generator.motion_encoder.rnn.named_parameters():
        assert param.grad.abs().sum() > 0, name
    # Every frame's own noise counts, and none from after the clip.
    seen = motion_z.grad.abs().sum([0, 2])
    assert (seen[:T] > 0).all()
    assert seen[T] == 0


# The tools, from the root of the repository


CONFIG = f"""
_base_ = ['{CONFIGS}/mocogan_sg2_demo.py']
data_root = '{{data_root}}'
resolution = 16
batch_size = 2
max_iters = 2
log_interval = 1
preview_interval = checkpoint_interval = 2
num_test_videos = 4
model = dict(
    generator=dict(channel_max=8),
    discriminator=dict(image_discr=dict(channel_max=8), video_channels=2),
)
"""


def run_tool(*words):
    """Run a tool, which has to succeed; return the process."""
    result = real_process.run_tool(*words)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.slow
def test_train_measure_and_sample(tmp_path):
    videos, work_dir = tmp_path / 'videos', tmp_path / 'work'
    run_tool(
        'dataset_converters/moving_shapes.py',
        videos,
        '--num-videos=6',
        '--num-frames=24',
        '--resolution=16',
    )
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(data_root=videos))
    run_tool('train.py', config, '--work-dir', work_dir)
    checkpoint = work_dir / 'iter_2.pth'
    result = run_tool(
        'test.py', config, checkpoint, '--work-dir', tmp_path / 'test'
    )
    metrics = dict(
        line.split(': ') for line in result.stdout.splitlines()[-2:]
    )
    assert metrics.keys() == {'FVD-random', 'FVD-random-se'}
    assert float(metrics['FVD-random']) > 0
    run_tool(
        'generate.py',
        config,
        checkpoint,
        '--num-videos=2',
        '--num-frames=20',
        '--format=png',
        f'--out={tmp_path / "samples"}',
    )
    assert len(list(tmp_path.glob('samples/*/*.png'))) == 2 * 20
