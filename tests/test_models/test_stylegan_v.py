"""Training steps, moving average, and sampling of the whole GAN."""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import Sampler, StyleGANV
from stylegan_v_mm.models.batch import Batch
from stylegan_v_mm.models.fakes import make_fakes
from stylegan_v_mm.registry import MODELS
from stylegan_v_mm.video.pixels import from_bytes

SHARED = dict(resolution=16, channel_base=128, channel_max=8)
GENERATOR = dict(
    type='StyleGANVGenerator',
    z_dim=6,
    w_dim=7,
    motion_v_dim=8,
    motion_z_dim=5,
    motion_z_distance=8,
    motion_kernel_size=3,
    time_enc_dim=4,
    min_period_len=8,
    max_period_len=64,
)
DISCRIMINATOR = dict(
    type='StyleGANVDiscriminator', concat_res=8, max_num_frames=64
)
N, T = 4, 3


def make(c_dim=0, generator=None, mbstd_group_size=4, **options):
    gan = StyleGANV(
        dict(GENERATOR, c_dim=c_dim, **SHARED, **(generator or {})),
        dict(
            DISCRIMINATOR,
            c_dim=c_dim,
            mbstd_group_size=mbstd_group_size,
            **SHARED,
        ),
        **dict(dict(r1_gamma=2.0), **options),
    )
    for network in (gan.generator, gan.discriminator):
        for name, param in network.named_parameters():
            if name.endswith('bias') and 'affine' not in name:
                nn.init.normal_(param, std=0.3)
            if name.endswith('noise_strength'):
                nn.init.normal_(param)
    gan.generator_ema.load_state_dict(gan.generator.state_dict())
    return gan.train()


def optimizers(gan, lr=0.01, kind=torch.optim.SGD):
    return OptimWrapperDict(
        generator=OptimWrapper(kind(gan.generator.parameters(), lr=lr)),
        discriminator=OptimWrapper(
            kind(gan.discriminator.parameters(), lr=lr)
        ),
    )


def batch(gan, num_codes=20):
    """Make what a loader gives, and the noise of both fake batches."""
    t = torch.rand(N, 1) * 20 + torch.tensor([0.0, 3, 9])
    gen_t = torch.rand(N, 2, 1) * 20 + torch.tensor([0.0, 5, 7])
    labels = torch.eye(max(gan.c_dim, 1))[:, : gan.c_dim]
    draw = torch.randint(0, max(gan.c_dim, 1), (3, N))
    return dict(
        video=torch.randint(0, 256, (N, T, 3, 16, 16), dtype=torch.uint8),
        t=t.double(),
        c=labels[draw[0]],
        gen_t=gen_t.double(),
        gen_c=labels[draw[1:]].transpose(0, 1),
        gen_z=torch.randn(N, 2, 6),
        motion_z=torch.randn(N, 2, num_codes, 5),
    )


def take_step(gan, name, loss, data, steps):
    """One optimizer step on a loss over the whole batch."""
    return gan.step(name, loss, [Batch(**data)], steps)


def weights(network):
    return [param.detach().clone() for param in network.parameters()]


def unchanged(network, before):
    return all(map(torch.equal, network.parameters(), before))


def softplus(x):
    return np.logaddexp(0, x.detach().double().numpy())


# Training step


def test_generator_step():
    gan = make()
    data, steps = batch(gan), optimizers(gan)
    generator = copy.deepcopy(gan.generator)
    before_g, before_d = weights(gan.generator), weights(gan.discriminator)
    logs = take_step(gan, 'generator', gan.generator_loss, data, steps)
    assert unchanged(gan.discriminator, before_d)
    assert unchanged(gan.generator_ema, before_g)
    assert all(p.grad is None for p in gan.discriminator.parameters())
    assert all(p.requires_grad for p in gan.discriminator.parameters())

    # The same by hand: first fake batch, -log sigmoid, plain descent.
    videos = generator(
        data['gen_z'][:, 0], None, data['gen_t'][:, 0], data['motion_z'][:, 0]
    )
    logits = gan.discriminator(videos, None, data['gen_t'][:, 0])
    assert float(logs['loss_g']) == pytest.approx(
        softplus(-logits).mean(), rel=1e-5
    )
    loss = torch.log1p(torch.exp(-logits)).mean()
    grads = torch.autograd.grad(loss, list(generator.parameters()))
    for ours, start, grad in zip(gan.generator.parameters(), before_g, grads):
        torch.testing.assert_close(ours, start - 0.01 * grad)
    assert not unchanged(gan.generator, before_g)


