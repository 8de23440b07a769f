"""Check this machine's install and say what to do about each finding.

Prints versions, devices, codecs and what mmcv was compiled for, then runs
small networks forward, backward and twice backward, and the detectors that are
there; on a CUDA machine also compares its numbers with the CPU's. Takes about
ten seconds. Ends with status 1 where something is broken.
"""

import argparse
import importlib
import io
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylegan_v_mm.cli import run_tool
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import StyleGANVDiscriminator, StyleGANVGenerator
from stylegan_v_mm.models.ops import bias_act, fir_filter, upfirdn2d

ROOT = Path(__file__).resolve().parents[2]
CODECS = ('h264', 'mpeg4', 'vp9', 'hevc', 'av1')


class Finding(NamedTuple):
    """What a check found: ``status`` is 'ok', 'warn' or 'fail'."""

    name: str
    status: str
    text: str
    advice: str = ''


# ---------------------------------------------------------------- packages


def version_of(distribution: str) -> str | None:
    """Look up an installed distribution's version, None if it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def tried_versions() -> dict[str, str]:
    """Read the exact pins of the constraints file beside the tools.

    Empty in an installed package, which does not carry the file.
    """
    path = ROOT / 'requirements/constraints.txt'
    text = path.read_text() if path.exists() else ''
    return dict(re.findall(r'^([\w.-]+)==(\S+)$', text, re.MULTILINE))


def check_versions() -> Iterable[Finding]:
    """Import what the package needs; compare with the tried versions."""
    yield Finding('python', 'ok', f'{platform.python_version()}, {sys.prefix}')
    tried = tried_versions()
    modules = {
        'torch': 'torch',
        'mmengine': 'mmengine',
        'mmagic': 'mmagic.registry',
        'numpy': 'numpy',
        'av': 'av',
        'opencv-python': 'cv2',
    }
    for distribution, module in modules.items():
        version = version_of(distribution)
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Finding(
                distribution,
                'fail',
                f'{version}: {error}',
                f'pip install -c requirements/constraints.txt {distribution}',
            )
            continue
        wanted = tried.get(distribution, version)
        if version == wanted:
            yield Finding(distribution, 'ok', f'{version}')
        else:
            yield Finding(
                distribution,
                'warn',
                f'{version}, tried with {wanted}',
                'where it misbehaves: '
                f'pip install {distribution}=={wanted} (see docs/install.md)',
            )


def mmcv_compiled_for_cuda() -> bool:
    """Tell whether mmcv's CUDA kernels are there."""
    import mmcv.ops

    return mmcv.ops.get_compiling_cuda_version() != 'not available'


def check_install_kind() -> Iterable[Finding]:
    """Tell the quick install from the full one."""
    lite, full = version_of('mmcv-lite'), version_of('mmcv')
    if lite and full:
        yield Finding(
            'install',
            'fail',
            f'mmcv {full} and mmcv-lite {lite} overwrite each other',
            'pip uninstall -y mmcv mmcv-lite; then make .venv/.quick or '
            'make .venv/.full',
        )
    elif lite:
        text = f'quick (mmcv-lite {lite}: PyTorch formula)'
        if torch.cuda.is_available():
            yield Finding(
                'install',
                'warn',
                f'{text}: the GPU runs slower than it could',
                'make .venv/.full compiles the ops for the GPU',
            )
        else:
            yield Finding('install', 'ok', text)
    elif full:
        yield from check_compiled(full)
    else:
        yield Finding(
            'install',
            'fail',
            'neither mmcv nor mmcv-lite is installed',
            'pip install mmcv-lite==2.1.0, or make .venv/.full',
        )


def check_compiled(version: str) -> Iterable[Finding]:
    """Load the compiled ops of the full install."""
    try:
        cuda = mmcv_compiled_for_cuda()
    except ImportError as error:
        yield Finding(
            'install',
            'fail',
            f'mmcv {version} was compiled for another torch: {error}',
            'pip uninstall -y mmcv; rm -rf .venv/.full '
            '~/.cache/stylegan_v_mm/wheels; make .venv/.full',
        )
        return
    text = (
        f'full (mmcv {version}, ops compiled: CPU yes, '
        f'CUDA {"yes" if cuda else "no"})'
    )
    if torch.cuda.is_available() and not cuda:
        yield Finding(
            'install',
            'warn',
            f'{text}: the GPU runs the slower PyTorch formula',
            'rm .venv/.full; make .venv/.full with nvcc in PATH compiles '
            'the ops for the GPU',
        )
    else:
        yield Finding('install', 'ok', text)


