"""Our networks give the published model's numbers, and the check notices."""

import inspect
import sys
import textwrap
from contextlib import suppress

import numpy as np
import pytest
from fake_device import FakeDevice, needs_fake_device
from golden import TINY, golden_file
from real_process import run_tool

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import (
    clip_layers,
    discriminator,
    generator,
    layers,
    motion,
    objectives,
    stylegan_v,
)
from stylegan_v_mm.self_check.fidelity import compare_file

FORWARD, TRAIN = TINY / 'tiny_forward.npz', TINY / 'tiny_train.npz'
AUGMENT = TINY / 'tiny_augment.npz'


def check(*paths):
    """Run the tool as a process; give its status and lines."""
    result = run_tool('analysis_tools/check_fidelity.py', *paths)
    return (
        result.returncode,
        result.stdout.splitlines(),
        result.stderr.splitlines(),
    )


def verdicts(lines):
    """Parse ``FILE ARRAY max_abs_err=... tol=... VERDICT`` lines."""
    found = {}
    for line in lines:
        file, array, error, tolerance, verdict = line.split()
        error = float(error.removeprefix('max_abs_err='))
        tolerance = float(tolerance.removeprefix('tol='))
        assert (verdict == 'PASS') == (error <= tolerance)
        found[file, array] = verdict
    return found


def test_tiny_references_pass():
    status, out, err = check(FORWARD, TRAIN, AUGMENT)
    assert err == []
    found = verdicts(out)
    assert set(found.values()) == {'PASS'}
    assert status == 0
    # What is compared is what the files hold, no less.
    arrays = {array for file, array in found if file == FORWARD.name}
    inputs = {'z', 'c', 't', 'motion_z', 'real', 'config'}
    constants = ('freqs', 'phase_scales', 'fourier_coefs')
    with np.load(FORWARD) as file:
        held = {
            name
            for name in file.files
            if not name.startswith(('G/', 'D/')) or name.endswith(constants)
        }
    assert arrays == held - inputs
    arrays = {array for file, array in found if file == TRAIN.name}
    losses = {f'loss_{n}[{i}]' for n in 'GD' for i in range(3)}
    finals = {'G_final', 'D_final', 'G_ema_final'}
    assert arrays == losses | finals | {'r1_penalty[0]', 'r1_penalty[2]'}
    arrays = {array for file, array in found if file == AUGMENT.name}
    assert arrays == {'bgc/0.3', 'bgc/0.8'}


@needs_fake_device
@pytest.mark.parametrize('path', [FORWARD, TRAIN, AUGMENT])
def test_references_are_compared_on_the_device(path):
    on_the_cpu = [name for name, _, _ in compare_file(path)]
    found = []
    # Without values, the change of the weights, in the end, has the norm 0.
    with FakeDevice() as device, suppress(ZeroDivisionError):
        found.extend(name for name, _, _ in compare_file(path, 'gpu'))
    assert device.reads
    assert len(found) >= len(on_the_cpu) - 3
    assert found == on_the_cpu[: len(found)]


@pytest.mark.slow
def test_larger_references_pass():
    names = [
        'forward_uncond.npz',
        'forward_cond.npz',
        'forward_clamp.npz',
        'forward_mocogan.npz',
        'forward_noise.npz',
        'forward_widths.npz',
        'train_uncond.npz',
        'augment.npz',
    ]
    status, out, err = check(*map(golden_file, names))
    assert err == []
    found = verdicts(out)
    assert set(found.values()) == {'PASS'}
    assert {file for file, _ in found} == set(names)
    assert ('forward_noise.npz', 'frames_none') in found
    assert status == 0


def changed_copy(source, target, name, factor=1.01, index=None):
    """Copy a reference, one number (the largest) in one array 1 % off."""
    with np.load(source) as file:
        arrays = {key: file[key] for key in file.files}
    values = arrays[name].ravel()
    values[np.abs(values).argmax() if index is None else index] *= factor
    arrays[name] = values.reshape(arrays[name].shape)
    np.savez(target, **arrays)
    return target


def failures(path):
    """Return the arrays of a file that differ from ours."""
    return {
        name
        for name, error, tolerance in compare_file(path)
        if not error <= tolerance
    }


def test_a_changed_number_fails(tmp_path):
    path = changed_copy(FORWARD, tmp_path / 'changed.npz', 'frames')
    status, out, err = check(path, FORWARD)
    assert err == []
    assert status == 1
    found = verdicts(out)
    assert found['changed.npz', 'frames'] == 'FAIL'
    # One bad file takes nothing from the other.
    assert found[FORWARD.name, 'frames'] == 'PASS'