def test_discriminator_step():
    gan = make(c_dim=3)
    data, steps = batch(gan), optimizers(gan)
    generator = copy.deepcopy(gan.generator)
    before_g, before_d = weights(gan.generator), weights(gan.discriminator)
    discriminator = copy.deepcopy(gan.discriminator)
    real = from_bytes(data['video'])
    logs = take_step(gan, 'discriminator', gan.discriminator_loss, data, steps)
    assert unchanged(gan.generator, before_g)
    assert all(p.grad is None for p in gan.generator.parameters())

    # The same by hand: second fake batch, real and fake passes apart.
    t, c = data['gen_t'][:, 1], data['gen_c'][:, 1]
    videos = generator(data['gen_z'][:, 1], c, t, data['motion_z'][:, 1])
    fake = discriminator(videos.detach(), c, t)
    true = discriminator(real, data['c'], data['t'])
    expected = softplus(fake).mean() + softplus(-true).mean()
    assert float(logs['loss_d']) == pytest.approx(expected, rel=1e-5)
    for name, logits in (('fake', fake), ('real', true)):
        logits = logits.detach().numpy()
        assert float(logs[f'logits_{name}']) == pytest.approx(
            logits.mean(), rel=1e-4, abs=1e-6
        )
        assert float(logs[f'signs_{name}']) == np.sign(logits).mean()
    loss = torch.log1p(torch.exp(fake)) + torch.log1p(torch.exp(-true))
    grads = torch.autograd.grad(
        loss.mean(), list(discriminator.parameters()), allow_unused=True
    )
    for ours, start, grad in zip(
        gan.discriminator.parameters(), before_d, grads
    ):
        torch.testing.assert_close(ours, start - 0.01 * grad)
    assert not unchanged(gan.discriminator, before_d)
    # Generating fakes without gradients still moves the mean of w.
    assert torch.equal(gan.generator.mapping.w_avg, generator.mapping.w_avg)
    assert gan.generator.mapping.w_avg.abs().sum() > 0


class LinearDiscriminator(nn.Module):
    """Logit = <weight, clip>: the R1 penalty is known in closed form."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(T, 3, 16, 16))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, videos, c, t):
        return (videos * self.weight).sum([1, 2, 3, 4])


@pytest.mark.parametrize(('gamma', 'interval'), [(2.0, 1), (0.5, 16)])
def test_r1_of_a_linear_discriminator(gamma, interval):
    gan = make(r1_gamma=gamma, d_reg_interval=interval)
    gan.discriminator = LinearDiscriminator()
    start = gan.discriminator.weight.detach().clone()
    steps = optimizers(gan, lr=0.001)
    logs = take_step(gan, 'discriminator', gan.r1_loss, batch(gan), steps)
    # Squared norm of the gradient in each frame, averaged over frames.
    penalty = sum(float(frame.square().sum()) for frame in start) / T
    assert float(logs['r1_penalty']) == pytest.approx(penalty, rel=1e-5)
    # Of gamma / 2 * mean_f |w_f|^2, interval times.
    gradient = interval * gamma * start / T
    torch.testing.assert_close(
        gan.discriminator.weight.detach(), start - 0.001 * gradient
    )


def test_r1_against_finite_differences():
    gan = make(r1_gamma=3.0)
    gan.double()
    data = batch(gan)
    real, t = from_bytes(data['video']).double(), data['t']
    discriminator = gan.discriminator

    def penalty_at(point):
        """Mean over frames of |dD/dx|^2, by autograd on a leaf."""
        point = point.clone().requires_grad_()
        total = discriminator(point, None, t).sum()
        (grad,) = torch.autograd.grad(total, point)
        return float(grad.square().sum([2, 3, 4]).mean())

    # The gradient itself, along one direction, by differences.
    direction, step = torch.randn_like(real), 1e-5
    ahead, behind = (
        float(discriminator(real + s * direction, None, t).sum().detach())
        for s in (step, -step)
    )
    point = real.clone().requires_grad_()
    (grad,) = torch.autograd.grad(discriminator(point, None, t).sum(), point)
    slope = float((grad * direction).sum())
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-4)

    # And how the penalty changes with one weight, against the update.
    weight = discriminator.b8.conv0.weight
    start = weight.detach().clone()
    index = (1, 2, 0, 1)
    values = []
    for s in (step, -step):
        weight.data = start.clone()
        weight.data[index] += s
        values.append(penalty_at(real))
    weight.data = start.clone()
    derivative = (values[0] - values[1]) / (2 * step)
    steps = optimizers(gan, lr=1.0)
    logs = take_step(gan, 'discriminator', gan.r1_loss, data, steps)
    update = float((start - weight.detach())[index])
    assert update == pytest.approx(3.0 / 2 * derivative * 16, rel=1e-4)
    weight.data = start
    assert float(logs['r1_penalty']) > 0


def test_r1_steps_what_it_does_not_touch_with_gradient_zero():
    """Adam's averages decay there as in the published training."""
    gan = make()
    gan.discriminator = LinearDiscriminator()
    steps = optimizers(gan, kind=torch.optim.Adam)
    take_step(gan, 'discriminator', gan.r1_loss, batch(gan), steps)
    state = steps['discriminator'].optimizer.state[gan.discriminator.unused]
    assert int(state['step']) == 1


def test_r1_changes_the_discriminator_alone():
    gan = make()
    before_g, before_d = weights(gan.generator), weights(gan.discriminator)
    data = batch(gan)
    take_step(gan, 'discriminator', gan.r1_loss, data, optimizers(gan))
    assert unchanged(gan.generator, before_g)
    assert not unchanged(gan.discriminator, before_d)
    assert not data['video'].requires_grad


