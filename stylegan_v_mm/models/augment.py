"""Adaptive augmentation of what the discriminator sees, one draw per clip.

Karras et al., "Training Generative Adversarial Networks with Limited Data"
(2020), appendix B; for clips as in Skorokhodov et al. (CVPR 2022): all frames
of a clip are transformed alike, so that augmentation adds no motion.
"""

import math
from collections.abc import Callable

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..errors import InputError
from ..registry import MODELS
from .image_ops import (
    constant,
    filter_bands,
    recolor,
    scale_matrix,
    shift_matrix,
    turn_matrix,
    warp,
)
from .noise import own_rows

# Transform -> how often it is applied, as a multiple of p.
BLIT: dict[str, float] = dict(xflip=1, rotate90=1, xint=1)
GEOM: dict[str, float] = dict(scale=1, rotate=1, aniso=1, xfrac=1)
COLOR: dict[str, float] = dict(
    brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1
)
PIPELINES: dict[str, dict[str, float]] = {
    'blit': BLIT,
    'geom': GEOM,
    'color': COLOR,
    'filter': dict(imgfilter=1),
    'noise': dict(noise=1),
    'cutout': dict(cutout=1),
    'bg': BLIT | GEOM,
    'bgc': BLIT | GEOM | COLOR,
    'bgcf': BLIT | GEOM | COLOR | dict(imgfilter=1),
    'bgcfn': BLIT | GEOM | COLOR | dict(imgfilter=1, noise=1),
    'bgcfnc': BLIT | GEOM | COLOR | dict(imgfilter=1, noise=1, cutout=1),
    'bgc_norgb': BLIT | GEOM | dict(cutout=1),
    'easy': dict(
        xflip=1, xint=1, scale=1, rotate=0.5, xfrac=1, noise=0.1, cutout=1
    ),
}
# Transform -> how strong it is: the largest shift or size as a share of the
# image, the largest rotation as a share of 180 degrees, or else the standard
# deviation (of the binary logarithm for factors).
STRENGTHS = dict(
    xint=0.125,
    scale=0.2,
    rotate=1,
    aniso=0.2,
    xfrac=0.125,
    brightness=0.2,
    contrast=0.5,
    hue=1,
    saturation=1,
    imgfilter=1,
    noise=0.1,
    cutout=0.5,
)
EASY_STRENGTHS = STRENGTHS | dict(rotate=0.1, cutout=0.25)


