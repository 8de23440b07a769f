"""Inversion: find the styles and the motion noise of a given video.

Both are optimised together, over all frames, after Karras et al. 2020
("Analyzing and Improving the Image Quality of StyleGAN", appendix D). The
published script optimises only the styles, of single pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..models.latents import Latents
from ..models.noise import MotionNoise
from ..models.sampler import Sampler
from ..video.pixels import from_bytes

# Elements of VGG's first feature map. All maps that VGG keeps for the gradient
# take 16 times as much.
_MOST_VGG_ELEMENTS = 2**25

# Smaller frames are enlarged for VGG, which halves them four times.
_LEAST_VGG_SIZE = 64


@dataclass(eq=False)
class Inversion:
    """Result of :func:`invert`.

    Attributes:
        latents (Latents): Latents of one video.
        frames (Tensor): Its frames at the given times, uint8 [T, 3, H, W].
        losses (list): Loss of the best candidate at each step.
    """

    latents: Latents
    frames: Tensor
    losses: list[float]


def pyramid_loss(ours: Tensor, target: Tensor) -> Tensor:
    """Compare videos at all scales: colours, edges, and changes in time.

    The mean squared differences of the frames, of their gradients, and of the
    differences of neighbouring frames are added up over resolutions from the
    full one down to 4 pixels. The small resolutions pull large shapes to their
    position before details matter. No trained network is needed.

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
        # Averaging is linear: averaging the difference is enough.
        smaller = F.avg_pool2d(difference.flatten(0, 1), 2)
        difference = smaller.unflatten(0, shape)


def motion_penalty(motion_z: Tensor) -> Tensor:
    """Measure how far noise is from normal: mean^2 + (variance - 1)^2.

    Args:
        motion_z (Tensor): [K, L, motion_z_dim].

    Returns:
        Tensor: [K].
    """
    variance, mean = torch.var_mean(motion_z, (1, 2), unbiased=False)
    return mean.square() + (variance - 1).square()


def _enlarge(frames: Tensor) -> Tensor:
    """Bring frames [N, 3, R, R] to the size that LPIPS needs, at least."""
    size = max(frames.shape[-1], _LEAST_VGG_SIZE)
    if size == frames.shape[-1]:
        return frames
    return F.interpolate(frames, (size, size), mode='bilinear')


def _in_pieces(
    function: Callable[[slice], Tensor], count: int, most: int
) -> Tensor:
    """Compute frames in pieces, of which only one is in memory.

    The backward pass computes each piece again.

    Args:
        function (callable): Takes the slice of frames to compute; returns
            [K, frames, ...].
        count (int): Number of frames, T.
        most (int): How many frames may be in memory.

    Returns:
        Tensor: [K, T, ...].
    """
    number = math.ceil(count / most)
    if number == 1:
        return function(slice(count))
    size = math.ceil(count / number)
    pieces = [
        checkpoint(function, slice(i, i + size), use_reentrant=False)
        for i in range(0, count, size)
    ]
    return torch.cat(pieces, 1)