@pytest.mark.parametrize(
    ('source', 'name', 'failing'),
    [
        (FORWARD, 'ws', 'ws'),
        (FORWARD, 'ws_trunc', 'ws_trunc'),
        (FORWARD, 'motion_v', 'motion_v'),
        (FORWARD, 'frames_trunc', 'frames_trunc'),
        (FORWARD, 'g_loss', 'g_loss'),
        (FORWARD, 'logits_real', 'logits_real'),
        (FORWARD, 'r1_penalty', 'r1_penalty'),
        (FORWARD, 'r1_grad_D/b8.conv0.weight', None),
        (FORWARD, 'g_grad_G/synthesis.b8.conv0.weight', None),
        # Inputs and weights too: they reach the outputs.
        (FORWARD, 't', 'motion_v'),
        (FORWARD, 'motion_z', 'motion_v'),
        (FORWARD, 'c', 'ws'),
        (FORWARD, 'G/mapping.w_avg', 'ws_trunc'),
        (FORWARD, 'G/synthesis.b16.conv1.weight', 'frames'),
        (FORWARD, 'D/b8.conv0.weight', 'logits_real'),
        (TRAIN, 'loss_G', None),
        (TRAIN, 'loss_D', None),
        # Loaded with the weights, but it follows from the config.
        (FORWARD, 'D/time_encoder.time_encoder.fourier_coefs', None),
        (FORWARD, 'G/synthesis.motion_encoder.time_encoder.freqs', None),
        (AUGMENT, 'bgc/0.8', 'bgc/0.8'),
        (AUGMENT, 'images', 'bgc/0.3'),
    ],
)
def test_any_changed_number_fails(tmp_path, source, name, failing):
    path = changed_copy(source, tmp_path / 'changed.npz', name)
    failed = failures(path)
    if failing is None:
        assert failed
    else:
        assert failing in failed


@pytest.mark.parametrize(
    ('index', 'factor', 'fails'),
    [
        (0, 1.0005, False),
        (0, 0.998, True),
        # What training has changed is chaotic.
        (1, 1.02, False),
        (1, 0.98, False),
        (1, 1.04, True),
        (1, 0.96, True),
        (1, float('nan'), True),
    ],
)
def test_first_and_later_r1(tmp_path, index, factor, fails):
    args = TRAIN, tmp_path / 'changed.npz', 'r1_penalty', factor, index
    failed = failures(changed_copy(*args))
    # The first and the third iteration have R1.
    assert failed == ({f'r1_penalty[{2 * index}]'} if fails else set())


# Faults by where they are planted: what stands there, and the fault instead.
PLANTS = {
    (motion.MotionEncoder, 'forward'): {
        'index + 1]': 'index]',
        '.floor()': '.round()',
        'code.long() -': 'code.long() + 1 -',
    },
    (motion.MotionEncoder, 'motion_u'): {
        '[motion_z, label]': '[motion_z, -label]',
    },
    (motion.EqualizedConv1d, 'forward'): {
        'return': 'return 2**0.5 *',
        ' * self.bias_gain': '',
    },
    (motion.AlignedTimeEncoder, '__init__'): {
        '.flip(0)': '',
        'max_period_len / (2': 'min_period_len / (2',
    },
    (motion.AlignedTimeEncoder, 'forward'): {
        'tanh() + 1': 'tanh() - 1',
        ' * self.phase_scales': '',
        '+ phase\n': '- phase\n',
        't_left + distance)': 't_left)',
        'at_right, alpha': 'at_right, 1 - alpha',
    },
    (generator, 'modulated_conv2d'): {
        'square().sum([2, 3])': 'square().mean([2, 3])',
        'styles.square() @': 'styles.abs() @',
    },
    (generator.SynthesisLayer, 'forward'): {"'lrelu', ": "'lrelu', 1, "},
    (generator.ToRGB, '__init__'): {'1 / math.sqrt': '1.01 / math.sqrt'},
    (generator.ConstantInput, 'forward'): {'motion.to': '-motion.to'},
    (generator.SynthesisBlock, 'forward'): {
        '(2, 1, 2, 1)': '(1, 2, 1, 2)',
        'y + upfirdn2d': 'y - upfirdn2d',
    },
    (layers, '_conv'): {
        'gain=4': 'gain=2',
        'transpose(0, 1)': 'transpose(0, 1).flip(2)',
    },
    (layers.MappingNetwork, 'forward'): {
        'append(normalize_2nd_moment(z))': 'append(z)',
        '1 - self.w_avg_beta': '2 - 2 * self.w_avg_beta',
    },
    (layers.MappingNetwork, 'truncate'): {
        'truncation_psi)': '1 - 0.9 * truncation_psi)',
    },
    (layers.Conv2d, 'forward'): {
        'padding=(1,) * 4': 'padding=(0, 2, 0, 2)',
        'gain = gain *': 'gain = 1.01 * gain *',
    },
    (clip_layers.FixedTimeEncoder, '__init__'): {'math.pi / 2': 'math.pi / 3'},
    (clip_layers.TemporalDifferenceEncoder, 'forward'): {
        'const_embed(diffs': 'const_embed(1 + diffs',
    },
    (discriminator.DiscriminatorBlock, 'forward'): {
        '(x, gain=math.sqrt(0.5))': '(x)',
        'y + x': 'y - x',
    },
    (discriminator.DiscriminatorEpilogue, 'forward'): {'/ math.sqrt(': '/ ('},
    (discriminator, 'minibatch_stddev'): {'unbiased=False': 'unbiased=True'},
    (discriminator.StyleGANVDiscriminator, 'condition'): {
        't[:, 1:] - t[:, :-1]': 't[:, 1:] - t[:, :1]',
    },
    (discriminator.StyleGANVDiscriminator, 'forward'): {
        'x.reshape(n, -1,': 'x.flip(0).reshape(n, -1,',
    },
    (objectives.Objectives, 'generator_loss'): {
        'generator, batch, 0)': 'generator, batch, 1)',
        'backward(loss)': 'backward(-loss)',
    },
    (objectives.Objectives, 'discriminator_loss'): {
        'backward(fake_loss, last': 'backward(2 * fake_loss, last',
    },
    (objectives.Objectives, 'gradient_norm'): {
        'sum([2, 3, 4])': 'sum([1, 2, 3, 4])',
    },
    (objectives.Objectives, 'r1_loss'): {
        'self.d_reg_interval / 2': 'self.d_reg_interval',
        'weight = self.d_reg_interval': 'weight = 1',
        'complete_gradients(': 'id(',
    },
    (stylegan_v.StyleGANV, 'train_step'): {
        'if self.iteration % self.d': 'if (self.iteration + 1) % self.d',
        'num_clips * num_frames': 'num_clips',
    },
    (stylegan_v.StyleGANV, 'update_ema'): {
        '1 - self.ema_beta': 'self.ema_beta',
    },
    (stylegan_v.StyleGANV, 'ema_beta'): {
        'num_clips / max': '2 * num_clips / max',
    },
}


