"""Each finding that the checks of an install can make."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_device import FakeDevice, needs_fake_device

from stylegan_v_mm.evaluation.detectors.check_values import CheckValue
from stylegan_v_mm.evaluation.detectors.files import detector_path
from stylegan_v_mm.self_check import checks, machine, networks, packages

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pretend(monkeypatch):
    """Pretend that just these distributions are installed."""

    def pretend(**versions):
        versions = {k.replace('_', '-'): v for k, v in versions.items()}
        monkeypatch.setattr(packages, 'version_of', versions.get)

    return pretend


def statuses(findings):
    return {finding.name: finding.status for finding in findings}


def test_quick_install(pretend):
    pretend(mmcv_lite='2.1.0')
    (finding,) = packages.check_install_kind()
    assert finding.text.startswith('quick (mmcv-lite 2.1.0: PyTorch formula)')


@pytest.mark.parametrize(
    ('compiler', 'has_gpu', 'status', 'text'),
    [
        ('not available', False, 'ok', 'CPU yes, CUDA no'),
        ('not available', True, 'warn', 'CPU yes, CUDA no'),
        ('13.0', True, 'ok', 'CPU yes, CUDA yes'),
    ],
)
def test_full_install(pretend, monkeypatch, compiler, has_gpu, status, text):
    pretend(mmcv='2.1.0')
    ops = SimpleNamespace(get_compiling_cuda_version=lambda: compiler)
    monkeypatch.setattr('mmcv.ops', ops, raising=False)
    monkeypatch.setitem(sys.modules, 'mmcv.ops', ops)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    (finding,) = packages.check_install_kind()
    assert finding.status == status
    assert finding.text.startswith(f'full (mmcv 2.1.0, ops compiled: {text})')
    assert bool(finding.advice) == (status != 'ok')


def test_mmcv_of_another_torch(pretend, monkeypatch):
    pretend(mmcv='2.1.0')
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    (finding,) = packages.check_install_kind()
    assert finding.status == 'fail'
    assert 'pip uninstall -y mmcv' in finding.advice


@pytest.mark.parametrize(
    ('installed', 'advice'),
    [
        ({'mmcv': '2.1.0', 'mmcv_lite': '2.1.0'}, 'pip uninstall'),
        ({}, 'pip install mmcv-lite'),
    ],
)
def test_both_or_neither(pretend, installed, advice):
    pretend(**installed)
    (finding,) = packages.check_install_kind()
    assert finding.status == 'fail'
    assert finding.advice.startswith(advice)


def test_versions(pretend, monkeypatch):
    pins = packages.tried_versions(ROOT)
    assert pins['torch'] == '2.11.0'
    assert 'pandas' not in pins  # a bound, not a pin
    pretend(
        torch='2.12.0', mmengine=pins['mmengine'], numpy=pins['numpy'], av='18'
    )
    monkeypatch.setitem(sys.modules, 'cv2', None)
    found = {f.name: f for f in packages.check_versions(ROOT)}
    assert found['torch'].status == 'warn'
    assert 'pip install torch==2.11.0' in found['torch'].advice
    assert found['numpy'].status == 'ok'
    assert found['av'].status == 'ok'
    assert found['opencv-python'].status == 'fail'


def test_codecs(monkeypatch):
    assert set(statuses(machine.check_codecs()).values()) == {'ok'}

    monkeypatch.setattr(machine, 'decode', lambda data: wrong)
    wrong = machine.moving_bar()[::-1]
    found = statuses(machine.check_codecs())
    assert found['h264'] == 'fail'
    assert found['vp9'] == 'warn'

    wrong = machine.moving_bar()[:-1]
    (h264, *_) = machine.check_codecs()
    assert 'returns (7, 64, 64, 3) for (8, 64, 64, 3)' in h264.text


def test_unknown_codec():
    assert machine.codec_ability('nonsense') == 'cannot be read'
    # FFmpeg decodes it but has no encoder.
    ability = machine.codec_ability('vp7')
    assert ability == 'can be read, not written'


@pytest.mark.parametrize(('factor', 'well'), [(1.0, True), (1.01, False)])
def test_slope_error_notices_a_wrong_gradient(factor, well):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return factor * grad

    torch.manual_seed(0)
    network = torch.nn.Linear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    error = networks.slope_error(
        lambda: Scaled.apply(network(x)).tanh().square().mean(), network
    )
    assert (error < 1e-4) == well
    if not well:
        assert error == pytest.approx(1 - 1 / 1.01, rel=1e-3)


def test_networks_are_differentiated(monkeypatch):
    found = statuses(networks.check_networks())
    assert found == {'backward': 'ok', 'double backward': 'ok'}

    monkeypatch.setattr(networks, 'slope_error', lambda *_: 0.1)
    found = statuses(networks.check_networks())
    assert found == {'backward': 'fail', 'double backward': 'fail'}


def test_detectors(monkeypatch):
    found = {f.name: f for f in checks.check_detectors()}
    assert {name: f.status for name, f in found.items()} == {
        'i3d': 'warn',
        'lpips': 'warn',
    }
    for name, finding in found.items():
        assert finding.text.startswith('not there')
        assert finding.advice == f'python tools/get_detectors.py {name}'

    path = detector_path('i3d')
    path.parent.mkdir(parents=True)
    path.write_bytes(b'no weights')
    (finding, _) = checks.check_detectors()
    assert finding.status == 'fail'
    assert f'{path} is damaged' in finding.text
    assert finding.advice == 'python tools/get_detectors.py i3d'

    # It is the file, and computes one number or another.
    for number, status in ((151.392, 'ok'), (151.76, 'fail')):
        value = CheckValue('black from white', number, 151.39244)
        monkeypatch.setattr(
            'stylegan_v_mm.evaluation.detectors.check_values.check_values',
            lambda name, value=value: [value],
        )
        (finding, _) = checks.check_detectors()
        assert finding.status == status
        assert f'black from white: {number:.5f}' in finding.text
        assert '(known: 151.392)' in finding.text


@pytest.fixture
def cpu_as_cuda(monkeypatch):
    """Let the comparisons of GPU and CPU run on the CPU alone."""
    whole = networks.Networks
    monkeypatch.setattr(torch.Tensor, 'cuda', torch.Tensor.clone)
    monkeypatch.setattr(
        networks,
        'Networks',
        lambda _, *rest, **kw: whole('cpu', *rest, **kw),
    )


@pytest.mark.usefixtures('cpu_as_cuda')
def test_gpu_checks_pass_where_nothing_differs():
    found = [*networks.check_cuda_ops()]
    found += networks.check_cuda_networks()
    assert len(found) == 6 + 6
    assert set(statuses(found).values()) == {'ok'}


@pytest.mark.usefixtures('cpu_as_cuda')
def test_gpu_checks_notice_a_wrong_op(monkeypatch):
    right = networks.bias_act
    calls = []

    def wrong_second(x, *args, **kwargs):
        # Called on the CPU first, for the size and for the truth.
        calls.append(x)
        y = right(x, *args, **kwargs)
        return y * 1.01 if len(calls) % 3 == 0 else y

    monkeypatch.setattr(networks, 'bias_act', wrong_second)
    found = statuses(networks.check_cuda_ops())
    assert found['biased float32'] == 'fail'
    assert found['biased float16'] == 'fail'
    assert found['upsampled float16'] == 'ok'


@needs_fake_device
def test_the_networks_of_the_gpu_checks_are_on_the_device():
    with FakeDevice():
        compared = networks.Networks('gpu', torch.float32, num_fp16_res=2)
        for value in (
            compared.videos(),
            compared.generator_loss(),
            compared.r1(),
        ):
            assert value.device.type == 'gpu'


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def breaks():
        yield checks.Finding('one', 'warn', 'odd', 'look at it')
        raise RuntimeError('boom')

    monkeypatch.setattr(checks, 'check_codecs', breaks)
    found = list(checks.findings(ROOT))
    start = found.index(('one', 'warn', 'odd', 'look at it'))
    advice = 'see docs/install.md; else please report this line'
    broken = ('codecs', 'fail', 'RuntimeError: boom', advice)
    assert found[start + 1] == broken
    # The others are made all the same.
    names = [finding.name for finding in found[start + 2 :]]
    assert names[:3] == ['backward', 'double backward', 'fidelity']


def test_numbers_of_the_published_model(tmp_path):
    (finding,) = checks.check_fidelity(tmp_path)
    assert finding.status == 'ok'
    assert 'not checked' in finding.text
    folder = tmp_path / 'tests/data'
    folder.mkdir(parents=True)
    with np.load(ROOT / 'tests/data/tiny_forward.npz') as file:
        arrays = {name: file[name] for name in file.files}
    for factor, status in ((1, 'ok'), (1.01, 'fail')):
        changed = arrays | {'ws': factor * arrays['ws']}
        np.savez(folder / 'tiny_forward.npz', **changed)
        (finding,) = checks.check_fidelity(tmp_path)
        assert finding.status == status
    assert finding.text.startswith('tiny_forward.npz ws: ')
