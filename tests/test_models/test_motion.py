"""Motion codes against the formulas of the paper, recomputed in numpy."""

import math

import numpy as np
import pytest
import torch

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models.motion import MotionEncoder

DISTANCE = 8
KERNEL = 3
EXTRA = 4  # two convolutions without padding, KERNEL - 1 codes each


def make(c_dim=0, **changes):
    options = dict(
        motion_z_dim=5,
        motion_v_dim=12,
        motion_z_distance=DISTANCE,
        motion_type='conv',
        motion_kernel_size=KERNEL,
        fourier=True,
        time_enc_dim=6,
        min_period_len=8,
        max_period_len=64,
    )
    encoder = MotionEncoder(c_dim, **dict(options, **changes)).double()
    # Biases start at 0, where a wrong factor on them would not show.
    for name, param in encoder.named_parameters():
        if name.endswith('bias') and 'rnn' not in name:
            torch.nn.init.normal_(param, std=30)
    return encoder


def numbers(tensor):
    return tensor.detach().double().numpy()


def lrelu(x):
    return np.where(x < 0, 0.2 * x, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def codes_by_hand(encoder, motion_z, c):
    """Compute the codes u [L', dim] of one clip from its noise [L, dim]."""
    x = motion_z
    if c is not None:
        x = np.concatenate([x, np.tile(c, (len(x), 1))], 1)
    if hasattr(encoder, 'rnn'):
        return lstm_by_hand(encoder.rnn, x)
    for layer in encoder.conv:
        weight = numbers(layer.weight)  # out, in, k
        scale = 0.01 / math.sqrt(weight.shape[1] * weight.shape[2])
        bias = numbers(layer.bias) * 0.01
        x = np.stack(
            [
                lrelu(
                    np.einsum('oik,ki->o', weight * scale, x[i : i + KERNEL])
                    + bias
                )
                for i in range(len(x) - KERNEL + 1)
            ]
        )
    return x


def lstm_by_hand(rnn, x):
    """Hochreiter & Schmidhuber's cell, gates in PyTorch's order i f g o."""
    w_x, w_h = numbers(rnn.weight_ih_l0), numbers(rnn.weight_hh_l0)
    bias = numbers(rnn.bias_ih_l0) + numbers(rnn.bias_hh_l0)
    hidden = np.zeros(w_h.shape[1])
    cell = np.zeros_like(hidden)
    states = []
    for row in x:
        i, f, g, o = np.split(w_x @ row + w_h @ hidden + bias, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        states.append(hidden)
    return np.stack(states)


def encode_by_hand(encoder, u, t, distance=DISTANCE, low=8, high=64):
    """Encode one time between the codes u [L', dim] around it."""
    time_encoder = encoder.time_encoder

    def head(name, code):
        weight = numbers(getattr(time_encoder, name).weight)
        return weight @ code / math.sqrt(len(code))

    count = len(numbers(time_encoder.freqs)[0])
    periods = [
        low * (high / low) ** (1 - i / (count - 1)) for i in range(count)
    ]
    omega = 2 * np.pi / np.array(periods)
    phase_scales = high / np.array(periods)
    j = math.floor(t / distance)
    alpha = t / distance - j
    left, right = u[j], u[j + 1]
    rho = np.tanh(head('periods_predictor', left)) + 1
    phase = head('phase_predictor', left) * phase_scales

    def waves(time):
        theta = omega * rho * time + phase
        return np.concatenate([np.sin(theta), np.cos(theta)])

    chord = (1 - alpha) * waves(j * distance)
    chord = chord + alpha * waves((j + 1) * distance)
    aligners = (1 - alpha) * head('aligners_predictor', left)
    aligners = aligners + alpha * head('aligners_predictor', right)
    return waves(t) - chord + aligners


def test_grid_of_frequencies():
    encoder = make(
        motion_v_dim=512,
        time_enc_dim=256,
        min_period_len=16,
        max_period_len=1024,
    )
    freqs = numbers(encoder.time_encoder.freqs)[0]
    assert freqs.shape == (256,)
    assert freqs[0] == pytest.approx(2 * math.pi / 1024, rel=1e-6)
    assert freqs[-1] == pytest.approx(2 * math.pi / 16, rel=1e-6)
    # Evenly spaced in the logarithm.
    np.testing.assert_allclose(
        np.diff(np.log(freqs)), math.log(64) / 255, rtol=1e-3
    )
    scales = numbers(encoder.time_encoder.phase_scales)[0]
    np.testing.assert_allclose(scales, freqs * 1024 / (2 * np.pi), rtol=1e-6)
    assert scales[0] == pytest.approx(1, rel=1e-6)
    assert scales[-1] == pytest.approx(64, rel=1e-6)


@pytest.mark.parametrize('c_dim', [0, 3])
def test_motion_v_equals_the_formula(c_dim):
    encoder = make(c_dim)
    t = torch.tensor([[0, 5.3, 8, 37.9], [63.99, 15.999, 16.001, 2]])
    t = t.double()
    motion_z = torch.randn(2, 9 + EXTRA, 5).double()
    c = torch.randn(2, c_dim).double()
    motion_v = numbers(encoder(c if c_dim else None, t, motion_z))
    assert motion_v.shape == (8, 12)
    for row in range(2):
        label = c[row].numpy() if c_dim else None
        u = codes_by_hand(encoder, motion_z[row].numpy(), label)
        assert len(u) == 9
        for frame in range(4):
            expected = encode_by_hand(encoder, u, float(t[row, frame]))
            # The grid of frequencies is stored in float32.
            np.testing.assert_allclose(
                motion_v[4 * row + frame], expected, atol=2e-5
            )


def test_the_label_counts():
    encoder = make(3)
    t, motion_z = torch.tensor([[1.0, 20.0]]), torch.randn(1, 9, 5)
    one, other = torch.eye(3)[:1], torch.eye(3)[1:2]
    difference = encoder(one, t, motion_z) - encoder(other, t, motion_z)
    assert float(difference.detach().abs().max()) > 1e-3


def test_at_a_code_stands_its_aligner():
    encoder = make()
    motion_z = torch.randn(1, 9 + EXTRA, 5).double()
    t = torch.arange(0, 64, DISTANCE)[None].double()
    u = encoder.motion_u(motion_z, None)[0, :8]
    weight = encoder.time_encoder.aligners_predictor.weight
    torch.testing.assert_close(
        encoder(None, t, motion_z),
        u @ weight.T / 12**0.5,
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(motion_type='lstm', fourier=False, motion_z_distance=4),
    ],
)
def test_continuous_across_codes(options):
    encoder = make(**options)
    motion_z = torch.randn(1, 20, 5).double()
    borders = torch.arange(8, 40, 4).double()
    before = encoder(None, borders[None] - 1e-7, motion_z)
    after = encoder(None, borders[None], motion_z)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-4)
    # And it does move in between.
    middle = encoder(None, borders[None] + 2, motion_z)
    assert float((middle - after).detach().abs().min(1)[0].max()) > 1e-3


