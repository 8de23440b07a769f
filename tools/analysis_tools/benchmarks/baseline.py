"""The baseline of the benchmark: StyleGAN-V computed as published.

The same weights, noise, losses and results, but frame by frame and in the
layout and the steps of the published code on a machine without its kernels:

* styles, and from them modulated weights, of each frame of a clip, where all
  frames share them; one grouped convolution over all frames when sampling,
  unfused scaling of their channels when training,
* images channel by channel (NCHW),
* resampling by zero-stuffing, padding and one grouped convolution; bias,
  activation, gain and clamp one after another, each to new memory,
* the motion codes of the whole longest clip, whatever times are asked for,
* one small operation after another for each parameter in the optimizers'
  steps and the moving average.

On CUDA bias, activation and resampling are mmcv's compiled kernels, as they
are in the published code. Written from the paper and StyleGAN2's.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan_v_mm.errors import InputError
from stylegan_v_mm.models import Sampler, StyleGANV
from stylegan_v_mm.models.batch import Batch
from stylegan_v_mm.models.latents import Latents
from stylegan_v_mm.models.layers import block_dtype, minibatch_stddev
from stylegan_v_mm.models.ops import compiled_ops, fir_filter
from stylegan_v_mm.video.pixels import from_bytes

MAX_NUM_FRAMES = 1024  # of a clip: motion codes are computed for all of it


def bias_act(
    x: Tensor, bias: Tensor | None, act: str, gain: float, clamp: float | None
) -> Tensor:
    """Add a bias, activate, scale and clamp; see the package's."""
    kernels = compiled_ops() if x.is_cuda else None
    if kernels is not None:
        bias = bias if bias is None else bias.to(x.dtype)
        return kernels.bias_act(
            x, bias, dim=1, act=act, alpha=0.2, gain=gain, clamp=clamp
        )
    if bias is not None:
        x = x + bias.to(x.dtype).reshape(1, -1, 1, 1)
    if act == 'lrelu':
        x = F.leaky_relu(x, 0.2)
    if gain != 1:
        x = x * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return x


def upfirdn2d(
    x: Tensor,
    padding: tuple[int, int, int, int],
    up: int = 1,
    down: int = 1,
    gain: float = 1,
) -> Tensor:
    """Resample with StyleGAN2's filter; see the package's."""
    fir = fir_filter(x.device)
    kernels = compiled_ops() if x.is_cuda else None
    if kernels is not None:
        return kernels.upfirdn2d(
            x, fir, up=up, down=down, padding=list(padding), gain=gain
        )
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height, 1, width, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1))
    x = x.reshape(n, channels, height * up, width * up)
    x = F.pad(x, padding)
    weight = (fir * gain).to(x.dtype).flip([0, 1])
    weight = weight.expand(channels, 1, *fir.shape).contiguous()
    x = F.conv2d(x, weight, groups=channels)
    return x[:, :, ::down, ::down]


def convolve(x: Tensor, weight: Tensor, up: int, groups: int = 1) -> Tensor:
    """Convolve with [groups * O, I, k, k], and double the size if ``up``."""
    if up == 1:
        return F.conv2d(
            x, weight, padding=weight.shape[-1] // 2, groups=groups
        )
    weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    x = F.conv_transpose2d(x, weight, stride=2, groups=groups)
    return upfirdn2d(x, (1, 1, 1, 1), gain=4)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    fused: bool,
    demodulate: bool = True,
    up: int = 1,
) -> Tensor:
    """Convolve each frame with its own modulated weight.

    Args:
        x: Frames [M, I, H, W].
        weight: [O, I, k, k].
        styles: [M, I].
        fused: Whether in one grouped convolution, else scaling channels.
        demodulate: Whether output maps are scaled to unit variance.
        up: 1, or 2 to double the size.

    Returns:
        [M, O, H * up, W * up].
    """
    if x.dtype == torch.float16 and demodulate:
        norm = weight.abs().amax([1, 2, 3], keepdim=True)
        weight = weight / norm / math.sqrt(weight[0].numel())
        styles = styles / styles.abs().amax(1, keepdim=True)
    modulated: Any = None
    demod: Any = None
    if fused or demodulate:
        modulated = weight * styles[:, None, :, None, None]  # M, O, I, k, k
    if demodulate:
        demod = (modulated.square().sum([2, 3, 4]) + 1e-8).rsqrt()  # M, O
    if not fused:
        x = x * styles.to(x.dtype)[:, :, None, None]
        x = convolve(x, weight.to(x.dtype), up)
        if demod is not None:
            x = x * demod.to(x.dtype)[:, :, None, None]
        return x
    if demod is not None:
        modulated = modulated * demod[:, :, None, None, None]
    num = len(x)
    x = x.flatten(0, 1)[None]
    x = convolve(x, modulated.flatten(0, 1).to(x.dtype), up, groups=num)
    return x.unflatten(1, (num, -1))[0]


