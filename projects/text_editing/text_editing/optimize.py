"""Moving the styles of a video towards a text."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan_v_mm.inference import Latents
from stylegan_v_mm.models.sampler import Sampler

from .clip import Clip


class TextEdit(NamedTuple):
    """Target and settings of an edit.

    Attributes:
        prompt (str): What the video should show.
        neutral (str, optional): What it shows now. The frames then move along
            the difference from this text to the prompt in CLIP's space;
            otherwise they move towards the prompt.
        layers (range): Style vectors that move, from 0.
        num_steps (int): Steps of Adam.
        lr (float): Highest learning rate of Adam.
        latent_weight (float): Weight of the squared distance of ``ws``.
        identity_weight (float): Weight of CLIP's distance between the edited
            and the original frames.
        frames_per_step (int): Frames that each step uses.
    """

    prompt: str
    neutral: str | None
    layers: range
    num_steps: int
    lr: float
    latent_weight: float
    identity_weight: float
    frames_per_step: int


class Result(NamedTuple):
    """Edited styles, and their similarity to the prompt before and after.

    Attributes:
        ws (Tensor): [1, num_ws, w_dim].
        before (float): Mean cosine of the original frames and the prompt.
        after (float): Mean cosine of the edited frames and the prompt.
    """

    ws: Tensor
    before: float
    after: float


def ramp(progress: float) -> float:
    """Scale the learning rate: up in the first 5 %, down in the last 25 %.

    This is the schedule of StyleGAN2's projector (Karras et al. 2020, appendix
    D).

    Args:
        progress (float): Finished share of the steps.
    """
    up = min(1, progress / 0.05)
    down = min(1, (1 - progress) / 0.25)
    return up * (0.5 - 0.5 * math.cos(math.pi * down))


def spread_times(num_frames: float, count: int, shift: float) -> Tensor:
    """Space times [count] evenly over a video, from ``shift`` of a gap on."""
    return (torch.arange(count).double() + shift) * (num_frames / count)


def edit_by_text(
    sampler: Sampler,
    latents: Latents,
    clip: Clip,
    edit: TextEdit,
    num_frames: int,
    progress: Callable[[float], None],
) -> Result:
    """Move the styles of one video towards a text.

    The video keeps its motion noise. Each step uses different frames from the
    whole video.

    Args:
        sampler (Sampler): Of the generator.
        latents (Latents): Of one video.
        clip (Clip): On the model's device.
        edit (TextEdit): Target and settings.
        num_frames (int): Length of the video to use, from time 0.
        progress (callable): Called with the loss of each step.

    Returns:
        Result: The edited styles.
    """
    start = latents.ws.to(clip.device)
    delta = torch.zeros_like(start[:, list(edit.layers)], requires_grad=True)
    optimizer = torch.optim.Adam([delta], edit.lr, betas=(0.9, 0.999))
    target = clip.texts([edit.prompt])
    if edit.neutral is not None:
        target = F.normalize(target - clip.texts([edit.neutral]))

    def moved() -> Tensor:
        return start.index_add(
            1, torch.tensor(edit.layers, device=start.device), delta
        )

    def encode(ws: Tensor, t: Tensor) -> Tensor:
        video = replace(latents, ws=ws)
        return clip.frames(sampler.frames(video, t)[0])

    source = torch.Generator().manual_seed(0)
    for step in range(edit.num_steps):
        shift = float(torch.rand([], generator=source))
        t = spread_times(num_frames, edit.frames_per_step, shift)
        with torch.no_grad():
            before = encode(start, t)
        after = encode(moved(), t)
        change = after if edit.neutral is None else after - before
        loss = 1 - (change @ target.T).mean()
        loss = loss + edit.latent_weight * delta.square().sum()
        identity = 1 - (after * before).sum(1).mean()
        loss = loss + edit.identity_weight * identity
        for group in optimizer.param_groups:
            group['lr'] = edit.lr * ramp((step + 0.5) / edit.num_steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(loss.item())

    t = spread_times(num_frames, min(num_frames, 16), 0)
    prompt = clip.texts([edit.prompt])
    with torch.no_grad():
        likeness = [
            float((encode(ws, t) @ prompt.T).mean()) for ws in (start, moved())
        ]
        return Result(moved(), *likeness)