class Draws:
    """Random numbers for a batch, or one percentile instead of all of them.

    Args:
        like (Tensor): Sets the number of rows [N, ...], device and dtype.
        rows_per_clip (int): How many rows belong to one clip.
        percentile (float, optional): In (0, 1): every number becomes this
            percentile of its distribution and every transform is applied, as
            the published code does for tests.
    """

    def __init__(
        self, like: Tensor, rows_per_clip: int, percentile: float | None
    ):
        self.like = like
        self.rows_per_clip = rows_per_clip
        self.percentile = percentile

    def draw(self, kind: Callable, *shape: int) -> Tensor:
        """Draw [N, *shape] by ``torch.rand`` or ``torch.randn``."""
        rows = self.rows_per_clip
        shape = (len(self.like) // rows, rows, *shape)
        table = own_rows(kind, shape, self.like.device)
        return table.flatten(0, 1).to(self.like)

    def uniform(self, width: int = 1) -> Tensor:
        """Draw from [0, 1), [N, width]."""
        if self.percentile is None:
            return self.draw(torch.rand, width)
        return self.like.new_full((len(self.like), width), self.percentile)

    def normal(self, width: int = 1) -> Tensor:
        """Draw from a standard normal distribution, [N, width].

        A percentile q gives erfinv(2 q - 1): without the factor sqrt(2), as
        published.
        """
        if self.percentile is None:
            return self.draw(torch.randn, width)
        shape = (len(self.like), width)
        return self.like.new_full(shape, 2 * self.percentile - 1).erfinv()

    def gate(self, value: Tensor, neutral: float, prob: Tensor) -> Tensor:
        """Keep each row with probability ``prob``, else return ``neutral``."""
        if self.percentile is not None:
            return value
        return torch.where(self.draw(torch.rand, 1) < prob, value, neutral)


@MODELS.register_module()
class VideoAugment(nn.Module):
    """Transform clips at random before the discriminator sees them.

    The strength ``p`` is adaptive: it rises while the discriminator overfits
    and falls otherwise. ``p <- max(0, p + sign(r - ada_target) * step)``,
    where r is the mean sign of the logits of real clips over all processes
    (Karras et al. 2020, section 3.1).

    Args:
        pipeline (str): The transforms, a key of :data:`PIPELINES`. Defaults
            to 'bgc'.
        p (float): Initial probability of each transform. Defaults to 0.
        ada_target (float, optional): Mean sign that ``p`` steers to; None
            keeps ``p`` fixed. Defaults to 0.6.
        ada_kimg (float): Thousands of clips in which ``p`` can rise by 1.
            Defaults to 100.
        ada_interval (int): Iterations between two changes of ``p``. Defaults
            to 4, the published value; others are for ablations.
        per_frame (bool): Whether each frame has a draw of its own, an
            ablation. Defaults to False.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        pipeline: str = 'bgc',
        p: float = 0,
        ada_target: float | None = 0.6,
        ada_kimg: float = 100,
        ada_interval: int = 4,
        per_frame: bool = False,
    ):
        super().__init__()
        if pipeline not in PIPELINES:
            raise InputError(
                f'augment.pipeline={pipeline!r}: choose one of '
                f'{", ".join(PIPELINES)}'
            )
        if not 0 <= p <= 1 or ada_kimg <= 0 or ada_interval < 1:
            raise InputError(
                f'augment.p={p} must be from 0 to 1, ada_kimg={ada_kimg} '
                f'positive, ada_interval={ada_interval} at least 1'
            )
        if ada_target is not None and not -1 <= ada_target <= 1:
            raise InputError(
                f'augment.ada_target={ada_target} must be from -1 to 1, or '
                'None for a fixed p'
            )
        self.transforms = PIPELINES[pipeline]
        self.strengths = EASY_STRENGTHS if pipeline == 'easy' else STRENGTHS
        self.ada_target = ada_target
        self.ada_kimg = ada_kimg
        self.ada_interval = ada_interval
        self.per_frame = per_frame
        self.register_buffer('p', torch.tensor(float(p)))
        # Sum and number of the signs since the last change of p.
        self.register_buffer('signs', torch.zeros(2))

    def forward(
        self, videos: Tensor, percentile: float | None = None
    ) -> Tensor:
        """Transform clips.

        Args:
            videos (Tensor): [N, T, 3, H, W], about [-1, 1].
            percentile (float, optional): See :class:`Draws`.

        Returns:
            Tensor: Like ``videos``, float32 at least.
        """
        frames_a_draw = 1 if self.per_frame else videos.shape[1]
        images = videos.reshape(-1, frames_a_draw * 3, *videos.shape[3:])
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        rows_per_clip = len(images) // len(videos)
        draws = Draws(images.detach(), rows_per_clip, percentile)
        if self.transforms.keys() & (BLIT | GEOM).keys():
            images = warp(images, self.draw_geometry(draws))
        if self.transforms.keys() & COLOR.keys():
            images = recolor(images, self.draw_color(draws))
        if 'imgfilter' in self.transforms:
            images = filter_bands(images, self.draw_gains(draws))
        if 'noise' in self.transforms:
            sigma = draws.normal().abs() * self.strengths['noise']
            sigma = draws.gate(sigma, 0, self.prob('noise'))
            sigma = sigma[:, :, None, None]
            noise = draws.draw(torch.randn, *images.shape[1:])
            images = images + sigma * noise
        if 'cutout' in self.transforms:
            images = images * self.draw_mask(draws)
        return images.reshape(videos.shape)

    def prob(self, name: str) -> Tensor:
        """Return the probability of a transform."""
        return self.p * self.transforms[name]

    def draw_geometry(self, draws: Draws) -> Tensor:
        """Draw the map from output pixels to input pixels, [N, 3, 3].

        The origin is the centre; neighbouring pixels are 1 apart.
        """
        like = draws.like
        height, width = like.shape[2:]
        map_back = scale_matrix(1, 1, like)
        has, strength = self.transforms, self.strengths
        if 'xflip' in has:
            flip = draws.gate(
                (draws.uniform() * 2).floor(), 0, self.prob('xflip')
            )
            map_back = map_back @ scale_matrix(1 - 2 * flip, 1, like)
        if 'rotate90' in has:
            turns = draws.gate(
                (draws.uniform() * 4).floor(), 0, self.prob('rotate90')
            )
            map_back = map_back @ turn_matrix(turns * (math.pi / 2), like)
        if 'xint' in has:
            shift = (draws.uniform(2) * 2 - 1) * strength['xint']
            x, y = draws.gate(shift, 0, self.prob('xint')).split(1, 1)
            map_back = map_back @ shift_matrix(
                -(x * width).round(), -(y * height).round(), like
            )
        if 'scale' in has:
            factor = (draws.normal() * strength['scale']).exp2()
            factor = draws.gate(factor, 1, self.prob('scale'))
            map_back = map_back @ scale_matrix(1 / factor, 1 / factor, like)
        if 'rotate' in has:
            # Drawn twice, before and after stretching: at least one of them
            # is applied with probability self.prob('rotate').
            prob = 1 - (1 - self.prob('rotate').clamp(0, 1)).sqrt()
            most = math.pi * strength['rotate']
            theta = draws.gate((draws.uniform() * 2 - 1) * most, 0, prob)
            map_back = map_back @ turn_matrix(theta, like)
        if 'aniso' in has:
            factor = (draws.normal() * strength['aniso']).exp2()
            factor = draws.gate(factor, 1, self.prob('aniso'))
            map_back = map_back @ scale_matrix(1 / factor, factor, like)
        if 'rotate' in has:
            theta = draws.gate((draws.uniform() * 2 - 1) * most, 0, prob)
            if draws.percentile is not None:
                theta = theta * 0
            map_back = map_back @ turn_matrix(theta, like)
        if 'xfrac' in has:
            shift = draws.normal(2) * strength['xfrac']
            x, y = draws.gate(shift, 0, self.prob('xfrac')).split(1, 1)
            map_back = map_back @ shift_matrix(-x * width, -y * height, like)
        return map_back

    def draw_color(self, draws: Draws) -> Tensor:
        """Draw the map of colours (r, g, b, 1), [N, 4, 4]."""
        like = draws.like
        has, strength = self.transforms, self.strengths
        eye = torch.eye(4, device=like.device, dtype=like.dtype)
        axis = constant((1, 1, 1, 0), like) / math.sqrt(3)
        luma = axis.outer(axis)
        one = torch.diag(constant((0, 0, 0, 1), like))
        chroma = eye - luma - one
        color = eye.expand(len(like), 4, 4)
        if 'brightness' in has:
            b = draws.normal() * strength['brightness']
            b = draws.gate(b, 0, self.prob('brightness'))[:, :, None]
            offset = constant(((0, 0, 0, 1),) * 3 + ((0, 0, 0, 0),), like)
            color = (eye + offset * b) @ color
        if 'contrast' in has:
            c = (draws.normal() * strength['contrast']).exp2()
            c = draws.gate(c, 1, self.prob('contrast'))[:, :, None]
            color = (one + (eye - one) * c) @ color
        if 'lumaflip' in has:
            flip = draws.gate(
                (draws.uniform() * 2).floor(), 0, self.prob('lumaflip')
            )
            color = (eye - 2 * luma * flip[:, :, None]) @ color
        if 'hue' in has:
            theta = (draws.uniform() * 2 - 1) * math.pi * strength['hue']
            theta = draws.gate(theta, 0, self.prob('hue'))[:, :, None]
            # Rodrigues: turn about the axis (1, 1, 1).
            a = 1 / math.sqrt(3)
            cross = constant(
                ((0, -a, a, 0), (a, 0, -a, 0), (-a, a, 0, 0), (0, 0, 0, 0)),
                like,
            )
            turn = chroma * theta.cos() + cross * theta.sin()
            color = (one + luma + turn) @ color
        if 'saturation' in has:
            s = (draws.normal() * strength['saturation']).exp2()
            s = draws.gate(s, 1, self.prob('saturation'))[:, :, None]
            color = (one + luma + chroma * s) @ color
        return color

    def draw_gains(self, draws: Draws) -> Tensor:
        """Draw the gain of each frequency band, [N, 4].

        The gains are normalised so that an image with the spectrum 1/f keeps
        its power.
        """
        power = constant((10, 1, 1, 1), draws.like) / 13
        gains = draws.like.new_ones(len(draws.like), 4)
        for band in range(4):
            gain = (draws.normal() * self.strengths['imgfilter']).exp2()
            gain = draws.gate(gain, 1, self.prob('imgfilter'))
            bands = torch.ones_like(gains)
            bands[:, band] = gain[:, 0]
            norm = (power * bands.square()).sum(1, keepdim=True).sqrt()
            gains = gains * bands / norm
        return gains

    def draw_mask(self, draws: Draws) -> Tensor:
        """Draw where a rectangle is cut out, [N, 1, H, W]."""
        like = draws.like
        height, width = like.shape[2:]
        size = like.new_full((len(like), 1), self.strengths['cutout'])
        size = draws.gate(size, 0, self.prob('cutout'))[:, :, None]
        center = draws.uniform(2)[:, :, None, None]
        x = (torch.arange(width, device=like.device) + 0.5) / width
        y = (torch.arange(height, device=like.device) + 0.5) / height
        beside = (x - center[:, 0]).abs() >= size / 2  # N, 1, W
        above = (y[:, None] - center[:, 1]).abs() >= size / 2  # N, H, 1
        return (beside | above)[:, None].to(like)

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Add the signs of real clips' logits [N], from all processes."""
        if self.ada_target is None:
            return
        count = logits.new_full((), logits.numel())
        signs = torch.stack([logits.sign().sum(), count])
        all_reduce(signs)
        self.signs += signs

    @torch.no_grad()
    def adapt(self, iteration: int, num_clips: int) -> None:
        """Change ``p`` every ``ada_interval`` iterations.

        Args:
            iteration (int): Index of the iteration that ends, from 0.
            num_clips (int): Clips per iteration, over all processes.
        """
        if self.ada_target is None or (iteration + 1) % self.ada_interval:
            return
        total, count = self.signs
        over = (total / count - self.ada_target).sign()
        step = num_clips * self.ada_interval / (self.ada_kimg * 1000)
        self.p.copy_((self.p + over * step).clamp(min=0))
        self.signs.zero_()
