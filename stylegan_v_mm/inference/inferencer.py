"""What users do with a trained generator, in one class."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.infer import BaseInferencer
from torch import Tensor

from ..config.loading import load_config
from ..errors import InputError
from ..files import check_writable
from ..models.latents import Latents, label_vectors
from ..models.noise import MotionNoise
from ..models.sampler import Sampler
from ..video.pixels import to_bytes
from .loading import build_sampler, find_model, fps_of
from .writing import SINGLE_FILES, save_video, video_path


class VideoGANInferencer(BaseInferencer):
    """Sample, render and write videos of a trained generator.

    Content and motion of a video depend on its seeds alone, not on batch,
    chunk, length, frame rate or device (but for rounding).

    Args:
        model (str): A config file, a work dir, a name in
            :mod:`stylegan_v_mm.zoo`, or ``OWNER/NAME`` on the Hugging Face
            hub. See :func:`find_model`.
        weights (str, optional): A checkpoint file or URL, a work dir, or a
            name in the zoo. Defaults to None, the weights of ``model``.
        device (str, optional): Defaults to the GPU if there is one.
        metric (str, optional): Metric that chooses the best checkpoint, see
            :func:`find_model`.
        options (dict, optional): Config settings to override.

    Raises:
        InputError: A file is missing or damaged, the device is not there, or
            the checkpoint is of another architecture.

    Examples:
        >>> gan = VideoGANInferencer('work_dirs/demo')
        >>> videos = gan.sample(num_videos=4, num_frames=64)
        >>> videos.shape, videos.dtype
        (torch.Size([4, 64, 3, 32, 32]), torch.uint8)
        >>> gan.sample(seeds=[7], num_frames=256, slow_motion=4, out='7.mp4')
        [PosixPath('7.mp4')]
    """

    # By these, mmengine passes the arguments of a call to the methods below.
    preprocess_kwargs: ClassVar = {
        'labels',
        'motion_seeds',
        'truncation_psi',
        'truncation_cutoff',
    }
    forward_kwargs: ClassVar = {'num_frames', 'time_offset', 'slow_motion'}
    visualize_kwargs: ClassVar = {'out', 'fps'}
    postprocess_kwargs: ClassVar[set] = set()

    def __init__(
        self,
        model: str,
        weights: str | None = None,
        device: str | None = None,
        metric: str | None = None,
        options: dict | None = None,
        show_progress: bool = False,
    ):
        files = find_model(str(model), weights and str(weights), metric)
        #: The checkpoint file or URL.
        self.checkpoint = files.checkpoint
        super().__init__(
            load_config(files.config, options),
            files.checkpoint,
            device,
            scope='stylegan_v_mm',
            show_progress=show_progress,
        )
        #: Frames per second of the data.
        self.fps = fps_of(self.cfg)

    def _init_model(
        self, cfg: dict, weights: str, device: str = 'cpu'
    ) -> Sampler:
        return build_sampler(cfg, weights, device)

    def _init_nothing(self, cfg: dict) -> None:
        return None

    # mmengine builds these of parts of a config that ours do not have.
    _init_pipeline = _init_collate = _init_visualizer = _init_nothing

    @property
    def sampler(self) -> Sampler:
        """Sampler of the generator, for the functions of this package."""
        return self.model

    @property
    def motion_z_distance(self) -> float:
        """Frames from one motion code to the next; 1 without motion codes."""
        encoder = self.sampler.motion_encoder
        return 1 if encoder is None else encoder.motion_z_distance

    def loop_codes(self, num_frames: float) -> int:
        """Choose the number of motion codes after which a loop closes.

        Args:
            num_frames (float): Length of the loop, in frames of the data.

        Returns:
            int: At least 1; it changes the speed of the motion least.
        """
        return max(1, round(num_frames / self.motion_z_distance))

    def times(
        self,
        num_frames: int,
        time_offset: float = 0,
        slow_motion: float = 1,
        loop_codes: int | None = None,
    ) -> Tensor:
        """Compute the times of a video's frames.

        Args:
            num_frames (int): Number of frames, T.
            time_offset (float): Time of the first frame, in frames of the
                data, at least 0. Defaults to 0.
            slow_motion (float): Frames per frame of the data, at least 0.001;
                4 shows three new frames in between. Defaults to 1.
            loop_codes (int, optional): Motion codes of a loop that the T
                frames make, whatever ``slow_motion`` is. Defaults to None.

        Returns:
            Tensor: [T], float64, in frames of the data.

        Raises:
            InputError: A value is out of range.
        """
        if num_frames < 1:
            raise InputError(f'num_frames={num_frames} must be at least 1')
        if not 0 <= time_offset < 2**50:
            raise InputError(
                f'time_offset={time_offset} must be from 0 to 2^50 frames'
            )
        if not 1e-3 <= slow_motion < math.inf:
            raise InputError(
                f'slow_motion={slow_motion} must be at least 0.001'
            )
        step = 1 / slow_motion
        if loop_codes is not None:
            step = loop_codes * self.motion_z_distance / num_frames
        return time_offset + torch.arange(num_frames).double() * step

    def latents(
        self,
        seeds: Sequence[int],
        labels: int | Sequence[int] | Tensor | None = None,
        motion_seeds: int | Sequence[int] | None = None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        loop_codes: int | None = None,
    ) -> Latents:
        """Compute the latents of seeds.

        Args:
            seeds (sequence): N integers from 0 to 2^63 - 1.
            labels (int, sequence or Tensor, optional): One class for all
                videos, N classes, or label vectors [N, c_dim]. Defaults to
                None: each seed draws a class.
            motion_seeds (int or sequence, optional): One seed for the motion
                of all videos, or N. Defaults to None, ``seeds``.
            truncation_psi (float): 1 for no truncation, below 1 for less
                variety and better looks. Defaults to 1.
            truncation_cutoff (int, optional): Number of truncated layers.
                Defaults to None, all.
            loop_codes (int, optional): Motion codes until the motion repeats
                itself, see :meth:`loop_codes`. Defaults to None, never.

        Returns:
            Latents: Latents of N videos.

        Raises:
            InputError: A value is out of range, or their number is wrong.
        """
        seeds = [int(seed) for seed in seeds]
        if motion_seeds is None:
            motion_seeds = seeds
        elif isinstance(motion_seeds, int):
            motion_seeds = [motion_seeds] * len(seeds)
        if len(motion_seeds) != len(seeds):
            raise InputError(
                f'{len(motion_seeds)} motion seeds for {len(seeds)} videos'
            )
        for seed in (*seeds, *motion_seeds):
            if not 0 <= seed < 2**63:
                raise InputError(f'seed {seed} must be from 0 to 2^63 - 1')
        if loop_codes is not None and loop_codes < 1:
            raise InputError(f'loop_codes={loop_codes} must be at least 1')
        return self.sampler.latents(
            seeds,
            c=label_vectors(labels, seeds, self.sampler.generator.c_dim),
            motion_seeds=[int(seed) for seed in motion_seeds],
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            period=loop_codes,
        )

    def stream(
        self, latents: Latents, t: Tensor, chunk: int = 32
    ) -> Iterator[Tensor]:
        """Render videos in constant memory, see :meth:`Sampler.stream`."""
        return self.sampler.stream(latents, t, chunk)

    def render(
        self,
        ws: Tensor,
        motions: Sequence[MotionNoise] | Tensor,
        t: Tensor,
        c: Tensor | None = None,
        chunk: int = 32,
    ) -> Tensor:
        """Render videos from style vectors and motion noise.

        Args:
            ws (Tensor): [N, num_ws, w_dim].
            motions (sequence or Tensor): Motion noise of the N videos; or
                noise codes ``motion_z`` [N, L, motion_z_dim] from time 0 on,
                which those of seed 0 continue.
            t (Tensor): Times [T] or [N, T], in frames, at least 0.
            c (Tensor, optional): Labels [N, c_dim].
            chunk (int): See :meth:`Sampler.stream`.

        Returns:
            Tensor: Float32 [N, T, 3, H, W], about [-1, 1], on the model's
            device.
        """
        if isinstance(motions, Tensor):
            motions = [MotionNoise(0, codes) for codes in motions]
        latents = Latents(ws, motions, c)
        pieces = self.sampler.render(latents, torch.as_tensor(t), chunk)
        return torch.cat(list(pieces), 1)

    def sample(
        self,
        num_videos: int | None = None,
        num_frames: int = 64,
        fps: float | None = None,
        seeds: Sequence[int] | None = None,
        truncation_psi: float = 1,
        labels: int | Sequence[int] | Tensor | None = None,
        *,
        motion_seeds: int | Sequence[int] | None = None,
        truncation_cutoff: int | None = None,
        time_offset: float = 0,
        slow_motion: float = 1,
        loop: bool = False,
        chunk: int = 32,
        out: str | Path | None = None,
        format: str = 'mp4',
    ) -> Tensor | list[Path]:
        """Make videos from seeds.

        Args:
            num_videos (int, optional): Number of videos, N. Defaults to the
                number of seeds, or 1.
            num_frames (int): Frames of each video, T. Defaults to 64.
            fps (float, optional): Frames per second of written files.
                Defaults to None, as in the data.
            seeds (sequence, optional): N integers. Defaults to None: 0, 1,
                2, ...
            truncation_psi (float): See :meth:`latents`. Defaults to 1.
            labels: See :meth:`latents`.
            motion_seeds: See :meth:`latents`.
            truncation_cutoff (int, optional): See :meth:`latents`.
            time_offset (float): See :meth:`times`.
            slow_motion (float): See :meth:`times`.
            loop (bool): Whether the last frame leads to the first one.
                Defaults to False.
            chunk (int): See :meth:`Sampler.stream`.
            out (str or Path, optional): Where to write files instead: for a
                single video a file (``.mp4``, ``.gif``, ``.webp``), else a
                folder of ``SEED.mp4``, ...
            format (str): Format of the videos in a folder: 'mp4', 'gif',
                'webp'; 'png' or 'jpg' for folders of pictures.

        Returns:
            Tensor or list: uint8 [N, T, 3, H, W]; or the paths of the files.

        Raises:
            InputError: A value is out of range, or a file cannot be written.
        """
        if seeds is None:
            seeds = range(1 if num_videos is None else num_videos)
        if num_videos not in (None, len(seeds)) or len(seeds) < 1:
            raise InputError(
                f'num_videos={num_videos}, but {len(seeds)} seeds'
            )
        loop_codes = None
        if loop:
            loop_codes = self.loop_codes(num_frames / slow_motion)
        t = self.times(num_frames, time_offset, slow_motion, loop_codes)
        latents = self.latents(
            seeds,
            labels=labels,
            motion_seeds=motion_seeds,
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
            loop_codes=loop_codes,
        )
        videos = self.videos(latents, t, chunk)
        if out is None:
            return torch.stack([torch.cat(list(video)) for _, video in videos])
        out = Path(out)
        if out.suffix.removeprefix('.') in SINGLE_FILES:
            if len(seeds) > 1:
                raise InputError(f'out={out}: several videos need a folder')
            paths = [out]
        else:
            paths = [video_path(out, seed, format) for seed in seeds]
        check_writable(paths[0].parent)
        fps = self.fps if fps is None else fps
        for i, pieces in videos:
            save_video(pieces, paths[i], fps, format)
        return paths

    def videos(
        self,
        latents: Latents,
        t: Tensor,
        chunk: int = 32,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[int, Iterable[Tensor]]]:
        """Render one video after the other; short ones share a pass.

        Args:
            latents (Latents): Latents of N videos.
            t (Tensor): Times [T], in frames.
            chunk (int): See :meth:`Sampler.stream`.
            share (tuple): Rank of this process, and how many share the passes
                that one process would make. Defaults to (0, 1).

        Yields:
            tuple: Index of the next video, and its chunks, uint8
            [<= T, 3, H, W], to be exhausted first.
        """
        size = max(1, chunk // len(t))
        for i in range(share[0] * size, len(latents), share[1] * size):
            group = latents[i : i + size]
            pieces = self.sampler.stream(group, t, chunk)
            if len(group) == 1:
                yield i, (piece[0] for piece in pieces)
            else:
                # All of them together are one chunk.
                videos = torch.cat(list(pieces), 1)
                yield from ((j, [video]) for j, video in enumerate(videos, i))

    @torch.no_grad()
    def walk(
        self,
        latents: Latents,
        t: Tensor,
        what: str,
        closed: bool = False,
        chunk: int = 32,
    ) -> Iterator[Tensor]:
        """Render one video that walks from station to station.

        A walk through contents mixes styles. A walk through motions mixes
        motion codes, not their noise, on which phases depend too steeply.

        Args:
            latents (Latents): Latents of the N stations. The first one has
                the motion of a walk through contents, or the content of a
                walk through motions.
            t (Tensor): Times [T], in frames.
            what (str): 'content' or 'motion'.
            closed (bool): Whether it ends where it began. Defaults to False.
            chunk (int): See :meth:`Sampler.stream`.

        Yields:
            Tensor: The next frames, uint8 [<= T, 3, H, W], on the CPU.
        """
        sampler, n = self.sampler, len(latents)
        styles = latents.ws.to(sampler.device)
        chunk = min(chunk, sampler.frames_at_once())
        stations, last = (n, len(t)) if closed else (n - 1, len(t) - 1)
        places = torch.arange(len(t)).double() * stations / max(last, 1)
        for times, some in zip(t.split(chunk), places.split(chunk)):
            start = some.floor().long()
            share = (some - start).to(styles)
            start, end = start % n, (start + 1) % n
            if what == 'content':
                ws = styles[start].lerp(styles[end], share[:, None, None])
                motion_v = sampler.motion_codes(latents[:1], times)
                motion_v = motion_v if motion_v is None else motion_v[0]
                frames = sampler.generator.render(ws, motion_v, 1)[:, 0]
            else:
                motion_v = sampler.motion_codes(latents, times)
                if motion_v is not None:
                    i = torch.arange(len(times))
                    from_v, to_v = motion_v[start, i], motion_v[end, i]
                    motion_v = from_v.lerp(to_v, share[:, None])
                ws = styles[:1]
                frames = sampler.generator.render(ws, motion_v, len(times))[0]
            yield to_bytes(frames).cpu()

    def preprocess(
        self, inputs: list[int], batch_size: int = 1, **kwargs: Any
    ) -> Iterator[Latents]:
        """Compute the latents of seeds; ``kwargs`` are for :meth:`latents`."""
        latents = self.latents(inputs, **kwargs)
        for i in range(0, len(latents), batch_size):
            yield latents[i : i + batch_size]

    def forward(
        self,
        inputs: Latents,
        num_frames: int = 64,
        time_offset: float = 0,
        slow_motion: float = 1,
    ) -> list[Tensor]:
        """Render videos, uint8 [T, 3, H, W] each; see :meth:`times`."""
        t = self.times(num_frames, time_offset, slow_motion)
        return list(torch.cat(list(self.stream(inputs, t)), 1))

    def visualize(
        self,
        inputs: list[int],
        preds: list[Tensor],
        out: str | Path | None = None,
        fps: float | None = None,
    ) -> list[np.ndarray]:
        """Return arrays [T, H, W, 3]; write ``OUT/SEED.mp4`` if asked to."""
        if out is not None:
            check_writable(out := Path(out))
            fps = self.fps if fps is None else fps
            for seed, video in zip(inputs, preds):
                save_video([video], video_path(out, seed), fps)
        return [video.permute(0, 2, 3, 1).numpy() for video in preds]

    def postprocess(
        self, preds: list[Tensor], visualization: list, *args: Any
    ) -> dict:
        """Gather the results."""
        return dict(predictions=preds, visualization=visualization)