@pytest.mark.parametrize(
    'loss',
    ['r1_loss', 'path_length_loss', 'generator_loss', 'discriminator_loss'],
)
def test_losses_in_bfloat16_are_near_to_float32(loss):
    """Of 12 frames: with AMX, PyTorch's own second derivatives are wrong."""
    gan = make(
        num_fp16_res=4, pl_weight=1, r2_gamma=1, gan_loss='relativistic'
    )
    data, grads = Batch(**batch(gan)), []
    for half_dtype in ('bfloat16', None):
        for block in gan.modules():
            if hasattr(block, 'half_dtype'):
                block.half_dtype = half_dtype
        gan.zero_grad()
        gan.pl_mean.zero_()
        torch.manual_seed(0)
        getattr(gan, loss)(data, lambda loss, last=True: loss.backward())
        grads.append(
            torch.cat(
                [
                    x.grad.flatten()
                    for x in gan.parameters()
                    if x.grad is not None
                ]
            )
        )
    ours, theirs = grads
    assert theirs.count_nonzero() > 100
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_r1_comes_every_interval_and_survives_a_restart():
    gan = make(d_reg_interval=3)
    steps = optimizers(gan)
    had = ['r1_penalty' in gan.train_step(batch(gan), steps) for _ in range(2)]
    assert had == [True, False]
    resumed = make(d_reg_interval=3)
    resumed.load_state_dict(gan.state_dict())
    steps = optimizers(resumed)
    had = [
        'r1_penalty' in resumed.train_step(batch(gan), steps) for _ in range(3)
    ]
    assert had == [False, True, False]


def test_train_step_is_its_steps_in_order():
    gan = make(c_dim=3, d_reg_interval=2)
    twin = copy.deepcopy(gan)
    data = batch(gan)
    logs = gan.train_step(data, optimizers(gan))
    steps = optimizers(twin)
    expected = take_step(twin, 'generator', twin.generator_loss, data, steps)
    for loss in (twin.discriminator_loss, twin.r1_loss):
        expected |= take_step(twin, 'discriminator', loss, data, steps)
    twin.update_ema(N)
    for ours, theirs in (
        (gan.generator, twin.generator),
        (gan.discriminator, twin.discriminator),
        (gan.generator_ema, twin.generator_ema),
    ):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name
    assert {k: float(v) for k, v in logs.items() if k != 'kimg'} == {
        k: float(v) for k, v in expected.items()
    }


def test_counters():
    gan = make()
    steps = optimizers(gan)
    for i in range(1, 3):
        logs = gan.train_step(batch(gan), steps)
        assert gan.iteration == i
        # Frames, not clips.
        assert gan.frames_seen == i * N * T
        assert logs['kimg'] == pytest.approx(i * N * T / 1000)


def test_counters_are_in_state_dicts():
    gan, other = make(), make()
    gan.iteration, gan.frames_seen = 2**40, 2**41
    state = gan.state_dict()
    for name in ('iteration', 'frames_seen'):
        assert state[name].dtype == torch.int64
        assert state[name].shape == ()
    other.load_state_dict(state)
    assert (other.iteration, other.frames_seen) == (2**40, 2**41)
    assert 'iteration' in state
    del state['iteration']
    with pytest.raises(RuntimeError, match=r'Missing key.*"iteration"'):
        other.load_state_dict(state)
    # Inside of a wrapper, too.
    wrapped = nn.ModuleDict({'model': gan})
    assert int(wrapped.state_dict()['model.frames_seen']) == 2**41
    other.frames_seen = 0
    nn.ModuleDict({'model': other}).load_state_dict(wrapped.state_dict())
    assert other.frames_seen == 2**41


def test_gradients_that_are_no_numbers_are_cleaned():
    gan = make()
    network = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(network.weight)
    wrapper = OptimWrapper(torch.optim.SGD(network.parameters(), lr=1.0))
    gan.generator = network

    def loss(part, backward):
        network.weight.grad = torch.tensor(
            [[float('nan'), float('inf'), -float('inf'), 3.0]]
        )
        return {'loss_g': torch.tensor(1.0)}

    logs = gan.step('generator', loss, [None], {'generator': wrapper})
    assert logs['bad_gradients'] == 1
    assert network.weight.tolist() == [[0, -1e5, 1e5, -3]]
    assert network.weight.grad is None