def invert(
    sampler: Sampler,
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
    """Find the latents whose video is most similar to a given one.

    Random contents with random motions are compared with the target, and the
    best of them are optimised. As motion has many local optima, there are
    several starts, half of which are dropped again and again until one is
    left. The step size rises, then falls as a cosine. Fading noise on the
    styles keeps them where the generator was trained. A
    ``KeyboardInterrupt`` ends the search with the best result so far.

    The generator renders so few starts, and so few frames of one, in a pass
    that its features take less than 4 GiB, and so do those of LPIPS. Only the
    memory for pixels grows with the number of frames: it is twelve times that
    of the target in float32.

    Args:
        sampler (Sampler): Sampler of the generator.
        target (Tensor): Video, uint8 [T, 3, H, W]; or a picture, T = 1.
        t (Tensor): Times of its frames [T], in frames, at least 0.
        c (Tensor, optional): Label [c_dim].
        space (str): 'w+' for styles of each layer, or 'w' for one style of
            all layers, which is less exact but easier to edit. Defaults to
            'w+'.
        num_steps (int): Steps of Adam. Defaults to 1000.
        num_candidates (int): Number of random videos. Defaults to 64.
        num_starts (int): How many of them are optimised. Defaults to 8.
        lr (float): Largest step size. Defaults to 0.2.
        motion_weight (float): Weight of :func:`motion_penalty`. Defaults to
            1e-3.
        seed (int): Seed of all random numbers, and of the motion beyond the
            optimised noise. Defaults to 0.
        lpips (nn.Module, optional): An ``LPIPS``, whose distance is added to
            :func:`pyramid_loss` when a single start is left. It is moved to
            the generator's device.
        progress (callable, optional): Called after each step with its index,
            the loss, and the frames so far, [T, 3, H, W] about [-1, 1].

    Returns:
        Inversion: The best result.

    Raises:
        InputError: A value is out of range, or the sizes do not fit.
    """
    network, device = sampler.generator, sampler.device
    encoder = network.motion_encoder
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
    num_frames = len(target)
    if c is not None:
        c = c.to(device, torch.float32)[None]
    if lpips is not None:
        lpips = lpips.to(device)
    # With gradients, five times as much stays in memory.
    frames_at_once = sampler.frames_at_once(5)
    videos_at_once = max(1, frames_at_once // num_frames)
    # VGG has 64 channels at the full resolution.
    vgg_size = max(size, _LEAST_VGG_SIZE)
    vgg_at_once = max(1, _MOST_VGG_ELEMENTS // (64 * vgg_size**2))

    def render(ws: Tensor, motion_z: Tensor | None) -> Tensor:
        ws = ws.expand(-1, network.num_ws, -1)
        motion_v = None
        if encoder is not None:
            label = c if c is None else c.expand(len(ws), -1)
            motion_v = encoder(
                label, times.expand(len(ws), -1), motion_z, first
            ).unflatten(0, (len(ws), num_frames))

        def piece(frames: slice) -> Tensor:
            codes = motion_v
            if codes is not None:
                codes = codes[:, frames].flatten(0, 1)
            return network.render(ws, codes, len(wanted[frames]))

        most = frames_at_once // len(ws)
        return _in_pieces(piece, num_frames, max(1, most))

    def maps(frames: Tensor) -> list[Tensor]:
        assert lpips is not None
        return lpips.unit_maps(_enlarge(frames))

    # The maps of the target stay in memory if they are few enough.
    wanted_maps = []
    if lpips is not None and num_frames <= vgg_at_once:
        wanted_maps = maps(wanted)

    def perceptual(video: Tensor) -> Tensor:
        assert lpips is not None

        def piece(frames: slice) -> Tensor:
            ours = maps(video[frames].clamp(-1, 1))
            theirs = [x[frames] for x in wanted_maps] or maps(wanted[frames])
            return lpips.compare(ours, theirs).reshape(1, -1)

        return _in_pieces(piece, num_frames, vgg_at_once).mean()

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
                pyramid_loss(
                    render(
                        w[part], None if motion_z is None else motion_z[part]
                    ),
                    wanted,
                )
                for part in torch.arange(len(w)).split(videos_at_once)
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
            shape = len(active), network.num_ws, network.w_dim
            noise = torch.randn(shape, generator=random).to(device)
            noise = noise * spread * 0.05 * max(0, 1 - 2 * done) ** 2
            optimizer.zero_grad()
            found, frames = [], None
            for part in torch.arange(len(active)).split(videos_at_once):
                styles = ws[active[part]].expand(-1, network.num_ws, -1)
                codes = None if motion_z is None else motion_z[active[part]]
                videos = render(styles + noise[part], codes)
                loss = pyramid_loss(videos, wanted)
                # LPIPS takes nearly all of the time, so it does not choose
                # among starts.
                if lpips is not None and len(active) == 1:
                    loss = loss + perceptual(videos[0])
                total = loss.sum()
                if codes is not None:
                    penalty = motion_penalty(codes).sum()
                    total = total + motion_weight * penalty
                total.backward()
                loss = loss.detach()
                if frames is None or loss.min() < torch.cat(found).min():
                    frames = videos[loss.argmin()].detach()
                found.append(loss)
            optimizer.step()
            losses = torch.cat(found)
            winner = int(losses.argmin())
            best = int(active[winner])
            history.append(float(losses[winner]))
            if progress is not None and frames is not None:
                progress(step, history[-1], frames)
    except KeyboardInterrupt:
        if not history:
            raise

    codes = None if motion_z is None else motion_z[best].detach().cpu()
    latents = Latents(
        ws[best].detach()[None].repeat(1, network.num_ws // ws.shape[1], 1),
        [MotionNoise(seed, codes, first)],
        c,
    )
    frames = torch.cat(list(sampler.stream(latents, t)), 1)[0]
    return Inversion(latents, frames, history)


def psnr(ours: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of videos, uint8 of one shape, in dB."""
    error = (ours.double() - target.double()).square().mean()
    return float(10 * torch.log10(255**2 / error))


@torch.no_grad()
def mean_lpips(ours: Tensor, target: Tensor, lpips: nn.Module) -> float:
    """Mean LPIPS of the frames of videos, uint8 of one shape [T, 3, H, W].

    Frames of less than 64 pixels are enlarged, as in :func:`invert`.
    """
    device = next(lpips.parameters()).device
    return fmean(
        float(lpips(*(_enlarge(from_bytes(x.to(device))) for x in pair)))
        for pair in zip(ours.split(1), target.split(1))
    )


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
