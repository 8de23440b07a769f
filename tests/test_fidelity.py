"""Our networks give the published model's numbers, and the check notices."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from golden import ROOT, TINY, golden_file

SCRIPT = ROOT / 'tools/analysis_tools/check_fidelity.py'
FORWARD, TRAIN = TINY / 'tiny_forward.npz', TINY / 'tiny_train.npz'
AUGMENT = TINY / 'tiny_augment.npz'


def check(*paths):
    """Run the tool as a process; give its status and lines."""
    result = subprocess.run(
        [sys.executable, SCRIPT, *paths],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        # On networks this small, threads cost more than they bring.
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        timeout=300,
    )
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
    with np.load(FORWARD) as file:
        held = {n for n in file.files if not n.startswith(('G/', 'D/'))}
    assert arrays == held - inputs
    arrays = {array for file, array in found if file == TRAIN.name}
    losses = {f'loss_{n}[{i}]' for n in 'GD' for i in range(3)}
    finals = {'G_final', 'D_final', 'G_ema_final'}
    assert arrays == losses | finals | {'r1_penalty'}
    arrays = {array for file, array in found if file == AUGMENT.name}
    assert arrays == {'bgc/0.3', 'bgc/0.8'}


@pytest.mark.slow
def test_larger_references_pass():
    names = [
        'forward_uncond.npz',
        'forward_cond.npz',
        'forward_clamp.npz',
        'forward_mocogan.npz',
        'train_uncond.npz',
        'augment.npz',
    ]
    status, out, err = check(*map(golden_file, names))
    assert err == []
    found = verdicts(out)
    assert set(found.values()) == {'PASS'}
    assert {file for file, _ in found} == set(names)
    assert status == 0


def changed_copy(source, target, name, factor=1.01):
    """Copy a reference, its largest number in one array 1 % off."""
    with np.load(source) as file:
        arrays = {key: file[key] for key in file.files}
    values = arrays[name].ravel()
    values[np.abs(values).argmax()] *= factor
    arrays[name] = values.reshape(arrays[name].shape)
    np.savez(target, **arrays)
    return target


def test_a_changed_number_fails(tmp_path):
    path = changed_copy(FORWARD, tmp_path / 'changed.npz', 'frames')
    status, out, err = check(path, FORWARD)
    assert err == []
    assert status == 1
    found = verdicts(out)
    assert found['changed.npz', 'frames'] == 'FAIL'
    # One bad file takes nothing from the other.
    assert found[FORWARD.name, 'frames'] == 'PASS'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('check_fidelity', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        (TRAIN, 'r1_penalty', 'r1_penalty'),
        (AUGMENT, 'bgc/0.8', 'bgc/0.8'),
        (AUGMENT, 'images', 'bgc/0.3'),
    ],
)
def test_any_changed_number_fails(
    tool, tmp_path, monkeypatch, capsys, source, name, failing
):
    path = changed_copy(source, tmp_path / 'changed.npz', name)
    monkeypatch.setattr(sys, 'argv', ['check_fidelity.py', str(path)])
    assert tool.main() == 1
    found = verdicts(capsys.readouterr().out.splitlines())
    failed = {array for (_, array), v in found.items() if v == 'FAIL'}
    if failing is None:
        assert failed
    else:
        assert failing in failed


def test_weights_after_training_are_compared(tool, tmp_path):
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
        results = tool.compare_training(tool.Reference(path))
        failed = [array for array, error, tol in results if not error <= tol]
        assert failed == [f'{name}_final']


def test_not_a_number_fails(tool, tmp_path):
    path = changed_copy(FORWARD, tmp_path / 'nan.npz', 'ws', float('nan'))
    comparisons = tool.compare_forward(tool.Reference(path))
    name, error, tolerance = next(comparisons)
    assert name == 'ws'
    assert not error <= tolerance


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


def test_another_pipeline_is_an_input_error(tool, tmp_path):
    with np.load(AUGMENT) as file:
        arrays = {key: file[key] for key in file.files}
    config = bytes(arrays['config']).replace(b'"xint": 1', b'"xint": 2')
    arrays['config'] = np.frombuffer(config, np.uint8)
    path = tmp_path / 'other.npz'
    np.savez(path, **arrays)
    with pytest.raises(tool.InputError, match='bgc is no pipeline of ours'):
        list(tool.compare_augment(tool.Reference(path)))


def test_weights_that_do_not_fit_are_an_input_error(tool, tmp_path):
    with np.load(FORWARD) as file:
        arrays = {key: file[key] for key in file.files}
    del arrays['G/mapping.fc1.bias']
    path = tmp_path / 'short.npz'
    np.savez(path, **arrays)
    with pytest.raises(tool.InputError, match=r'mapping\.fc1\.bias'):
        list(tool.compare_forward(tool.Reference(path)))
