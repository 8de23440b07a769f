"""Inversion: the styles and the motion noise that show a given video.

Both are optimised together, over all frames, after Karras et al. 2020
("Analyzing and Improving the Image Quality of StyleGAN", appendix D). The
published script optimises the styles of single pictures alone, and never ran.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..models.noise import MotionNoise
from ..pixels import from_bytes, to_bytes
from .latents import Latents

# The backbone of LPIPS under the name that torchvision downloads it by.
_VGG16 = 'vgg16-397923af.pth'


@dataclass(eq=False)
class Inversion:
    """What :func:`invert` found.

    Attributes:
        latents (Latents): Of one video.
        frames (Tensor): What they show at the times given, uint8
            [T, 3, H, W].
        losses (list): Of the best candidate, at each step.
    """

    latents: Latents
    frames: Tensor
    losses: list[float]


def pyramid_loss(ours: Tensor, target: Tensor) -> Tensor:
    """Compare videos at all scales: colours, edges, and changes in time.

    The mean squared difference of the frames, of their gradients, and of the
    differences of neighbouring frames, added up over resolutions from the
    full one down to 4 pixels. Large shapes find their place by the small
    resolutions before details count. It needs no weights.

    Args:
        ours (Tensor): K videos [K, T, 3, H, W], about [-1, 1].
        target (Tensor): Video [T, 3, H, W] in [-1, 1].

    Returns:
        Tensor: [K].
    """
    difference = ours - target
    shape = difference.shape[:2]
    total = difference.new_zeros(len(ours))
    while True:
        parts = [difference, difference.diff(dim=3), difference.diff(dim=4)]
        if len(target) > 1:
            parts.append(difference.diff(dim=1))
        total = total + sum(x.square().mean((1, 2, 3, 4)) for x in parts)
        if difference.shape[-1] <= 4:
            return total
        # Averaging is linear: that of the difference is enough.
        smaller = F.avg_pool2d(difference.flatten(0, 1), 2)
        difference = smaller.unflatten(0, shape)


def find_lpips(path: str | Path | None = None) -> nn.Module | None:
    """Load LPIPS on VGG-16 (Zhang et al. 2018), if its weights are there.

    Args:
        path (str or Path, optional): File of torchvision's VGG-16. Defaults
            to None: what torch.hub's cache holds; nothing is downloaded.

    Returns:
        nn.Module, optional: From two batches [M, 3, H, W] in [-1, 1] to
        [M, 1, 1, 1]; None without weights.

    Raises:
        InputError: The named file is missing or no VGG-16, or the package
            ``lpips`` is.
    """
    file = Path(path or Path(torch.hub.get_dir(), 'checkpoints', _VGG16))
    if not file.is_file():
        if path is None:
            return None
        raise InputError(
            f'there is no file {path}: see {_VGG16} of torchvision'
        )
    try:
        import lpips
    except ImportError as error:
        if path is None:
            return None
        raise InputError('--lpips needs a package: pip install lpips') from (
            error
        )
    network = lpips.LPIPS(net='vgg', pnet_rand=True, verbose=False)
    try:
        weights = torch.load(file, map_location='cpu', weights_only=True)
        # Its slices keep the numbers of torchvision's layers.
        network.net.load_state_dict(
            {
                name: weights['features.' + name.split('.', 1)[1]]
                for name in network.net.state_dict()
            }
        )
    except Exception as error:
        # torch raises a dozen types here, from EOFError to UnpicklingError.
        raise InputError(
            f"{file} is not torchvision's VGG-16: {error}"
        ) from error
    return network.requires_grad_(False).eval()


def motion_penalty(motion_z: Tensor) -> Tensor:
    """Tell how far noise is from normal: mean^2 + (variance - 1)^2.

    Args:
        motion_z (Tensor): [K, L, motion_z_dim].

    Returns:
        Tensor: [K].
    """
    variance, mean = torch.var_mean(motion_z, (1, 2), unbiased=False)
    return mean.square() + (variance - 1).square()


def invert(
    gan: nn.Module,
    target: Tensor,
    t: Tensor,
    c: Tensor | None = None,
    space: str = 'w+',
    num_steps: int = 1000,
    num_candidates: int = 64,
    num_starts: int = 8,
    lr: float = 0.2,
    motion_weight: float = 1e-3,
    seed: int = 0,
    lpips: nn.Module | None = None,
    progress: Callable[[int, float, Tensor], object] | None = None,
) -> Inversion:
    """Find the latents whose video is most like a given one.

    Random contents with random motions are compared with it, and the best
    are optimised. Motion has many local optima, so several start; half of
    them are given up again and again until one is left. The step size rises,
    then falls as a cosine; noise on the styles, which fades, keeps them where
    the generator is at home. A ``KeyboardInterrupt`` ends it with what is
    found so far.

    Args:
        gan (nn.Module): A ``StyleGANV``; its average generator is used.
        target (Tensor): Video, uint8 [T, 3, H, W]; or a picture, T = 1.
        t (Tensor): Times of its frames [T], in frames, at least 0.
        c (Tensor, optional): Label [c_dim].
        space (str): 'w+', styles for each layer, or 'w', the same for all:
            less exact, better to edit. Defaults to 'w+'.
        num_steps (int): Steps of Adam. Defaults to 1000.
        num_candidates (int): Videos to compare at first. Defaults to 64.
        num_starts (int): How many are optimised at first. Defaults to 8.
        lr (float): Largest step size. Defaults to 0.2.
        motion_weight (float): Of :func:`motion_penalty`. Defaults to 1e-3.
        seed (int): Of all that is drawn, and of the motion beyond the noise
            that was optimised. Defaults to 0.
        lpips (nn.Module, optional): See :func:`find_lpips`; its distance is
            added to :func:`pyramid_loss`.
        progress (callable, optional): Is told after each step its number, the
            loss, and the frames so far, [T, 3, H, W] about [-1, 1].

    Returns:
        Inversion: What was found.

    Raises:
        InputError: A value is out of range, or the sizes do not fit.
    """
    network = gan.generator_ema
    encoder = network.motion_encoder
    device = next(network.parameters()).device
    size = network.resolution
    if target.ndim != 4 or target.shape[1:] != (3, size, size):
        raise InputError(
            f'a target of shape {list(target.shape)}: this generator makes '
            f'[T, 3, {size}, {size}]'
        )
    if t.shape != target.shape[:1] or not (t >= 0).all():
        raise InputError(
            f'{len(target)} frames need as many times of at least 0, got '
            f'{t.tolist()}'
        )
    if space not in ('w', 'w+'):
        raise InputError(f"space={space!r}: choose 'w' or 'w+'")
    if min(num_steps, num_starts, num_candidates) < 1 or not lr > 0:
        raise InputError(
            f'num_steps={num_steps}, num_candidates={num_candidates}, '
            f'num_starts={num_starts} must be at least 1, lr={lr} positive'
        )
    wanted = from_bytes(target).to(device)
    times = t.to(device, torch.float64)[None]
    if c is not None:
        c = c.to(device, torch.float32)[None]

    def render(ws: Tensor, motion_z: Tensor | None) -> Tensor:
        motion_v = None
        if encoder is not None:
            label = c if c is None else c.expand(len(ws), -1)
            motion_v = encoder(
                label, times.expand(len(ws), -1), motion_z, first
            )
        return network.render(
            ws.expand(-1, network.num_ws, -1), motion_v, len(target)
        )

    def distance(videos: Tensor) -> Tensor:
        loss = pyramid_loss(videos, wanted)
        if lpips is not None:
            frames = videos.flatten(0, 1).clamp(-1, 1)
            other = wanted.repeat(len(videos), 1, 1, 1)
            if size < 64:  # VGG halves four times
                frames, other = (
                    F.interpolate(x, size=(64, 64), mode='bilinear')
                    for x in (frames, other)
                )
            loss = loss + lpips(frames, other).reshape(len(videos), -1).mean(1)
        return loss

    random = torch.Generator().manual_seed(seed)
    motion_z, first = None, 0
    if encoder is not None:
        code, count = encoder.code_range(times)
        first = int(code)
        shape = num_candidates, count, encoder.motion_z_dim
        motion_z = torch.randn(shape, generator=random).to(device)
    with torch.no_grad():
        z = torch.randn(4096, network.z_dim, generator=random).to(device)
        label = c if c is None else c.expand(len(z), -1)
        w = network.mapping(z, label)
        spread = (w - w.mean(0)).square().mean().sqrt()
        w = w[:num_candidates, None]
        losses = torch.cat(
            [
                distance(
                    render(
                        w[i : i + 8],
                        None if motion_z is None else motion_z[i : i + 8],
                    )
                )
                for i in range(0, len(w), 8)
            ]
        )
    kept = losses.argsort()[:num_starts]
    ws = w[kept]
    if space == 'w+':
        ws = ws.repeat(1, network.num_ws, 1)
    ws = ws.clone().requires_grad_()
    variables = [ws]
    if motion_z is not None:
        motion_z = motion_z[kept].clone().requires_grad_()
        variables.append(motion_z)
    optimizer = torch.optim.Adam(variables, lr=lr)

    active = torch.arange(len(kept))
    best, history = 0, []
    try:
        for step in range(num_steps):
            done = step / num_steps
            left = max(1, len(kept) >> int(8 * done))
            if left < len(active):
                active = active[losses.argsort()[:left].cpu()]
            rise = min(1, (done + 1 / num_steps) / 0.05)
            fall = 0.5 - 0.5 * math.cos(math.pi * min(1, (1 - done) / 0.8))
            optimizer.param_groups[0]['lr'] = lr * rise * fall
            noisy = ws[active].expand(-1, network.num_ws, -1)
            noise = torch.randn(noisy.shape, generator=random).to(device)
            noisy = noisy + noise * spread * 0.05 * max(0, 1 - 2 * done) ** 2
            codes = None if motion_z is None else motion_z[active]
            videos = render(noisy, codes)
            losses = distance(videos)
            total = losses.sum()
            if codes is not None:
                total = total + motion_weight * motion_penalty(codes).sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses = losses.detach()
            winner = int(losses.argmin())
            best = int(active[winner])
            history.append(float(losses[winner]))
            if progress is not None:
                progress(step, history[-1], videos[winner].detach())
    except KeyboardInterrupt:
        if not history:
            raise

    codes = None if motion_z is None else motion_z[best].detach().cpu()
    latents = Latents(
        ws[best].detach()[None].repeat(1, network.num_ws // ws.shape[1], 1),
        [MotionNoise(seed, codes, first)],
        c,
    )
    pieces = gan.render_videos(latents.ws, latents.motions, t, c)
    frames = torch.cat([to_bytes(piece[0]).cpu() for piece in pieces])
    return Inversion(latents, frames, history)


def psnr(ours: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of videos, uint8 of one shape, in dB."""
    error = (ours.double() - target.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


def motion_correlation(ours: Tensor, target: Tensor) -> float:
    """Correlate over time how much changes from a frame to the next.

    Args:
        ours (Tensor): Video, uint8 [T, 3, H, W], T at least 3.
        target (Tensor): Of the same shape.

    Returns:
        float: 1 where both move as much at the same times; the change is the
        mean absolute difference of neighbouring frames.
    """
    energies = [
        video.double().diff(dim=0).abs().mean((1, 2, 3))
        for video in (ours, target)
    ]
    return float(torch.corrcoef(torch.stack(energies))[0, 1])
