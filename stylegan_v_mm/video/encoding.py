"""Write H.264 video files and grids of videos."""

import os
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace

from ..errors import InputError
from ..files import atomic_write
from .reader import MAX_FPS, MIN_FPS


class VideoWriter:
    """Write an H.264 mp4 file frame by frame, in constant memory.

    The file plays in browsers (yuv420p, BT.709, index at the front). Frames
    of odd width or height are padded by repeating the last column or row.
    Equal frames give equal bytes. The file appears under its name only when
    the ``with`` block ends without an error.

    Args:
        path: File to write, ending in ``.mp4``; its folder is created.
        fps: Frames per second, from 1e-6 to 1e6, may be fractional.
        crf: Quality of x264, from 0 (lossless) to 51; 16 looks lossless.
        gop: Largest number of frames from one key frame to the next.
        pixel_aspect: Width of a pixel divided by its height, for players.

    Raises:
        InputError: If the file cannot be written.

    Examples:
        >>> with VideoWriter('out.mp4', fps=25) as writer:
        ...     for frames in chunks:  # [T, 3, H, W], uint8
        ...         writer.append(frames)
    """

    def __init__(
        self,
        path: str | os.PathLike,
        fps: float,
        crf: float = 16,
        gop: int = 250,
        pixel_aspect: float = 1,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != '.mp4':
            raise InputError(f'{path}: a video file must end in .mp4')
        if not MIN_FPS <= fps <= MAX_FPS:
            raise InputError(
                f'{path}: fps must be positive, from {MIN_FPS:g} to '
                f'{MAX_FPS:g}, got {fps}'
            )
        self._fps = _simple_fraction(fps)
        self._pixel_aspect = _simple_fraction(pixel_aspect)
        self._crf = crf
        self._gop = gop
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> 'VideoWriter':
        options = {'movflags': '+faststart', 'fflags': '+bitexact'}
        if self._fps < 1:
            # FFmpeg's default unit of time is below 1/10000 s, and a frame can
            # last at most 2**31 units.
            options['video_track_timescale'] = str(self._fps.numerator)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_write(self.path))
            # PyAV opens the file only with the first frame.
            temporary.touch()
            self._container = av.open(
                str(temporary), 'w', format='mp4', options=options
            )
            stack.push(self._close)
            self._exits = stack.pop_all()
        return self

    def _refusal(self, error: Exception) -> InputError:
        reason = getattr(error, 'strerror', error)
        return InputError(f'{self.path} cannot be written: {reason}')

    def append(self, frames: torch.Tensor | np.ndarray) -> None:
        """Append frames.

        Args:
            frames: [T, 3, H, W] or [3, H, W], uint8, RGB; all of one size.
        """
        frames = np.asarray(
            frames.cpu() if isinstance(frames, torch.Tensor) else frames
        )
        if frames.dtype != np.uint8 or frames.shape[-3:-2] != (3,):
            raise InputError(
                f'{self.path}: frames must be uint8 [T, 3, H, W], got '
                f'{frames.dtype} {list(frames.shape)}'
            )
        try:
            for frame in frames.reshape(-1, *frames.shape[-3:]):
                self._append(frame.transpose(1, 2, 0))
        except (av.FFmpegError, OSError) as error:
            raise self._refusal(error) from None

    def _append(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        if self._stream is None:
            self._size = height, width
            self._stream = self._add_stream(
                width + width % 2, height + height % 2
            )
        if (height, width) != self._size:
            raise InputError(
                f'{self.path}: frames differ in size: first {self._size}, '
                f'now {(height, width)} (height, width)'
            )
        image = np.pad(
            image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge'
        )
        frame = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(
            format='yuv420p',
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        self._container.mux(self._stream.encode(frame))

    def _add_stream(self, width: int, height: int) -> av.VideoStream:
        # x264's output depends on the number of threads, and with its
        # macroblock tree, that of small frames sometimes varies.
        stream = self._container.add_stream(
            'libx264',
            rate=self._fps,
            options={'crf': str(self._crf), 'threads': '1', 'mbtree': '0'},
        )
        stream.width, stream.height = width, height
        stream.pix_fmt = 'yuv420p'
        context = stream.codec_context
        context.gop_size = self._gop
        context.sample_aspect_ratio = self._pixel_aspect
        context.color_range = ColorRange.MPEG
        # 1 is BT.709 in all three tables of ITU-T H.273.
        context.colorspace = context.color_primaries = context.color_trc = 1
        return stream

    def __exit__(self, *error: Any) -> None:
        self._exits.__exit__(*error)

    def _close(self, error_type: type | None, *others: object) -> None:
        try:
            if error_type is None:
                if self._stream is None:
                    raise InputError(f'{self.path}: a video needs a frame')
                self._container.mux(self._stream.encode())
                self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._refusal(error) from None
        finally:
            with suppress(av.FFmpegError, OSError):
                self._container.close()


def _simple_fraction(number: float | Fraction) -> Fraction:
    """Approximate a number from 1e-6 to 1e6 to a relative error of 1e-6."""
    if number < 1:
        return 1 / _simple_fraction(1 / Fraction(number))
    return Fraction(number).limit_denominator(int(1e6 / number))


def write_video(
    path: str | os.PathLike,
    frames: torch.Tensor | np.ndarray,
    fps: float,
    crf: float = 16,
) -> None:
    """Write the frames of a whole video to an H.264 mp4 file.

    Args:
        path: See :class:`VideoWriter`.
        frames: [T, 3, H, W], uint8, RGB.
        fps: See :class:`VideoWriter`.
        crf: See :class:`VideoWriter`.

    Raises:
        InputError: If the file cannot be written.
    """
    with VideoWriter(path, fps, crf) as writer:
        writer.append(frames)


def video_grid(
    videos: torch.Tensor, ncols: int, padding: int = 2
) -> torch.Tensor:
    """Arrange videos in a grid, row by row; empty cells are black.

    Args:
        videos: [N, T, 3, H, W], uint8.
        ncols: Number of columns.
        padding: Black pixels between neighbours.

    Returns:
        [T, 3, nrows * (H + padding) - padding, ncols * (W + padding) -
        padding], uint8.
    """
    num_videos, num_frames, channels, height, width = videos.shape
    nrows = -(-num_videos // ncols)
    grid = videos.new_zeros(
        num_frames,
        channels,
        nrows * (height + padding) - padding,
        ncols * (width + padding) - padding,
    )
    for i, video in enumerate(videos):
        y = i // ncols * (height + padding)
        x = i % ncols * (width + padding)
        grid[:, :, y : y + height, x : x + width] = video
    return grid
