"""Edits of a region: a mask on frame 0, found again at every time.

All frames of a video share their styles and differ in the motion code alone.
So what a place of a frame shows can be told from the features there, and the
same thing has like features at any other time.
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
# places grows with its fourth power.
MAX_RESOLUTION = 64
# What a distance of half a frame costs, in cosines. Nothing else tells apart
# the places of a plain background.
DISTANCE_WEIGHT = 0.03


class RegionFrames(NamedTuple):
    """Some frames of a video before and after an edit.

    Attributes:
        before (Tensor): [T, 3, H, W], about [-1, 1].
        after (Tensor): [T, 3, H, W], about [-1, 1].
        masks (Tensor): What is edited, [T, H, W] in [0, 1].
    """

    before: Tensor
    after: Tensor
    masks: Tensor


def read_mask(path: Path, resolution: int) -> Tensor:
    """Read a mask: white where to edit, black elsewhere.

    Args:
        path (Path): A picture, square as frames are.
        resolution (int): Of the frames.

    Returns:
        Tensor: [resolution, resolution] in [0, 1].

    Raises:
        InputError: It is missing, no picture, not square or all black.
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
    """Find a region again by what lies in it.

    Each place takes on the mask of that place of the reference frame whose
    features are most like its own, by their cosine, and which is not far.
    There are no steps from frame to frame over which errors could add up.

    A thing that has become tiny is more like the ground it stands on than
    like any one place of itself. So where nothing was found in a frame, the
    region is what is most like it as a whole, if more so than any place apart
    from it was in the reference frame. Where the thing is gone, nothing is,
    unless the ground has become more like it.

    Args:
        mask (Tensor): On the reference frame, [h, w] in [0, 1], not all 0.
        reference (Tensor): Features of that frame [C, h, w].
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
    # Features at the rim are partly those of the region.
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
            # Half as high as the peak, for the ground may change as well.
            height = (limit + alike.max().clamp(limit)) / 2
            found = (alike > height).to(mask)
        masks.append(found.reshape(mask.shape))
    # Soft edges hide seams.
    return F.avg_pool2d(
        torch.stack(masks)[:, None], 3, 1, 1, count_include_pad=False
    )[:, 0]


@contextmanager
def changed_blocks(network: nn.Module, change: Callable) -> Iterator[None]:
    """Pass what the synthesis blocks give through a function, for a while.

    Args:
        network (nn.Module): A ``StyleGANVGenerator``.
        change (callable): Takes a block's number, features and colours;
            returns both, or None to leave them as they are.
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
    """Render a video of which a region is edited.

    After each synthesis block, features and colours outside of the region are
    those of the unedited video; inside, the edited network goes on with what
    it sees around.

    Args:
        sampler (Sampler): Of the generator.
        latents (Latents): Of one video.
        ws (Tensor): Its edited style vectors [1, num_ws, w_dim].
        mask (Tensor): The region at time 0, [H, W] in [0, 1].
        t (Tensor): Times [T], in frames, any order.
        chunk (int): Frames rendered at a time; fewer where they would take
            more than 4 GiB. Defaults to 16.

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
    # The features of all blocks are kept, before and after the edit.
    for times in t.split(min(chunk, sampler.frames_at_once(2))):
        before, outputs, features = plain(times)
        masks = carry_mask(mask, reference, features)
        after = render(edited, times, partial(blend, outputs, masks))
        yield RegionFrames(before, after, resize(masks, network.resolution))
