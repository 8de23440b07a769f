"""Show what an edit changes in a video: side by side, and in numbers."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..models.latents import Latents
from ..models.sampler import Sampler
from ..video.encoding import VideoWriter, video_grid
from ..video.pixels import to_bytes
from .regions import render_region


class EditReport:
    """Measure how much an edit changes, and whether it keeps the motion.

    The frames of a video and of the edited one are added chunk by chunk, in
    their order.
    """

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._changes: list[Tensor] = []
        self._energies: list[Tensor] = []
        self._contrasts: list[Tensor] = []

    def add(
        self, before: Tensor, after: Tensor, masks: Tensor | None = None
    ) -> None:
        """Add the next frames.

        Args:
            before (Tensor): Frames, uint8 [T, 3, H, W].
            after (Tensor): Edited frames, uint8 [T, 3, H, W].
            masks (Tensor, optional): Edited region [T, H, W] in [0, 1], where
                above 0.5.
        """
        frames = torch.stack([before, after]).float()
        change = (frames[1] - frames[0]).abs().mean(1)  # T, H, W
        self._changes.append(change.mean((1, 2)))
        if masks is not None:
            inside = masks > 0.5
            means = [
                (change * where).sum((1, 2)) / where.sum((1, 2))
                for where in (inside, ~inside)
            ]
            self._contrasts.append(means[0] / means[1])
        if self._last is not None:
            frames = torch.cat([self._last, frames], 1)
        self._last = frames[:, -1:]
        energies = frames.diff(dim=1).square().mean((2, 3, 4))
        self._energies.append(energies)

    @property
    def change(self) -> Tensor:
        """Mean absolute difference of each frame [T], in grey levels."""
        return torch.cat(self._changes)

    @property
    def motion(self) -> float:
        """Similarity of the motions: 1 for the same, 0 for independent ones.

        The correlation over time of the mean squared difference of
        neighbouring frames.
        """
        before, after = torch.cat(self._energies, 1).double()
        return float(torch.corrcoef(torch.stack([before, after]))[0, 1])

    @property
    def contrast(self) -> Tensor:
        """Change inside the region over change outside, of each frame [T].

        It is nan for a frame without region, and infinite where nothing
        outside changes.
        """
        return torch.cat(self._contrasts)

    def __str__(self) -> str:
        text = f'changed by {self.change.mean():.1f} grey levels'
        if len(self.change) > 2:
            text += f', motion correlation {self.motion:.3f}'
        if self._contrasts:
            shown = self.contrast[~self.contrast.isnan()]
            text += f', region seen in {len(shown)} of {len(self.change)} '
            text += 'frames'
            if len(shown):
                text += f' and there changed {shown.min():.1f} times as much '
                text += 'as the rest, or more'
        return text


def render_edit(
    sampler: Sampler,
    before: Latents,
    after: Latents,
    t: Tensor,
    mask: Tensor | None = None,
    chunk: int = 16,
) -> Iterator[tuple[Tensor, ...]]:
    """Render a video and the edited one, chunk by chunk.

    Args:
        sampler (Sampler): Sampler of the generator.
        before (Latents): Latents of one video.
        after (Latents): Edited latents.
        t (Tensor): Times [T], in frames.
        mask (Tensor, optional): Region to edit, see :func:`render_region`.
            Defaults to None, everything.
        chunk (int): Frames rendered at a time. Defaults to 16.

    Yields:
        tuple: The next frames of both, uint8 [<= chunk, 3, H, W], and with a
        mask the region in them, [<= chunk, H, W] in [0, 1]; on the CPU.
    """
    if mask is not None:
        regions = render_region(
            sampler, before, ws=after.ws, mask=mask, t=t, chunk=chunk
        )
        for piece in regions:
            frames = [to_bytes(each).cpu() for each in piece[:2]]
            yield *frames, piece.masks.cpu()
        return
    videos = [sampler.stream(each, t, chunk) for each in (before, after)]
    for pair in zip(*videos):
        yield tuple(piece[0] for piece in pair)


def write_edit(
    pieces: Iterable[tuple[Tensor, ...]], path: Path, fps: float
) -> EditReport:
    """Write an edited video, and one that shows it beside the original.

    Args:
        pieces (iterable): See :func:`render_edit`.
        path (Path): File of the edited video, ``NAME.mp4``. The other one is
            ``NAME_compared.mp4``: before, after, and the mask if there is one.
        fps (float): Frames per second.

    Returns:
        EditReport: Report of the changes.

    Raises:
        InputError: A file cannot be written.
    """
    report = EditReport()
    compared = path.with_stem(f'{path.stem}_compared')
    with VideoWriter(path, fps) as edited, VideoWriter(compared, fps) as both:
        for before, after, *masks in pieces:
            report.add(before, after, *masks)
            edited.append(after)
            shown = [before, after]
            for mask in masks:
                grey = (mask * 255).to(torch.uint8)[:, None]
                shown.append(grey.expand_as(before))
            both.append(video_grid(torch.stack(shown), len(shown)))
    return report
