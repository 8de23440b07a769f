"""The self-check as a user runs it, and each finding it can make."""

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stylegan_v_mm.evaluation.detectors.check_values import CheckValue
from stylegan_v_mm.evaluation.detectors.files import detector_path

SCRIPT = Path(__file__).parents[2] / 'tools/analysis_tools/check_install.py'


@pytest.fixture
def check_install():
    spec = importlib.util.spec_from_file_location('check_install', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packages(check_install, monkeypatch):
    """Pretend that just these distributions are installed."""

    def pretend(**versions):
        versions = {k.replace('_', '-'): v for k, v in versions.items()}
        monkeypatch.setattr(check_install, 'version_of', versions.get)

    return pretend


def statuses(findings):
    return {finding.name: finding.status for finding in findings}


@pytest.mark.slow
def test_this_install_is_well(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].endswith(' 0 broken')
    (install,) = (line for line in lines if 'install: ' in line)
    names = {d.name for d in metadata.distributions()}
    if 'mmcv' in names:
        assert 'full (mmcv 2.1.0, ops compiled: CPU yes' in install
    else:
        assert 'quick (mmcv-lite 2.1.0: PyTorch formula)' in install
    assert f'ok   torch: {torch.__version__.split("+")[0]}' in result.stdout
    assert f'ok   numpy: {np.__version__}' in result.stdout
    # No encoder, pip or warning writes about itself.
    assert result.stderr == ''


def test_quick_install(check_install, packages):
    packages(mmcv_lite='2.1.0')
    (finding,) = check_install.check_install_kind()
    assert finding.text.startswith('quick (mmcv-lite 2.1.0: PyTorch formula)')


@pytest.mark.parametrize(
    ('compiler', 'has_gpu', 'status', 'text'),
    [
        ('not available', False, 'ok', 'CPU yes, CUDA no'),
        ('not available', True, 'warn', 'CPU yes, CUDA no'),
        ('13.0', True, 'ok', 'CPU yes, CUDA yes'),
    ],
)
def test_full_install(
    check_install, packages, monkeypatch, compiler, has_gpu, status, text
):
    packages(mmcv='2.1.0')
    ops = SimpleNamespace(get_compiling_cuda_version=lambda: compiler)
    monkeypatch.setattr('mmcv.ops', ops, raising=False)
    monkeypatch.setitem(sys.modules, 'mmcv.ops', ops)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    (finding,) = check_install.check_install_kind()
    assert finding.status == status
    assert finding.text.startswith(f'full (mmcv 2.1.0, ops compiled: {text})')
    assert bool(finding.advice) == (status != 'ok')


def test_mmcv_of_another_torch(check_install, packages, monkeypatch):
    packages(mmcv='2.1.0')
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)
    (finding,) = check_install.check_install_kind()
    assert finding.status == 'fail'
    assert 'pip uninstall -y mmcv' in finding.advice


@pytest.mark.parametrize(
    ('installed', 'advice'),
    [
        ({'mmcv': '2.1.0', 'mmcv_lite': '2.1.0'}, 'pip uninstall'),
        ({}, 'pip install mmcv-lite'),
    ],
)
def test_both_or_neither(check_install, packages, installed, advice):
    packages(**installed)
    (finding,) = check_install.check_install_kind()
    assert finding.status == 'fail'
    assert finding.advice.startswith(advice)


def test_versions(check_install, packages, monkeypatch):
    pins = check_install.tried_versions()
    assert pins['torch'] == '2.11.0'
    assert 'pandas' not in pins  # a bound, not a pin
    packages(
        torch='2.12.0', mmengine=pins['mmengine'], numpy=pins['numpy'], av='18'
    )
    monkeypatch.setitem(sys.modules, 'cv2', None)
    found = {f.name: f for f in check_install.check_versions()}
    assert found['torch'].status == 'warn'
    assert 'pip install torch==2.11.0' in found['torch'].advice
    assert found['numpy'].status == 'ok'
    assert found['av'].status == 'ok'
    assert found['opencv-python'].status == 'fail'


