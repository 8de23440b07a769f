"""Small networks: their derivatives, and a GPU against the CPU."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..models import StyleGANVDiscriminator, StyleGANVGenerator
from ..models.ops import bias_act, fir_filter, upfirdn2d
from .finding import Finding


class Networks:
    """A small generator and discriminator with inputs, always the same.

    Args:
        device (str): Device of weights and inputs.
        dtype (torch.dtype): Type of weights and inputs.
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


def slope_error(loss: Callable[[], Tensor], network: torch.nn.Module) -> float:
    """Compare autograd with a central difference along the gradient.

    Args:
        loss (Callable): Computes a scalar from ``network``, float64.
        network (nn.Module): Its weights are moved and restored.

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


def differentiated(
    op: Callable[[Tensor], Tensor], x: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``op(x)``, its gradient along ``v`` and the gradient's own.

    The last is the gradient, with respect to ``v``, of the sum of squares of
    the first gradient: what the R1 penalty needs of an op.
    """
    x, v = x.requires_grad_(), v.requires_grad_()
    y = op(x)
    (first,) = torch.autograd.grad(y, x, v, create_graph=True)
    (second,) = torch.autograd.grad(first.float().square().sum(), v)
    return y.detach(), first.detach(), second


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


def compared(name: str, error: float, tolerance: float) -> Finding:
    """Compare a difference between GPU and CPU with a tolerance."""
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