@pytest.mark.parametrize('t', [0, 3.5, 8, 47.9, 48])
def test_a_time_depends_on_its_own_codes_alone(t):
    encoder = make()
    motion_z = torch.randn(1, 14, 5).double().requires_grad_()
    motion_v = encoder(None, torch.tensor([[float(t)]]), motion_z)
    # Squared sine and cosine pairs would hide a dependence.
    (motion_v * torch.rand(12)).sum().backward()
    seen = motion_z.grad[0].abs().sum(1).nonzero().flatten().tolist()
    first = int(t // DISTANCE)
    # Exactly at a code the next one has no weight.
    last = first + EXTRA + (t % DISTANCE != 0)
    assert seen == list(range(first, last + 1))


def test_codes_drawn():
    encoder = make()
    t = torch.tensor([[0, 3.0, 7.9], [40, 41, 55.9], [16, 23, 24]])
    first, count = encoder.code_range(t)
    assert first.tolist() == [0, 5, 2]
    # Codes 5 and 6 and their right neighbours, and what they look at.
    assert count == 3 + EXTRA
    motion_z = torch.randn(3, count, 5)
    encoder(None, t, motion_z, first)
    with pytest.raises(InputError, match='too few'):
        encoder(None, t, motion_z[:, :-1], first)


def test_the_published_number_of_codes():
    """ceil(max(N - 1, t) / d) + 2, and 2 (k - 1) more, for a whole clip."""
    for distance, length, codes in ((16, 1023, 66), (256, 1023, 6)):
        encoder = make(motion_z_distance=distance, motion_kernel_size=11)
        t = torch.tensor([[0.0, length]])
        # One code less serves: a time that is no code has floor(t/d) + 2.
        assert encoder.code_range(t)[1] == codes - 1 + 20
        encoder(None, t, torch.randn(1, codes + 20, 5))


def test_noise_is_drawn_for_just_the_codes_needed():
    encoder = make()
    t = torch.tensor([[100.0, 109.0], [3.0, 4.0]])
    torch.manual_seed(3)
    drawn = encoder(None, t)
    torch.manual_seed(3)
    first, count = encoder.code_range(t)
    motion_z = torch.randn(2, count, 5, dtype=torch.float64)
    assert torch.equal(drawn, encoder(None, t, motion_z, first))
    assert not torch.equal(drawn, encoder(None, t))


def test_a_part_of_the_codes_gives_the_same():
    encoder = make()
    motion_z = torch.randn(2, 30, 5).double()
    t = torch.tensor([[100.5, 97, 110], [0, 13, 8]]).double()
    whole = encoder(None, t, motion_z)
    first, count = encoder.code_range(t)
    part = torch.stack([z[i : i + count] for z, i in zip(motion_z, first)])
    torch.testing.assert_close(encoder(None, t, part, first), whole)
    # One first code for all rows works too.
    part = encoder(None, t[:1], motion_z[:1, 11:], 11)
    torch.testing.assert_close(part, whole[:3])


def test_order_and_company_of_times_do_not_matter():
    encoder = make()
    motion_z = torch.randn(1, 30, 5).double()
    t = torch.rand(1, 20).double() * 150
    whole = encoder(None, t, motion_z)
    order = torch.randperm(20)
    shuffled = encoder(None, t[:, order], motion_z)
    torch.testing.assert_close(shuffled, whole[order])
    single = encoder(None, t[:, 4:5], motion_z)
    torch.testing.assert_close(single, whole[4:5])


@pytest.mark.parametrize('start', [5000, 10**6])
def test_late_times_stay_accurate(start):
    encoder = make()
    t = torch.tensor([[start + 0.25, start + 3.5]]).double()
    first, count = encoder.code_range(t)
    assert first.tolist() == [start // DISTANCE]
    motion_z = torch.randn(1, count, 5).double()
    motion_v = numbers(encoder(None, t, motion_z, first))
    u = codes_by_hand(encoder, motion_z[0].numpy(), None)
    # Over the stored frequencies, whose float32 rounding counts this late.
    time_encoder = encoder.time_encoder
    omega = numbers(time_encoder.freqs)[0]

    def head(name, code):
        return numbers(getattr(time_encoder, name).weight) @ code / 12**0.5

    rho = np.tanh(head('periods_predictor', u[0])) + 1
    phase = (
        head('phase_predictor', u[0]) * numbers(time_encoder.phase_scales)[0]
    )

    def waves(time):
        theta = omega * rho * time + phase
        return np.concatenate([np.sin(theta), np.cos(theta)])

    for row, time in zip(motion_v, t[0].tolist()):
        alpha = time / DISTANCE - start // DISTANCE
        expected = waves(time)
        for weight, code, border in (
            (1 - alpha, u[0], start),
            (alpha, u[1], start + DISTANCE),
        ):
            aligner = head('aligners_predictor', code)
            expected = expected + weight * (aligner - waves(border))
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_float32_agrees_with_float64():
    encoder = make()
    motion_z = torch.randn(2, 20, 5)
    t = torch.rand(2, 9).double() * 100
    wide = encoder(None, t, motion_z)
    narrow = encoder.float()(None, t, motion_z)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-3)


# The LSTM of MoCoGAN


def mapping_by_hand(network, u, c):
    """Normalise, then two layers with a learning rate of 0.01."""

    def second_moment(x):
        return x / np.sqrt((x**2).mean() + 1e-8)

    x = second_moment(u)
    if c is not None:
        embed = network.embed
        label = numbers(embed.weight) @ c / math.sqrt(len(c))
        x = np.concatenate([x, second_moment(label + numbers(embed.bias))])
    for layer in (network.fc0, network.fc1):
        weight = numbers(layer.weight) * 0.01 / math.sqrt(len(x))
        x = lrelu(weight @ x + numbers(layer.bias) * 0.01) * 2**0.5
    return x


@pytest.mark.parametrize('c_dim', [0, 3])
@pytest.mark.parametrize(
    ('motion_type', 'distance'), [('lstm', 1), ('lstm', 4), ('conv', 4)]
)
def test_codes_without_waves(c_dim, motion_type, distance):
    encoder = make(
        c_dim,
        motion_type=motion_type,
        fourier=False,
        motion_z_distance=distance,
        motion_v_dim=7,
    )
    assert encoder.recurrent == (motion_type == 'lstm')
    motion_z = torch.randn(2, 16, 5).double()
    c = torch.randn(2, c_dim).double()
    t = torch.tensor([[0, 3, 7.25], [9, 9.5, 1]]).double()
    motion_v = numbers(encoder(c if c_dim else None, t, motion_z))
    for row in range(2):
        label = c[row].numpy() if c_dim else None
        u = codes_by_hand(encoder, motion_z[row].numpy(), label)
        for frame in range(3):
            time = float(t[row, frame]) / distance
            j = math.floor(time)
            mixed = u[j] + (time - j) * (u[j + 1] - u[j])
            np.testing.assert_allclose(
                motion_v[3 * row + frame],
                mapping_by_hand(encoder.mapping, mixed, label),
                atol=1e-9,
            )


def test_codes_of_another_width_than_the_waves():
    encoder = make(2, motion_v_dim=9)
    assert encoder.conv[1].weight.shape == (9, 5, KERNEL)
    assert encoder.out_dim == 12
    motion_z, c = torch.randn(1, 12, 5).double(), torch.randn(1, 2).double()
    u = codes_by_hand(encoder, motion_z[0].numpy(), c[0].numpy())
    motion_v = numbers(encoder(c, torch.tensor([[21.5]]), motion_z))
    expected = encode_by_hand(encoder, u, 21.5)
    assert expected.shape == (12,)
    np.testing.assert_allclose(motion_v[0], expected, atol=1e-5)


def test_lstm_with_waves():
    encoder = make(motion_type='lstm')
    motion_z = torch.randn(1, 6, 5).double()
    u = codes_by_hand(encoder, motion_z[0].numpy(), None)
    motion_v = numbers(encoder(None, torch.tensor([[21.5]]), motion_z))
    expected = encode_by_hand(encoder, u, 21.5)
    np.testing.assert_allclose(motion_v[0], expected, atol=1e-5)


def test_lstm_needs_all_codes_from_the_first():
    encoder = make(motion_type='lstm', fourier=False, motion_z_distance=1)
    first, count = encoder.code_range(torch.tensor([[7, 9.0], [3, 5]]))
    assert first.tolist() == [0, 0]
    assert count == 11


# Bad values


def test_negative_times_are_refused():
    with pytest.raises(InputError, match='times must be at least 0, got -1'):
        make()(None, torch.tensor([[3.0, -1.0]]))


def test_codes_that_start_too_late_are_refused():
    with pytest.raises(InputError, match='first_code'):
        make()(None, torch.tensor([[3.0]]), torch.randn(1, 9, 5), 1)


@pytest.mark.parametrize(
    ('options', 'key'),
    [
        (dict(motion_type='gru'), 'motion_type'),
        (dict(motion_z_distance=0), 'motion_z_distance'),
        (dict(motion_z_distance=-16), 'motion_z_distance'),
        (dict(motion_z_distance=float('nan')), 'motion_z_distance'),
        (dict(min_period_len=0), 'min_period_len'),
        (dict(min_period_len=65), 'min_period_len'),
    ],
)
def test_nonsense_is_refused(options, key):
    with pytest.raises(InputError, match=key):
        make(**options)