def test_codecs(check_install, monkeypatch):
    assert set(statuses(check_install.check_codecs()).values()) == {'ok'}

    monkeypatch.setattr(check_install, 'decode', lambda data: wrong)
    wrong = check_install.moving_bar()[::-1]
    found = statuses(check_install.check_codecs())
    assert found['h264'] == 'fail'
    assert found['vp9'] == 'warn'

    wrong = check_install.moving_bar()[:-1]
    (h264, *_) = check_install.check_codecs()
    assert '(7, 64, 64, 3) back for (8, 64, 64, 3)' in h264.text


def test_unknown_codec(check_install):
    assert check_install.codec_ability('nonsense') == 'cannot be read'
    # FFmpeg decodes it but has no encoder.
    ability = check_install.codec_ability('vp7')
    assert ability == 'can be read, not written'


@pytest.mark.parametrize(('factor', 'well'), [(1.0, True), (1.01, False)])
def test_slope_error_notices_a_wrong_gradient(check_install, factor, well):
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
    error = check_install.slope_error(
        lambda: Scaled.apply(network(x)).tanh().square().mean(), network
    )
    assert (error < 1e-4) == well
    if not well:
        assert error == pytest.approx(1 - 1 / 1.01, rel=1e-3)


def test_networks_are_differentiated(check_install, monkeypatch):
    found = statuses(check_install.check_networks())
    assert found == {'backward': 'ok', 'double backward': 'ok'}

    monkeypatch.setattr(check_install, 'slope_error', lambda *_: 0.1)
    found = statuses(check_install.check_networks())
    assert found == {'backward': 'fail', 'double backward': 'fail'}


def test_detectors(check_install, monkeypatch):
    found = {f.name: f for f in check_install.check_detectors()}
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
    (finding, _) = check_install.check_detectors()
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
        (finding, _) = check_install.check_detectors()
        assert finding.status == status
        assert f'black from white: {number:.5f}' in finding.text
        assert '(known: 151.392)' in finding.text


@pytest.fixture
def cpu_as_cuda(check_install, monkeypatch):
    """Let the comparisons of GPU and CPU run on the CPU alone."""
    networks = check_install.Networks
    monkeypatch.setattr(torch.Tensor, 'cuda', torch.Tensor.clone)
    monkeypatch.setattr(
        check_install,
        'Networks',
        lambda _, *rest, **kw: networks('cpu', *rest, **kw),
    )


@pytest.mark.usefixtures('cpu_as_cuda')
def test_gpu_checks_pass_where_nothing_differs(check_install):
    found = [*check_install.check_cuda_ops()]
    found += check_install.check_cuda_networks()
    assert len(found) == 6 + 6
    assert set(statuses(found).values()) == {'ok'}


@pytest.mark.usefixtures('cpu_as_cuda')
def test_gpu_checks_notice_a_wrong_op(check_install, monkeypatch):
    right = check_install.bias_act
    calls = []

    def wrong_second(x, *args, **kwargs):
        # Called on the CPU first, for the size and for the truth.
        calls.append(x)
        y = right(x, *args, **kwargs)
        return y * 1.01 if len(calls) % 3 == 0 else y

    monkeypatch.setattr(check_install, 'bias_act', wrong_second)
    found = statuses(check_install.check_cuda_ops())
    assert found['biased float32'] == 'fail'
    assert found['biased float16'] == 'fail'
    assert found['upsampled float16'] == 'ok'


def test_a_check_that_breaks_is_a_finding(check_install, monkeypatch, capsys):
    def breaks():
        yield check_install.Finding('one', 'warn', 'odd', 'look at it')
        raise RuntimeError('boom')

    monkeypatch.setattr(check_install, 'CHECKS', [breaks])
    monkeypatch.setattr(check_install, 'CUDA_CHECKS', [])
    monkeypatch.setattr(sys, 'argv', ['check_install.py'])
    assert check_install.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        'warn one: odd',
        '     -> look at it',
        'fail breaks: RuntimeError: boom',
        '     -> see docs/install.md; else please report this line',
        '0 ok, 1 to look at, 1 broken',
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_gpu_agrees_with_cpu(check_install):
    found = [*check_install.check_cuda_ops()]
    found += check_install.check_cuda_networks()
    assert set(statuses(found).values()) == {'ok'}, found