def motion_codes(
    encoder: nn.Module,
    c: Tensor,
    t: Tensor,
    motion_z: Tensor,
    first_code: Tensor,
) -> Tensor:
    """Compute motion codes of the whole longest clip, then those of ``t``.

    Args:
        encoder: The ``MotionEncoder``.
        c: Labels [N, c_dim].
        t: Times [N, T], in frames.
        motion_z: Noise [N, L, motion_z_dim] from ``first_code`` on. The other
            noise of the clip is drawn here; it has no effect.
        first_code: int64 [N].

    Returns:
        ``motion_v`` [N * T, motion_v_dim].
    """
    distance = encoder.motion_z_distance
    last = max(MAX_NUM_FRAMES - 1, float(t.max()))
    num_codes = math.ceil(last / distance) + 2 + encoder.extra_codes
    place = first_code[:, None] + torch.arange(
        motion_z.shape[1], device=t.device
    )
    table = torch.randn(
        len(t),
        max(num_codes, int(place.max()) + 1),
        encoder.motion_z_dim,
        device=t.device,
        generator=torch.Generator(t.device).manual_seed(0),
    )
    row = torch.arange(len(t), device=t.device)[:, None]
    table[row, place] = motion_z
    u = encoder.motion_u(table, c)

    code = (t / distance).floor()
    left = u[row, code.long()].flatten(0, 1)
    right = u[row, code.long() + 1].flatten(0, 1)
    t_left = (code * distance).flatten()
    t = t.flatten()
    if hasattr(encoder, 'time_encoder'):
        return encoder.time_encoder(t, t_left, distance, left, right)
    alpha = ((t - t_left) / distance).to(u)[:, None]
    c = c.repeat_interleave(len(t) // len(c), 0)
    return encoder.mapping(left.lerp(right, alpha), c)


def synthesize(
    network: nn.Module, ws: Tensor, motion_v: Tensor | None
) -> Tensor:
    """Render frames, each with styles of its own.

    Args:
        network: The ``SynthesisNetwork``; in eval mode, blocks in float32
            fuse their convolutions.
        ws: [M, num_ws, w_dim].
        motion_v: [M, motion_v_dim], or None without a motion encoder.

    Returns:
        [M, 3, H, W], float32.
    """
    if motion_v is not None and network.cond_type != 'concat_const':
        motion = motion_v[:, None].expand(-1, ws.shape[1], -1)
        if network.cond_type == 'sum_w':
            ws = ws + motion
        else:
            ws = torch.cat([ws, motion], 2)
    x = network.b4.input(len(ws), motion_v).contiguous()
    rgb: Any = None
    used = 0
    for name in network.block_names:
        block = getattr(network, name)
        x = x.to(block_dtype(x.device, block.half_dtype, torch.float32))
        fused = not network.training and (
            x.dtype == torch.float32 or len(x) == 1
        )
        for conv in (getattr(block, 'conv0', None), block.conv1):
            if conv is not None:
                styles = conv.affine(ws[:, used])
                x = modulated_conv2d(x, conv.weight, styles, fused, up=conv.up)
                x = bias_act(
                    x, conv.bias, 'lrelu', math.sqrt(2), conv.conv_clamp
                )
                used += 1
        layer = block.torgb
        styles = layer.affine(ws[:, used]) * layer.style_gain
        y = modulated_conv2d(x, layer.weight, styles, fused, demodulate=False)
        y = bias_act(y, layer.bias, 'linear', 1, layer.conv_clamp).float()
        rgb = y if rgb is None else upsample(rgb) + y
    return rgb


def upsample(rgb: Tensor) -> Tensor:
    """Double the size of pictures."""
    return upfirdn2d(rgb, (2, 1, 2, 1), up=2, gain=4)


def conv_layer(layer: nn.Module, x: Tensor, gain: float = 1) -> Tensor:
    """Compute one of the package's ``Conv2d`` layers."""
    weight = (layer.weight * layer.weight_gain).to(x.dtype)
    size = weight.shape[-1]
    if layer.down == 1:
        x = F.conv2d(x, weight, padding=size // 2)
    elif size == 1:
        x = F.conv2d(upfirdn2d(x, (1, 1, 1, 1), down=2), weight)
    else:
        x = F.conv2d(upfirdn2d(x, (2, 2, 2, 2)), weight, stride=2)
    clamp = None if layer.conv_clamp is None else layer.conv_clamp * gain
    gain = gain * (math.sqrt(2) if layer.act == 'lrelu' else 1)
    return bias_act(x, layer.bias, layer.act, gain, clamp)


def judge(network: nn.Module, videos: Tensor, c: Tensor, t: Tensor) -> Tensor:
    """Compute the logits [N] of clips; see ``StyleGANVDiscriminator``."""
    n = len(videos)
    x = videos.flatten(0, 1).contiguous()
    for res in network.resolutions:
        if res == network.concat_res:
            x = x.reshape(n, -1, res, res)
        block = getattr(network, f'b{res}')
        x = x.to(block_dtype(x.device, block.half_dtype, torch.float32))
        if hasattr(block, 'fromrgb'):
            x = conv_layer(block.fromrgb, x)
        y = conv_layer(block.skip, x, math.sqrt(0.5))
        x = conv_layer(block.conv1, conv_layer(block.conv0, x), math.sqrt(0.5))
        x = y + x
    last = network.b4
    x = minibatch_stddev(x.float(), last.mbstd_group_size)
    x = last.out(last.fc(conv_layer(last.conv, x).flatten(1)))
    cmap = network.condition(c, t)
    if cmap is None:
        return x[:, 0]
    return (x * cmap).sum(1) / math.sqrt(cmap.shape[1])


class PerFrameGAN(StyleGANV):
    """The model, its networks computed frame by frame.

    Its state dict is the model's. Style mixing and path length
    regularisation, which the published model does without, are left out.

    Args:
        ours (StyleGANV): What to copy weights from.
        config (dict): Its config.

    Raises:
        InputError: The discriminator is not StyleGAN-V's, or the generator
            has noise.
    """

    def __init__(self, ours: StyleGANV, config: dict):
        if config['discriminator']['type'] != 'StyleGANVDiscriminator':
            raise InputError(
                'the per-frame baseline knows StyleGANVDiscriminator, not '
                f'{config["discriminator"]["type"]}: take another --config'
            )
        if config['generator'].get('use_noise'):
            raise InputError(
                'the per-frame baseline has no noise: take another --config, '
                'or set model.generator.use_noise=False'
            )
        super().__init__(**{k: v for k, v in config.items() if k != 'type'})
        if self.gan_loss.is_relativistic:
            raise InputError(
                'the per-frame baseline has no relativistic loss: take '
                'another --config, or set model.gan_loss'
            )
        self.load_state_dict(ours.state_dict())
        self.to(memory_format=torch.contiguous_format)

    def judged(
        self, videos: Tensor, c: Tensor, t: Tensor, is_real: bool = False
    ) -> Tensor:
        """Augment clips and judge them; logits [N]."""
        if self.augment is not None:
            videos = self.augment(videos)
        logits = judge(self.discriminator, videos, c, t)
        if is_real and self.augment is not None:
            self.augment.observe(logits)
        return logits

    def fakes(self, batch: Batch, which: int) -> tuple[Tensor, Tensor, Tensor]:
        """Generate a fake batch: videos, labels and times."""
        network = self.generator
        c, t = batch.gen_c[:, which], batch.gen_t[:, which]
        num_frames = t.shape[1]
        ws = network.map(batch.gen_z[:, which], c)
        ws = ws.repeat_interleave(num_frames, 0)
        motion_v = None
        if network.motion_encoder is not None:
            assert batch.motion_z is not None
            assert batch.first_code is not None
            motion_v = motion_codes(
                encoder=network.motion_encoder,
                c=c,
                t=t,
                motion_z=batch.motion_z[:, which],
                first_code=batch.first_code[:, which],
            )
        frames = synthesize(network.synthesis, ws, motion_v)
        return frames.unflatten(0, t.shape), c, t

    def generator_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute the generator's loss; see the package's."""
        self.discriminator.requires_grad_(False)
        logits = self.judged(*self.fakes(batch, 0))
        loss = self.gan_loss.generator(logits).mean()
        backward(loss)
        self.discriminator.requires_grad_(True)
        return {'loss_g': loss.detach()}

    def discriminator_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute the discriminator's loss; see the package's."""
        with torch.no_grad():
            fakes = self.fakes(batch, 1)
        assert self.gan_loss.fake is not None
        fake_loss = self.gan_loss.fake(self.judged(*fakes)).mean()
        backward(fake_loss, last=False)
        real_logits = self.judged(
            from_bytes(batch.video), batch.c, batch.t, is_real=True
        )
        real_loss = self.gan_loss.real(real_logits).mean()
        backward(real_loss)
        return {'loss_d': (fake_loss + real_loss).detach()}

    def r1_loss(self, batch: Batch, backward: Callable) -> dict:
        """Compute the R1 penalty; see the package's."""
        real = from_bytes(batch.video).requires_grad_()
        logits = self.judged(real, batch.c, batch.t, is_real=True)
        (grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = grad.square().sum([2, 3, 4]).mean()
        backward(self.r1_gamma / 2 * penalty * self.d_reg_interval)
        for param in self.discriminator.parameters():
            if param.grad is None and param.requires_grad:
                param.grad = torch.zeros_like(param)
        return {'r1_penalty': penalty.detach()}

    @torch.no_grad()
    def update_ema(self, num_clips: int) -> None:
        """Move the average generator, one parameter after another."""
        beta = self.ema_beta(num_clips)
        averages, currents = self.generator_ema, self.generator
        for average, current in zip(
            averages.parameters(), currents.parameters()
        ):
            average.copy_(current.lerp(average, beta))
        for average, current in zip(averages.buffers(), currents.buffers()):
            average.copy_(current)

    def sampler(self) -> Sampler:
        """Sample from the average generator, frame by frame."""
        return PerFrameSampler(self.generator_ema)


class PerFrameSampler(Sampler):
    """The sampler, its generator computed frame by frame, in float32."""

    def __init__(self, generator: nn.Module):
        super().__init__(generator)
        self.videos_at_once = 1

    @torch.no_grad()
    def render(
        self, latents: Latents, t: Tensor, chunk: int = 16
    ) -> Iterator[Tensor]:
        """Render each video alone, chunk by chunk.

        Args:
            latents: Of N videos.
            t: Times [T], or [N, T] for times of their own, in frames.
            chunk: Frames at a time.

        Yields:
            The next frames of a video [1, <= chunk, 3, H, W], float32; those
            of the next video follow the last ones of a video.
        """
        network, ws = self.generator, latents.ws
        encoder = network.motion_encoder
        c = ws.new_zeros(len(ws), 0) if latents.c is None else latents.c
        each_t = t.to(ws.device).expand(len(ws), -1)
        for i, (motion, t) in enumerate(zip(latents.motions, each_t)):
            for times in t.split(chunk):
                motion_v = None
                if encoder is not None:
                    first, count = encoder.code_range(times[None])
                    noise = motion.rows(
                        int(first), count, encoder.motion_z_dim
                    )
                    motion_v = motion_codes(
                        encoder=encoder,
                        c=c[i : i + 1],
                        t=times[None],
                        motion_z=noise[None].to(ws.device),
                        first_code=first,
                    )
                frames = synthesize(
                    network.synthesis,
                    ws[i].expand(len(times), -1, -1),
                    motion_v,
                )
                yield frames[None]
