"""Edits of a region: a mask on frame 0, found again at every time.

All frames of a video share their styles and differ in the motion code alone.
So the features at a pixel identify what it shows, and the same thing has
similar features at any other time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from ..errors import InputError
from ..models.latents import Latents
from ..models.sampler import Sampler

# Features are compared at most at this resolution: the number of pairs of
# pixels grows with its fourth power.
MAX_RESOLUTION = 64
# Penalty for a distance of half a frame, in units of the cosine. Nothing else
# distinguishes the pixels of a plain background.
DISTANCE_WEIGHT = 0.03


class RegionFrames(NamedTuple):
    """Some frames of a video before and after an edit.

    Attributes:
        before (Tensor): [T, 3, H, W], about [-1, 1].
        after (Tensor): [T, 3, H, W], about [-1, 1].
        masks (Tensor): Edited region, [T, H, W] in [0, 1].
    """

    before: Tensor
    after: Tensor
    masks: Tensor


def read_mask(path: Path, resolution: int) -> Tensor:
    """Read a mask: white where to edit, black elsewhere.

    Args:
        path (Path): A square picture.
        resolution (int): Resolution of the frames.

    Returns:
        Tensor: [resolution, resolution] in [0, 1].

    Raises:
        InputError: The file is missing, not a picture, not square, or black.
    """
    try:
        image = Image.open(path).convert('L')
    except FileNotFoundError as error:
        raise InputError(
            f'there is no file {path}: draw a picture, white where to edit '
            'the first frame'
        ) from error
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f'{path} is not a picture: {error}') from error
    if image.width != image.height:
        raise InputError(
            f'{path} is {image.width}x{image.height}, frames are square: draw '
            'on one of them'
        )
    image = image.resize((resolution, resolution), Image.Resampling.BOX)
    mask = torch.from_numpy(np.array(image)) / 255
    if mask.max() <= 0.5:
        raise InputError(f'{path} is black: make white what is to be edited')
    return mask


def resize(masks: Tensor, resolution: int) -> Tensor:
    """Resize masks [T, h, w] to [T, resolution, resolution]."""
    return F.interpolate(
        masks[:, None], (resolution,) * 2, mode='bilinear', antialias=True
    )[:, 0]


def carry_mask(mask: Tensor, reference: Tensor, features: Tensor) -> Tensor:
    """Find a region again in other frames, by its features.

    Each pixel takes the mask of the pixel of the reference frame whose
    features are most similar, by their cosine, less a penalty for distance.
    All frames are compared with the reference frame, so that errors do not
    accumulate from frame to frame.

    An object that has become tiny is more similar to the ground around it
    than to any single pixel of its own. So where a frame has no region by that
    rule, the region is where the features are most similar to the region's
    mean, provided that they are more similar than those of any pixel outside
    of the region were in the reference frame. If the object is gone, there is
    no such pixel, unless the ground has become more similar to it.

    Args:
        mask (Tensor): Region in the reference frame, [h, w] in [0, 1], not
            all 0.
        reference (Tensor): Features of the reference frame [C, h, w].
        features (Tensor): Features of other frames [T, C, h, w].

    Returns:
        Tensor: [T, h, w].
    """
    line = torch.linspace(-1, 1, len(mask), device=mask.device)
    places = torch.cartesian_prod(line, line)
    cost = DISTANCE_WEIGHT * torch.cdist(places, places).square()
    reference = F.normalize(reference.float().flatten(1), dim=0)
    # A thin line may have become faint at this resolution.
    half = mask.max() / 2
    region = mask.flatten() > half
    # Features near the region are partly those of the region.
    apart = F.max_pool2d(mask[None], 5, 1, 2).flatten() <= half
    whole = F.normalize(reference[:, region].mean(1), dim=0)
    way = cost[:, region].amin(1)
    limit = (whole @ reference - way).masked_fill(~apart, -1).max()
    masks = []
    for frame in features:
        frame = F.normalize(frame.float().flatten(1), dim=0)
        nearest = (frame.T @ reference - cost).argmax(1)
        found = mask.flatten()[nearest]
        if found.max() <= half:
            alike = whole @ frame - way
            # Half the height of the peak, as the ground may change as well.
            height = (limit + alike.max().clamp(limit)) / 2
            found = (alike > height).to(mask)
        masks.append(found.reshape(mask.shape))
    # Soft edges hide seams.
    return F.avg_pool2d(
        torch.stack(masks)[:, None], 3, 1, 1, count_include_pad=False
    )[:, 0]


@contextmanager
def changed_blocks(network: nn.Module, change: Callable) -> Iterator[None]:
    """Pass the outputs of the synthesis blocks through a function.

    Args:
        network (nn.Module): A ``StyleGANVGenerator``.
        change (callable): Takes the index of a block, its features and
            colours; returns both, or None to leave them as they are.
    """

    def hook(number: int) -> Callable:
        return lambda block, inputs, outputs: change(number, *outputs)

    hooks = [
        getattr(network.synthesis, name).register_forward_hook(hook(number))
        for number, name in enumerate(network.synthesis.block_names)
    ]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


@torch.no_grad()
def render_region(
    sampler: Sampler,
    latents: Latents,
    ws: Tensor,
    mask: Tensor,
    t: Tensor,
    chunk: int = 16,
) -> Iterator[RegionFrames]:
    """Render a video, a region of which is edited.

    After each synthesis block, features and colours outside of the region are
    replaced by those of the unedited video, so that the next block sees the
    edited region in its old surroundings.

    Args:
        sampler (Sampler): Sampler of the generator.
        latents (Latents): Latents of one video.
        ws (Tensor): Edited style vectors [1, num_ws, w_dim].
        mask (Tensor): Region at time 0, [H, W] in [0, 1].
        t (Tensor): Times [T], in frames, in any order.
        chunk (int): Frames rendered at a time; fewer if they would take more
            than 4 GiB. Defaults to 16.

    Yields:
        RegionFrames: The next frames, at most ``chunk``.
    """
    network = sampler.generator
    edited = replace(latents, ws=ws)
    size = min(network.resolution, MAX_RESOLUTION)
    mask = resize(mask[None].to(sampler.device), size)[0]

    def render(video: Latents, times: Tensor, change: Callable) -> Tensor:
        with changed_blocks(network, change):
            return sampler.frames(video, times)[0]

    def plain(times: Tensor) -> tuple[Tensor, list, Tensor]:
        outputs = []
        frames = render(latents, times, lambda _, *out: outputs.append(out))
        features = next(x for x, rgb in outputs if x.shape[-1] == size)
        return frames, outputs, features

    def blend(
        outputs: list, masks: Tensor, number: int, x: Tensor, rgb: Tensor
    ) -> tuple[Tensor, Tensor]:
        old_x, old_rgb = outputs[number]
        share = resize(masks, x.shape[-1])[:, None]
        return old_x.lerp(x, share.to(x)), old_rgb.lerp(rgb, share)

    reference = plain(t.new_zeros(1))[2][0]
    # The features of all blocks stay in memory, before and after the edit.
    for times in t.split(min(chunk, sampler.frames_at_once(2))):
        before, outputs, features = plain(times)
        masks = carry_mask(mask, reference, features)
        after = render(edited, times, partial(blend, outputs, masks))
        yield RegionFrames(before, after, resize(masks, network.resolution))