@pytest.mark.parametrize(
    ('owner', 'name', 'right', 'wrong'),
    [(*where, *fault) for where in PLANTS for fault in PLANTS[where].items()],
)
def test_a_planted_fault_fails(monkeypatch, owner, name, right, wrong):
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f'{name} is written in another way now'
    source = source.replace(right, wrong)
    # Zero-argument super() knows its class in the body of one alone.
    source = source.replace('super().', 'super(type(self), self).')
    made = {}
    exec(source, vars(sys.modules[function.__module__]), made)
    monkeypatch.setattr(owner, name, made[name])

    assert any(
        not error <= tolerance
        for path in (FORWARD, TRAIN)
        for _, error, tolerance in compare_file(path)
    )


def test_weights_after_training_are_compared(tmp_path):
    for name in ('G', 'D', 'G_ema'):
        with np.load(TRAIN) as file:
            arrays = {key: file[key] for key in file.files}
        # One percent of what training changed.
        start = name.removesuffix('_ema')
        for key in arrays:
            if key.startswith(f'{name}_final/') and 'filter' not in key:
                initial = arrays[key.replace(f'{name}_final', start)]
                arrays[key] = arrays[key] + 0.01 * (arrays[key] - initial)
        path = tmp_path / f'{name}.npz'
        np.savez(path, **arrays)
        assert failures(path) == {f'{name}_final'}


def test_not_a_number_fails(tmp_path):
    path = changed_copy(FORWARD, tmp_path / 'nan.npz', 'ws', float('nan'))
    assert 'ws' in failures(path)


def test_unreadable_files_end_with_one_line_each(tmp_path):
    garbage = tmp_path / 'garbage.npz'
    garbage.write_bytes(b'not an archive')
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(FORWARD.read_bytes()[:5000])
    other = tmp_path / 'other.npz'
    np.savez(other, config=np.frombuffer(b'{}', np.uint8), z=np.zeros(3))
    bare = tmp_path / 'bare.npz'
    np.savez(bare, z=np.zeros(3))
    paths = [tmp_path / 'missing.npz', garbage, cut, other, bare, tmp_path]
    status, out, err = check(*paths)
    assert status == 2
    assert out == []
    assert len(err) == len(paths)
    for path, line in zip(paths, err):
        assert line.startswith('error: ')
        assert str(path) in line


def test_another_pipeline_is_an_input_error(tmp_path):
    with np.load(AUGMENT) as file:
        arrays = {key: file[key] for key in file.files}
    config = bytes(arrays['config']).replace(b'"xint": 1', b'"xint": 2')
    arrays['config'] = np.frombuffer(config, np.uint8)
    path = tmp_path / 'other.npz'
    np.savez(path, **arrays)
    with pytest.raises(InputError, match='bgc is no pipeline of ours'):
        failures(path)


def test_weights_that_do_not_fit_are_an_input_error(tmp_path):
    with np.load(FORWARD) as file:
        arrays = {key: file[key] for key in file.files}
    del arrays['G/mapping.fc1.bias']
    path = tmp_path / 'short.npz'
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r'mapping\.fc1\.bias'):
        failures(path)