def test_parts_of_a_batch_add_up_to_it():
    """With statistics of single clips, two halves are the whole."""
    gan = make(d_reg_interval=1, mbstd_group_size=1)
    data = batch(gan)
    twin = copy.deepcopy(gan)
    twin.accumulative_counts = 2
    data = Batch(**data)
    parts = data.split(2)
    for name in ('generator', 'discriminator', 'r1'):
        network = name if name == 'generator' else 'discriminator'
        whole, halves = (
            model.step(network, getattr(model, f'{name}_loss'), each, steps)
            for model, each, steps in (
                (gan, [data], optimizers(gan)),
                (twin, parts, optimizers(twin)),
            )
        )
        for key, value in whole.items():
            torch.testing.assert_close(halves[key], value)
        for ours, theirs in zip(
            getattr(twin, network).parameters(),
            getattr(gan, network).parameters(),
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


EXTRA = dict(
    name=['a.mp4', 'b.mp4', 'c.mp4', 'd.mp4'],
    number=3,
    place=torch.arange(N),
    nothing=None,
    ragged=[[1], [2, 3], [], [4]],
)


@pytest.mark.parametrize('parts', [1, 2])
def test_extra_keys_of_a_batch_do_no_harm(parts):
    options = dict(accumulative_counts=parts, pl_weight=1, mbstd_group_size=2)
    gan = make(c_dim=3, **options)
    twin = copy.deepcopy(gan)
    data = batch(gan)
    torch.manual_seed(1)
    expected = gan.train_step(data, optimizers(gan))
    torch.manual_seed(1)
    found = twin.train_step({**EXTRA, **data}, optimizers(twin))
    assert found == expected
    for ours, theirs in zip(twin.parameters(), gan.parameters()):
        assert torch.equal(ours, theirs)


def test_clips_that_could_not_be_stacked_are_named():
    gan = make()
    data = batch(gan)
    data['video'] = list(data['video'])
    with pytest.raises(InputError, match=r"'video' of a batch is a list"):
        gan.train_step(data, optimizers(gan))


def test_parts_have_to_be_equal():
    gan = make(accumulative_counts=3)
    with pytest.raises(InputError, match=r'4 clips.*accumulative_counts=3'):
        gan.train_step(batch(gan), optimizers(gan))


@pytest.mark.parametrize('parts', [1, 2])
def test_fakes_can_be_reused(parts):
    """The discriminator gets the generator's clips, made before its step."""
    options = dict(accumulative_counts=parts, pl_weight=1, mbstd_group_size=2)
    gan = make(reuse_fakes=True, **options)
    twin = make(**options)
    twin.load_state_dict(gan.state_dict())
    data = batch(gan)
    seen, expected = [], []
    for model, calls in ((gan, seen), (twin, expected)):
        # Without gradients of the generator's step, the published way makes
        # the same clips from the same noise, which it gets twice here.
        model.discriminator.register_forward_pre_hook(
            lambda _, args, calls=calls: calls.append(args)
        )
    gan.train_step(dict(data), optimizers(gan))
    again = {
        key: value[:, :1].expand_as(value)
        for key, value in data.items()
        if key.startswith(('gen_', 'motion_z'))
    }
    twin.train_step(data | again, optimizers(twin, lr=0))
    # Parts: fakes; then fakes and real ones; then R1's.
    assert len(seen) == len(expected) == 4 * parts
    order = [*range(parts), *range(parts, 3 * parts, 2)]
    for call in order:
        for ours, theirs in zip(seen[call], expected[call]):
            torch.testing.assert_close(ours, theirs)
    for i in range(parts):
        fakes = seen[i][0]
        assert fakes.requires_grad
        assert torch.equal(seen[parts + 2 * i][0], fakes)
        assert not seen[parts + 2 * i][0].requires_grad
    with torch.no_grad():
        moved = make_fakes(gan.generator, Batch(**data), 0).videos
    assert not torch.allclose(moved[: len(fakes)], seen[0][0], atol=1e-4)


# Noise


def test_noise_does_not_depend_on_the_parts_of_a_batch():
    gan = make(generator=dict(use_noise=True), mbstd_group_size=1)
    data = batch(gan)
    del data['gen_z'], data['motion_z']
    found = []
    for parts in (1, 2):
        model = copy.deepcopy(gan)
        model.accumulative_counts = parts
        torch.manual_seed(1)
        model.train_step(dict(data), optimizers(model))
        found.append(model.generator)
    for ours, theirs in zip(*(weights(network) for network in found)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    before = dict(gan.generator.named_parameters())
    for name, param in found[0].named_parameters():
        assert not torch.equal(param, before[name]), name


def test_the_average_has_the_noise_of_the_generator():
    gan = make(generator=dict(use_noise=True), ema_kimg=0.004)
    ours, theirs = (
        network.synthesis.b8.conv0
        for network in (gan.generator_ema, gan.generator)
    )
    start = ours.noise_strength.clone()
    theirs.noise_const.normal_()
    theirs.noise_strength.data += 1
    gan.update_ema(4)
    assert torch.equal(ours.noise_const, theirs.noise_const)
    torch.testing.assert_close(ours.noise_strength, start + 0.5)


def test_a_run_with_noise_goes_on_as_if_it_had_not_stopped():
    options = dict(generator=dict(use_noise=True), style_mixing_prob=0.5)
    gan, data = make(**options), batch(make())
    del data['gen_z'], data['motion_z']

    def run(model, iterations):
        for i in iterations:
            torch.manual_seed(i)  # as ClipTrainLoop does
            model.train_step(dict(data), optimizers(model))

    resumed = make(**options)
    run(gan, [0])
    resumed.load_state_dict(gan.state_dict())
    torch.rand(7)
    run(gan, [1])
    run(resumed, [1])
    for name, value in gan.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


# Moving average


@pytest.mark.parametrize(
    ('rampup', 'frames', 'half_life'),
    [
        (None, 0, 20000),
        (None, 10**9, 20000),
        (0.05, 1000, 50),
        (0.05, 10**9, 20000),
    ],
)
def test_ema_has_the_half_life(rampup, frames, half_life):
    gan = make(ema_kimg=20, ema_rampup=rampup)
    gan.frames_seen += frames
    before = weights(gan.generator_ema)
    for param in gan.generator.parameters():
        nn.init.normal_(param)
    gan.generator.mapping.w_avg.normal_()
    target = weights(gan.generator)
    gan.update_ema(64)
    beta = 0.5 ** (64 / half_life)
    for ours, start, end in zip(weights(gan.generator_ema), before, target):
        expected = beta * start.double() + (1 - beta) * end.double()
        torch.testing.assert_close(
            ours.double(), expected, rtol=1e-5, atol=1e-6
        )
    # Buffers are copied, not averaged.
    assert torch.equal(
        gan.generator_ema.mapping.w_avg, gan.generator.mapping.w_avg
    )
    assert unchanged(gan.generator, target)


def test_half_a_half_life_twice():
    gan = make(ema_kimg=0.064)
    before = weights(gan.generator_ema)
    for param in gan.generator.parameters():
        param.data += 1
    gan.update_ema(32)
    gan.update_ema(32)
    for ours, start in zip(weights(gan.generator_ema), before):
        torch.testing.assert_close(ours, start + 0.5)


@pytest.mark.parametrize('options', [dict(ema_kimg=0), dict(ema_rampup=0.05)])
def test_without_a_half_life_the_average_is_the_generator(options):
    gan = make(**options)
    for param in gan.generator.parameters():
        nn.init.normal_(param)
    gan.update_ema(4)
    for ours, theirs in zip(
        weights(gan.generator_ema), weights(gan.generator)
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_average_stays_in_eval_mode_and_gets_no_gradient():
    gan = make()
    assert gan.train() is gan
    assert gan.generator.training
    assert gan.discriminator.training
    assert not any(m.training for m in gan.generator_ema.modules())
    assert not any(p.requires_grad for p in gan.generator_ema.parameters())
    gan.eval()
    assert not gan.generator.training


# Evaluation


def test_test_step_renders_clips_of_seeds():
    gan = make(c_dim=3)
    t = torch.stack([torch.arange(5.0), torch.arange(5.0) * 3]).double()
    data = dict(seed=torch.tensor([4, 2]), t=t, c=torch.eye(3)[[0, 2]])
    clips = gan.test_step(data)
    assert [clip['seed'] for clip in clips] == [4, 2]
    sampler = Sampler(gan.generator_ema)
    for i, clip in enumerate(clips):
        chunks = sampler.sample_video(clip['seed'], t[i], data['c'][i])
        assert torch.equal(clip['video'], torch.cat(list(chunks)))
    assert torch.equal(gan.val_step(data)[1]['video'], clips[1]['video'])


def test_sampling_follows_the_average_and_leaves_training_alone():
    gan = make(ema_kimg=0)
    data = dict(seed=[0], t=torch.arange(3.0)[None], c=torch.empty(1, 0))
    before = gan.test_step(data)[0]['video']
    for param in gan.generator.motion_encoder.parameters():
        nn.init.normal_(param)
    assert torch.equal(gan.test_step(data)[0]['video'], before)
    gan.update_ema(4)
    state, noise = copy.deepcopy(gan.state_dict()), torch.get_rng_state()
    after = gan.test_step(data)[0]['video']
    assert not torch.equal(after, before)
    network = copy.deepcopy(gan.generator).eval()
    (expected,) = Sampler(network).sample_video(0, data['t'][0])
    assert torch.equal(after, expected)
    assert torch.equal(torch.get_rng_state(), noise)
    for name, value in gan.state_dict().items():
        assert torch.equal(value, state[name]), name
        assert value.dtype == state[name].dtype
    assert gan.generator.training


# Construction


def test_the_registry_builds_it():
    gan = MODELS.build(
        dict(
            type='StyleGANV',
            generator=dict(GENERATOR, **SHARED),
            discriminator=dict(DISCRIMINATOR, **SHARED),
            r1_gamma=1,
        )
    )
    assert isinstance(gan, StyleGANV)
    for ours, theirs in zip(
        gan.generator.state_dict().values(),
        gan.generator_ema.state_dict().values(),
    ):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(
    ('options', 'key'),
    [
        (dict(r1_gamma=-1), r'r1_gamma=-1'),
        (dict(d_reg_interval=0), r'd_reg_interval=0'),
        (dict(ema_kimg=-1), r'ema_kimg=-1'),
        (dict(penalty_sigma=0), 'penalty_sigma=0 must be positive'),
        (dict(r2_gamma=-1), 'r2_gamma=-1'),
        (dict(gan_loss='lsgan'), r"gan_loss='lsgan'.*hinge"),
        (dict(pl_weight=-1), r'pl_weight=-1'),
        (dict(g_reg_interval=0), r'g_reg_interval=0'),
        (dict(style_mixing_prob=1.5), r'style_mixing_prob=1\.5'),
        (dict(accumulative_counts=0), r'accumulative_counts=0'),
        (dict(generator=dict(resolution=32)), r'generator\.resolution=32'),
    ],
)
def test_nonsense_is_refused(options, key):
    generator = dict(GENERATOR, **SHARED) | options.pop('generator', {})
    with pytest.raises(InputError, match=key):
        StyleGANV(
            generator,
            dict(DISCRIMINATOR, **SHARED),
            **dict(dict(r1_gamma=1), **options),
        )


def test_networks_of_different_labels_are_refused():
    with pytest.raises(InputError, match=r'generator\.c_dim=2'):
        StyleGANV(
            dict(GENERATOR, c_dim=2, **SHARED),
            dict(DISCRIMINATOR, **SHARED),
            r1_gamma=1,
        )


def test_calling_it_says_what_to_call():
    with pytest.raises(NotImplementedError, match='sampler'):
        make()({})


# Augmentation


class Recorder(nn.Module):
    """In place of a discriminator: what it sees, and what it then says."""

    def __init__(self, logit):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(logit))
        self.seen = []

    def forward(self, videos, c, t):
        self.seen.append(videos.detach())
        return self.weight + 0 * videos.square().sum((1, 2, 3, 4))


def test_discriminator_sees_augmented_clips_only():
    augment = dict(
        type='VideoAugment', pipeline='cutout', p=1, ada_target=None
    )
    gan = make(augment=augment)
    gan.discriminator = Recorder(0.5)
    gan.train_step(batch(gan), optimizers(gan))
    # Generator, fake, real and R1: a hole in each clip of each pass.
    assert len(gan.discriminator.seen) == 4
    for videos in gan.discriminator.seen:
        assert ((videos == 0).flatten(1).float().mean(1) > 0.05).all()
    # Each pass has draws of its own.
    real, again = gan.discriminator.seen[2:]
    assert not torch.equal(real, again)


def test_strength_follows_both_real_passes():
    gan = make(augment=dict(type='VideoAugment', ada_kimg=1))
    gan.discriminator = Recorder(-3.0)
    gan.augment.p.fill_(0.5)
    data, steps = batch(gan), optimizers(gan, lr=0)
    gan.train_step(data, steps)
    # N logits of the discriminator's step, N of R1's.
    assert gan.augment.signs.tolist() == [-2 * N, 2 * N]
    for _ in range(3):
        logs = gan.train_step(data, steps)
    # All negative: after 4 iterations, p falls by clips * 4 / 1 kimg.
    assert float(gan.augment.p) == pytest.approx(0.5 - N * 4 / 1000)
    assert logs['augment_p'] == gan.augment.p


def test_without_augmentation_clips_pass_as_they_are():
    gan = make()
    gan.discriminator = Recorder(0.0)
    data = batch(gan)
    gan.train_step(data, optimizers(gan))
    assert torch.equal(gan.discriminator.seen[2], from_bytes(data['video']))
    assert not any('augment' in name for name in gan.state_dict())


# Other losses

LOSSES = {
    'logistic': (
        lambda x: np.logaddexp(0, -x),
        lambda x: np.logaddexp(0, x),
        lambda x: np.logaddexp(0, -x),
    ),
    'hinge': (
        lambda x: -x,
        lambda x: np.maximum(0, 1 + x),
        lambda x: np.maximum(0, 1 - x),
    ),
    'wasserstein': (lambda x: -x, lambda x: x, lambda x: -x),
}


class TwoOpinions(nn.Module):
    """Logits of frames [N * T] and of clips [N, 2], linear in the pixels."""

    def __init__(self, scale=0.05):
        super().__init__()
        self.frame = nn.Parameter(scale * torch.randn(3, 16, 16))
        self.clip = nn.Parameter(scale * torch.randn(2, T, 3, 16, 16))

    def forward(self, videos, c, t):
        frames = (videos * self.frame).sum([2, 3, 4]).flatten()
        clips = torch.einsum('nfchw,kfchw->nk', videos, self.clip)
        return frames, clips


@pytest.mark.parametrize('name', LOSSES)
def test_losses_of_one_set_of_logits_or_two(name):
    generator, fake, real = LOSSES[name]
    for discriminator in (None, TwoOpinions()):
        gan = make(gan_loss=name)
        if discriminator is not None:
            gan.discriminator = discriminator
        data, steps = batch(gan), optimizers(gan, lr=0)

        def logits(videos, t, gan=gan):
            sets = gan.discriminator(videos, None, t)
            sets = sets if isinstance(sets, tuple) else (sets,)
            return [each.detach().double().numpy() for each in sets]

        fakes = [make_fakes(gan.generator, Batch(**data), i) for i in range(2)]
        logs = take_step(gan, 'generator', gan.generator_loss, data, steps)
        expected = sum(
            generator(each).mean() for each in logits(fakes[0][0], fakes[0].t)
        )
        assert float(logs['loss_g']) == pytest.approx(expected, rel=1e-4)
        loss = gan.discriminator_loss
        logs = take_step(gan, 'discriminator', loss, data, steps)
        of_fake = logits(fakes[1].videos, fakes[1].t)
        of_real = logits(from_bytes(data['video']), data['t'])
        expected = sum(fake(each).mean() for each in of_fake)
        expected += sum(real(each).mean() for each in of_real)
        assert float(logs['loss_d']) == pytest.approx(expected, rel=1e-4)
        # The log shows the first set.
        assert float(logs['logits_real']) == pytest.approx(
            of_real[0].mean(), rel=1e-3, abs=1e-5
        )
        assert float(logs['signs_fake']) == np.sign(of_fake[0]).mean()


def test_the_relativistic_loss_in_closed_form():
    """Each fake clip against a real one, of a linear discriminator."""
    gan = make(gan_loss='relativistic')
    gan.discriminator = LinearDiscriminator()
    weight = gan.discriminator.weight.detach().clone()
    data, steps = batch(gan), optimizers(gan, lr=0.001)
    real = from_bytes(data['video'])
    fakes = [make_fakes(gan.generator, Batch(**data), i) for i in range(2)]

    def logits(videos):
        logits = (videos * weight).sum([1, 2, 3, 4])
        return logits.detach().double().numpy()

    margins = logits(fakes[0].videos) - logits(real)
    loss = gan.generator_loss
    logs = take_step(gan, 'generator', loss, data, optimizers(gan, lr=0))
    expected = np.logaddexp(0, -margins).mean()
    assert float(logs['loss_g']) == pytest.approx(expected, rel=1e-4)

    loss = gan.discriminator_loss
    logs = take_step(gan, 'discriminator', loss, data, steps)
    margins = logits(real) - logits(fakes[1].videos)
    expected = np.logaddexp(0, -margins).mean()
    assert float(logs['loss_d']) == pytest.approx(expected, rel=1e-4)
    # Their offset has no meaning: what is logged is relative, too.
    shown = float(logs['logits_real']), float(logs['logits_fake'])
    means = margins.mean(), -margins.mean()
    assert shown == pytest.approx(means, rel=1e-3, abs=1e-4)
    assert float(logs['signs_real']) == np.sign(margins).mean()
    # d softplus(-m) / dw = -sigmoid(-m) (x - G(z)).
    slope = torch.from_numpy(-1 / (1 + np.exp(margins))).float()
    pairs = real - fakes[1].videos.detach()
    gradient = torch.einsum('n,nfchw->fchw', slope, pairs) / N
    moved = gan.discriminator.weight.detach() - weight
    torch.testing.assert_close(moved, -0.001 * gradient, rtol=1e-3, atol=1e-6)


def test_augmentation_follows_relative_logits():
    """Whatever the discriminator adds to all logits."""
    seen = []
    for offset in (0.0, 1e3):
        torch.manual_seed(0)
        gan = make(
            gan_loss='relativistic',
            augment=dict(type='VideoAugment', ada_interval=99),
        )
        forward = gan.discriminator.forward
        gan.discriminator.forward = lambda *args, o=offset, f=forward: (
            f(*args) + o
        )
        gan.train_step(batch(gan), optimizers(gan))
        seen.append(gan.augment.state_dict())
    for name, value in seen[0].items():
        torch.testing.assert_close(value, seen[1][name])


def test_relativistic_pairs_share_label_and_times(monkeypatch):
    gan = make(c_dim=3, gan_loss='relativistic')
    data, seen = batch(gan), []
    forward = gan.discriminator.forward
    monkeypatch.setattr(
        gan.discriminator,
        'forward',
        lambda videos, c, t: seen.append((c, t)) or forward(videos, c, t),
    )
    gan.train_step(data, optimizers(gan))
    # Both of each of two steps, and R1.
    assert len(seen) == 5
    for c, t in seen:
        assert torch.equal(c, data['c'])
        assert torch.equal(t, data['t'])


class QuadraticDiscriminator(nn.Module):
    """Logit = scale / 2 * |clip|^2, whose gradient is scale * clip."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, videos, c, t):
        return self.scale / 2 * videos.square().sum([1, 2, 3, 4])


@pytest.mark.parametrize('sigma', [None, 0.1])
def test_r1_and_r2_of_a_quadratic_discriminator(sigma):
    gan = make(
        r1_gamma=2.0, r2_gamma=0.5, d_reg_interval=4, penalty_sigma=sigma
    )
    gan.discriminator = QuadraticDiscriminator()
    data = batch(gan)
    fakes = make_fakes(gan.generator, Batch(**data), 1).videos.detach()
    real = from_bytes(data['video'])
    torch.manual_seed(7)
    loss, lr = gan.r1_loss, 1e-6
    logs = take_step(gan, 'discriminator', loss, data, optimizers(gan, lr=lr))
    torch.manual_seed(7)
    squares = []
    for clips in (real, fakes):
        slopes = clips
        if sigma is not None:
            # How much the logit changes along the noise, by the same noise.
            noise = torch.randn(clips.shape)
            slopes = (clips * noise).sum([1, 2, 3, 4])
            slopes += sigma / 2 * noise.square().sum([1, 2, 3, 4])
        squares.append(float(slopes.square().sum()) / (N * T))
    found = [float(logs[f'{name}_penalty']) for name in ('r1', 'r2')]
    expected = [0.3**2 * square for square in squares]
    assert found == pytest.approx(expected, rel=1e-3)
    # Of gamma / 2 * scale^2 * square, interval times.
    gradient = 4 * 0.3 * (2.0 * squares[0] + 0.5 * squares[1])
    moved = float(gan.discriminator.scale.detach()) - 0.3
    assert moved == pytest.approx(-lr * gradient, rel=1e-3)


def test_noise_estimates_the_penalty_of_gradients():
    """On average over noise, of a real network and its augmentation."""
    gan = make(augment=dict(type='VideoAugment', p=0.5)).double()
    data = Batch(**batch(gan))
    video = from_bytes(data.video).double()
    arguments = video[:1], data.c[:1], data.t[:1]

    def norm(sigma, seed):
        gan.penalty_sigma = sigma
        torch.manual_seed(seed)
        return gan.gradient_norm(*(x.clone() for x in arguments))[0].item()

    # Neither is of the clip before augmentation, which stays as it was drawn.
    gan.augment.p.fill_(0)
    exact = norm(None, 0)
    estimates = [norm(1e-4, seed) for seed in range(400)]
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - exact) < 4 * error < exact
    gan.augment.p.fill_(1)
    assert norm(1e-4, 0) != pytest.approx(estimates[0], rel=1e-3)


def test_r1_is_that_of_the_first_set():
    gan = make(r1_gamma=2.0, d_reg_interval=1)
    gan.discriminator = TwoOpinions()
    start = copy.deepcopy(gan.discriminator)
    steps = optimizers(gan, lr=0.001)
    logs = take_step(gan, 'discriminator', gan.r1_loss, batch(gan), steps)
    penalty = float(start.frame.detach().square().sum())
    assert float(logs['r1_penalty']) == pytest.approx(penalty, rel=1e-5)
    torch.testing.assert_close(
        gan.discriminator.frame.detach(), start.frame.detach() * (1 - 0.002)
    )
    assert torch.equal(gan.discriminator.clip, start.clip)


def test_what_is_not_trained_gets_no_gradient():
    gan = make()
    gan.discriminator = LinearDiscriminator()
    gan.discriminator.unused.requires_grad_(False)
    steps = optimizers(gan, kind=torch.optim.Adam)
    take_step(gan, 'discriminator', gan.r1_loss, batch(gan), steps)
    state = steps['discriminator'].optimizer.state
    assert gan.discriminator.unused not in state


# Path length


class PathLengths:
    """Lengths of J^T y, one a clip, in float64."""

    def __init__(self, gan, data, noise):
        self.network, self.noise = gan.generator, noise
        t = data['gen_t'][: len(noise), 0]
        motion_z = data['motion_z'][: len(noise), 0].double()
        with torch.no_grad():
            z = data['gen_z'][: len(noise), 0]
            w = self.network.mapping(z, None, update_w_avg=False)
            self.ws = w[:, None].repeat(1, self.network.num_ws, 1)
            self.motion_v = self.network.motion_encoder(None, t, motion_z)

    def projection(self, ws):
        videos = self.network.render(ws, self.motion_v, T)
        return (videos * self.noise).sum([1, 2, 3, 4])

    @torch.no_grad()
    def by_differences(self, step=1e-5):
        grad = torch.zeros_like(self.ws)
        for layer in range(self.ws.shape[1]):
            for i in range(self.ws.shape[2]):
                shift = torch.zeros_like(self.ws)
                shift[:, layer, i] = step
                ahead = self.projection(self.ws + shift)
                behind = self.projection(self.ws - shift)
                grad[:, layer, i] = (ahead - behind) / (2 * step)
        return grad.square().sum(2).mean(1).sqrt()

    def by_autograd(self):
        ws = self.ws.clone().requires_grad_()
        (grad,) = torch.autograd.grad(self.projection(ws).sum(), ws)
        return grad.square().sum(2).mean(1).sqrt()


@pytest.fixture
def fixed_noise(monkeypatch):
    """Let the path length see the same noise each time."""
    noise = torch.randn(N, T, 3, 16, 16, dtype=torch.float64)
    monkeypatch.setattr(
        'stylegan_v_mm.models.objectives.own_rows',
        lambda draw, shape, device: noise[: shape[0], : shape[1]],
    )
    return noise


def test_path_lengths_against_finite_differences(fixed_noise):
    gan = make(pl_weight=3.0, g_reg_interval=2).double()
    gan.pl_mean.fill_(0.1)
    data = batch(gan)
    data = {k: v if k == 'video' else v.double() for k, v in data.items()}
    noise = fixed_noise[: N // 2] / np.sqrt(T * 16 * 16)
    truth = PathLengths(gan, data, noise)
    lengths = truth.by_differences()
    # Differences are exact but where a step crosses the kink of a ReLU.
    torch.testing.assert_close(truth.by_autograd(), lengths, rtol=1e-4, atol=0)
    mean = 0.99 * 0.1 + 0.01 * float(lengths.mean())
    expected = float((lengths - mean).square().mean())

    # How the penalty changes with one weight, for the step.
    weight = gan.generator.synthesis.b8.conv0.weight
    start, index, step = weight.detach().clone(), (1, 2, 0, 1), 1e-6
    penalties = []
    for sign in (1, -1):
        weight.data = start.clone()
        weight.data[index] += sign * step
        moved = truth.by_autograd()
        penalties.append(float((moved - mean).square().mean()))
    derivative = (penalties[0] - penalties[1]) / (2 * step)
    weight.data = start.clone()

    steps = optimizers(gan, lr=1.0)
    before_d = weights(gan.discriminator)
    logs = take_step(gan, 'generator', gan.path_length_loss, data, steps)
    assert float(logs['pl_penalty']) == pytest.approx(expected, rel=1e-4)
    assert float(logs['pl_mean']) == pytest.approx(
        float(lengths.mean()), rel=1e-4
    )
    assert float(gan.pl_mean) == pytest.approx(mean, rel=1e-5)
    update = float((start - weight.detach())[index])
    assert update == pytest.approx(3.0 * 2 * derivative, rel=1e-3)
    assert unchanged(gan.discriminator, before_d)


def test_a_clip_of_one_picture_is_as_long_as_the_picture(fixed_noise):
    gan = make(generator=dict(motion_v_dim=0), pl_weight=1.0).double()
    steps, data = optimizers(gan, lr=0), batch(gan)
    data = {k: v.double() for k, v in data.items() if 'motion' not in k}
    of_clip = take_step(gan, 'generator', gan.path_length_loss, data, steps)
    # The noises of equal frames add up; of unit variance, as one does.
    fixed_noise[:, 0] = fixed_noise.sum(1) / np.sqrt(T)
    data['gen_t'] = data['gen_t'][:, :, :1]
    gan.pl_mean.zero_()
    of_one = take_step(gan, 'generator', gan.path_length_loss, data, steps)
    assert float(of_clip['pl_mean']) == pytest.approx(
        float(of_one['pl_mean']), rel=1e-9
    )
    assert float(of_one['pl_mean']) > 1e-3


def test_path_length_comes_every_interval():
    gan = make(pl_weight=2.0, g_reg_interval=2)
    data, steps = batch(gan), optimizers(gan)
    had = ['pl_penalty' in gan.train_step(data, steps) for _ in range(4)]
    assert had == [True, False, True, False]
    assert float(gan.pl_mean) > 0
    assert float(make().pl_mean) == 0


# Style mixing


def test_mixed_styles_train():
    gan = make(style_mixing_prob=0.9, pl_weight=2)
    data = batch(gan)
    del data['gen_z'], data['motion_z']
    logs = gan.train_step(data, optimizers(gan))
    assert all(np.isfinite(float(value)) for value in logs.values())