# ------------------------------------------------------- devices and codecs


def check_devices() -> Iterable[Finding]:
    """List the CPU and the GPUs that torch can use."""
    yield Finding(
        'cpu',
        'ok',
        f'{os.cpu_count()} cores, torch uses {torch.get_num_threads()}',
    )
    if not torch.cuda.is_available():
        if Path('/proc/driver/nvidia').exists():
            yield Finding(
                'gpu',
                'warn',
                f'there is a driver, but torch {torch.__version__} sees no '
                'GPU',
                "nvidia-smi shows the driver's CUDA version: it must be at "
                f"least torch's, {torch.version.cuda}",
            )
        else:
            yield Finding('gpu', 'ok', 'none: everything runs on the CPU')
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding(
            f'gpu {index}',
            'ok',
            f'{device.name}, {device.total_memory / 2**30:.0f} GiB, '
            f'sm_{device.major}{device.minor}, CUDA {torch.version.cuda}',
        )


def moving_bar() -> np.ndarray:
    """Draw frames [8, 64, 64, 3], uint8: a bright bar that moves."""
    frames = np.full((8, 64, 64, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 6 * index : 6 * index + 16] = 220
    return frames


def encode(codec: str, frames: np.ndarray) -> bytes:
    """Encode ``frames`` [T, H, W, 3], uint8, into a Matroska file."""
    import av

    # Two encoders write pages about themselves to stderr.
    os.environ.setdefault('SVT_LOG', '1')
    quiet = {'x265-params': 'log-level=none'}
    file = io.BytesIO()
    with av.open(file, 'w', format='matroska') as container:
        stream = container.add_stream(codec, rate=25, options=quiet)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.bit_rate = 2_000_000
        for frame in frames:
            frame = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Decode a video file into frames [T, H, W, 3], uint8."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(video=0)
        return np.stack([f.to_ndarray(format='rgb24') for f in frames])


def codec_ability(name: str) -> str:
    """Try what PyAV can do with a codec, by a small video there and back."""
    import av
    from av.codec.codec import Codec, UnknownCodecError

    try:
        Codec(name, 'r')
    except UnknownCodecError:
        return 'cannot be read'
    frames = moving_bar()
    try:
        data = encode(name, frames)
    except (UnknownCodecError, av.FFmpegError):
        return 'can be read, not written'
    back = decode(data)
    if back.shape != frames.shape:
        return f'gives {back.shape} back for {frames.shape}'
    if np.abs(back - frames.astype(int)).mean() > 8:
        return 'gives other frames back'
    return 'can be read and written'


def check_codecs() -> Iterable[Finding]:
    """Write and read back a small video in each codec."""
    for name in CODECS:
        ability = codec_ability(name)
        if ability == 'can be read and written':
            yield Finding(name, 'ok', ability)
        elif name == 'h264':
            yield Finding(
                name,
                'fail',
                f'{ability}, but samples and previews are written in it',
                "pip install --force-reinstall av brings PyAV's own FFmpeg",
            )
        elif ability == 'can be read, not written':
            yield Finding(name, 'ok', ability)
        else:
            yield Finding(
                name,
                'warn',
                ability,
                "pip install --force-reinstall av brings PyAV's own FFmpeg; "
                'or convert videos of this codec to H.264',
            )


# ---------------------------------------------------------------- networks


class Networks:
    """A small generator and discriminator with inputs, the same every time.

    Args:
        device (str): Where they are.
        dtype (torch.dtype): Of weights and inputs.
        num_fp16_res (int): Resolutions in half precision. Defaults to 0.
    """

    def __init__(self, device: str, dtype: torch.dtype, num_fp16_res: int = 0):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {
            'resolution': 32,
            'channel_base': 1024,
            'channel_max': 64,
            'num_fp16_res': num_fp16_res,
        }
        self.generator = StyleGANVGenerator(
            z_dim=32,
            w_dim=32,
            motion_z_dim=32,
            motion_v_dim=32,
            time_enc_dim=16,
            **sizes,
        )
        self.discriminator = StyleGANVDiscriminator(**sizes)
        self.z = torch.randn(4, 32)
        self.t = torch.rand(4, 3).cumsum(1) * 20
        # Codes for times up to 60 frames, plus both ends of the convolutions.
        self.motion_z = torch.randn(4, 60 // 16 + 3 + 2 * 10, 32)
        self.real = torch.rand(4, 3, 3, 32, 32) * 2 - 1
        for network in (self.generator, self.discriminator):
            network.to(device, dtype).eval()
        for name in ('z', 't', 'motion_z', 'real'):
            setattr(self, name, getattr(self, name).to(device, dtype))

    def videos(self) -> Tensor:
        """Generate videos [4, 3, 3, 32, 32]."""
        return self.generator(self.z, None, self.t, self.motion_z)

    def generator_loss(self) -> Tensor:
        """Compute the non-saturating loss of the generator."""
        logits = self.discriminator(self.videos(), None, self.t)
        return torch.nn.functional.softplus(-logits).mean()

    def r1(self) -> Tensor:
        """Compute the R1 penalty: its gradient is a second derivative."""
        real = self.real.detach().requires_grad_()
        logits = self.discriminator(real, None, self.t)
        (grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        return grad.square().sum((1, 2, 3, 4)).mean()


def slope_error(loss: Callable[[], Tensor], network: torch.nn.Module) -> float:
    """Compare autograd with a central difference along the gradient.

    Args:
        loss (Callable): Computes a scalar from ``network``, float64.
        network (nn.Module): Its weights are moved to and fro.

    Returns:
        float: Relative difference of the two slopes.
    """
    weights = [w for w in network.parameters() if w.requires_grad]
    grads = torch.autograd.grad(loss(), weights, allow_unused=True)
    moves = [(w, g) for w, g in zip(weights, grads) if g is not None]
    slope = math.sqrt(sum(g.square().sum().item() for _, g in moves))
    step = 1e-7  # small, so that few leaky ReLUs cross their kink

    def move(distance: float) -> None:
        with torch.no_grad():
            for weight, grad in moves:
                weight += distance / slope * grad

    move(step)
    above = loss().item()
    move(-2 * step)
    below = loss().item()
    move(step)
    return abs((above - below) / (2 * step) - slope) / slope


def check_networks() -> Iterable[Finding]:
    """Differentiate small networks once and twice, against differences."""
    networks = Networks('cpu', torch.float64)
    for name, loss, network in (
        ('backward', networks.generator_loss, networks.generator),
        ('double backward', networks.r1, networks.discriminator),
    ):
        error = slope_error(loss, network)
        text = f'relative error of the gradient {error:.0e}'
        if error < 1e-4:
            yield Finding(name, 'ok', text)
        else:
            yield Finding(
                name,
                'fail',
                text,
                'this build of torch computes wrong derivatives: '
                'pip install -c requirements/constraints.txt torch',
            )


# -------------------------------------------------------------------- CUDA


def network_results(networks: Networks) -> dict[str, Tensor]:
    """Collect what the networks compute, on the CPU, in float64."""
    loss, r1 = networks.generator_loss(), networks.r1()
    to_rgb = networks.generator.synthesis.b32.torgb.weight
    first = networks.discriminator.b32.conv0.weight
    results = {
        'videos': networks.videos(),
        'loss': loss,
        'gradient': torch.autograd.grad(loss, to_rgb)[0],
        'r1': r1,
        'r1 gradient': torch.autograd.grad(r1, first)[0],
    }
    return {k: v.detach().double().cpu() for k, v in results.items()}


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Compute the largest difference over the largest magnitude."""
    difference = (value.double().cpu() - truth.double().cpu()).abs().max()
    return (difference / truth.abs().max()).item()


def differentiated(
    op: Callable[[Tensor], Tensor], x: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``op(x)``, its gradient along ``v`` and the gradient's own.

    The last is the gradient with respect to ``v`` of the summed squares of
    the first gradient: what the R1 penalty asks of an op.
    """
    x, v = x.requires_grad_(), v.requires_grad_()
    y = op(x)
    (first,) = torch.autograd.grad(y, x, v, create_graph=True)
    (second,) = torch.autograd.grad(first.float().square().sum(), v)
    return y.detach(), first.detach(), second


def check_cuda_ops() -> Iterable[Finding]:
    """Compare the ops on the GPU with the formula on the CPU."""

    def biased(x: Tensor) -> Tensor:
        bias = torch.linspace(-1, 1, x.shape[1]).to(x)
        return bias_act(x, bias, 'lrelu', clamp=2)

    def upsampled(x: Tensor) -> Tensor:
        return upfirdn2d(
            x, fir_filter(x.device), up=2, padding=(2, 1, 2, 1), gain=4
        )

    def downsampled(x: Tensor) -> Tensor:
        return upfirdn2d(x, fir_filter(x.device), down=2, padding=(1, 1, 1, 1))

    torch.manual_seed(0)
    for op in (biased, upsampled, downsampled):
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 5e-3)):
            # Both sides start from the same rounded numbers.
            x = torch.randn(2, 8, 16, 16).to(dtype)
            v = torch.randn(op(x.float()).shape).to(dtype)
            truth = differentiated(op, x.float(), v.float())
            ours = differentiated(op, x.cuda(), v.cuda())
            error = max(map(relative_error, ours, truth))
            yield compared(f'{op.__name__} {str(dtype)[6:]}', error, tolerance)


def check_cuda_networks() -> Iterable[Finding]:
    """Compare the networks on the GPU with the same on the CPU."""
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    truth = network_results(Networks('cpu', torch.float32))
    ours = network_results(Networks('cuda', torch.float32))
    half = Networks('cuda', torch.float32, num_fp16_res=2).videos().detach()
    torch.backends.cudnn.allow_tf32 = tf32
    for name, value in ours.items():
        error = relative_error(value, truth[name])
        yield compared(f'{name} float32', error, 1e-3)
    error = relative_error(half, truth['videos'])
    yield compared('videos float16', error, 2e-2)


def compared(name: str, error: float, tolerance: float) -> Finding:
    """Judge a difference between GPU and CPU."""
    text = f'GPU against CPU: relative error {error:.0e} (at most {tolerance})'
    if error <= tolerance:
        return Finding(name, 'ok', text)
    return Finding(
        name,
        'fail',
        text,
        'compile mmcv again for this GPU and torch: pip uninstall -y mmcv; '
        'rm -rf .venv/.full ~/.cache/stylegan_v_mm/wheels; make .venv/.full',
    )


# ---------------------------------------------------------------- fidelity


def check_fidelity() -> Iterable[Finding]:
    """Compare the networks with the numbers of the published model."""
    data = ROOT / 'tests/data'
    files = [*data.glob('tiny_forward.npz'), *data.glob('tiny_train.npz')]
    script = Path(__file__).with_name('check_fidelity.py')
    if not files:
        text = 'not checked: the reference files are in the repository only'
        yield Finding('fidelity', 'ok', text)
        return
    result = subprocess.run(
        [sys.executable, script, *files], capture_output=True, text=True
    )
    lines = result.stdout.splitlines()
    failed = [line for line in lines if line.endswith('FAIL')]
    if result.returncode == 0:
        text = f'{len(lines)} arrays agree with the published model'
        yield Finding('fidelity', 'ok', text)
    else:
        yield Finding(
            'fidelity',
            'fail',
            '; '.join(failed) or result.stderr.strip(),
            'compare the versions above with requirements/constraints.txt, '
            'and run pytest tests',
        )


# --------------------------------------------------------------- detectors


def check_detectors() -> Iterable[Finding]:
    """Look at the weights that metrics need, and compute known numbers."""
    # Not at the top: they need packages that may be broken.
    from stylegan_v_mm.evaluation.detectors.check_values import check_values
    from stylegan_v_mm.evaluation.detectors.files import SOURCES, detector_path

    for name in SOURCES:
        command = f'python tools/get_detectors.py {name}'
        if not detector_path(name).exists():
            yield Finding(
                name, 'warn', 'not there: what needs it cannot run', command
            )
            continue
        try:
            values = check_values(name)
        except InputError as error:
            yield Finding(name, 'fail', str(error), command)
            continue
        well = all(value.is_right for value in values)
        yield Finding(
            name,
            'ok' if well else 'fail',
            '; '.join(map(str, values)),
            '' if well else 'this machine computes something else',
        )


# -------------------------------------------------------------------- main

CHECKS = [
    check_versions,
    check_install_kind,
    check_devices,
    check_codecs,
    check_networks,
    check_fidelity,
    check_detectors,
]
CUDA_CHECKS = [check_cuda_ops, check_cuda_networks]


def findings() -> Iterable[Finding]:
    """Run all checks; one that breaks is a finding too."""
    for check in CHECKS + CUDA_CHECKS * torch.cuda.is_available():
        try:
            yield from check()
        except Exception as error:
            yield Finding(
                check.__name__,
                'fail',
                f'{type(error).__name__}: {error}',
                'see docs/install.md; else please report this line',
            )


def main() -> int:
    """Print the findings; give 1 where something is broken."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    counts = {'ok': 0, 'warn': 0, 'fail': 0}
    for name, status, text, advice in findings():
        counts[status] += 1
        print(f'{status:5}{name}: {text}', flush=True)
        if advice:
            print(f'     -> {advice}', flush=True)
    print('{ok} ok, {warn} to look at, {fail} broken'.format(**counts))
    return 1 if counts['fail'] else 0


if __name__ == '__main__':
    run_tool(main)
