"""The devices of this machine, and the codecs of its FFmpeg."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from .finding import Finding

CODECS = ('h264', 'mpeg4', 'vp9', 'hevc', 'av1')


def check_devices() -> Iterable[Finding]:
    """List the CPU and the GPUs that torch can use."""
    yield Finding(
        'cpu',
        'ok',
        f'{os.cpu_count()} cores, torch uses {torch.get_num_threads()}',
    )
    if not torch.cuda.is_available():
        if Path('/proc/driver/nvidia').exists():
            yield Finding(
                'gpu',
                'warn',
                f'there is a driver, but torch {torch.__version__} sees no '
                'GPU',
                "nvidia-smi shows the driver's CUDA version: it must be at "
                f"least torch's, {torch.version.cuda}",
            )
        else:
            yield Finding('gpu', 'ok', 'none: everything runs on the CPU')
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Finding(
            f'gpu {index}',
            'ok',
            f'{device.name}, {device.total_memory / 2**30:.0f} GiB, '
            f'sm_{device.major}{device.minor}, CUDA {torch.version.cuda}',
        )


def check_codecs() -> Iterable[Finding]:
    """Write and read back a small video in each codec."""
    for name in CODECS:
        ability = codec_ability(name)
        if ability == 'can be read and written':
            yield Finding(name, 'ok', ability)
        elif name == 'h264':
            yield Finding(
                name,
                'fail',
                f'{ability}, but samples and previews are written in it',
                "pip install --force-reinstall av brings PyAV's own FFmpeg",
            )
        elif ability == 'can be read, not written':
            yield Finding(name, 'ok', ability)
        else:
            yield Finding(
                name,
                'warn',
                ability,
                "pip install --force-reinstall av brings PyAV's own FFmpeg; "
                'or convert videos of this codec to H.264',
            )


def codec_ability(name: str) -> str:
    """Try what PyAV can do with a codec: write a small video and read it."""
    import av
    from av.codec.codec import Codec, UnknownCodecError

    try:
        Codec(name, 'r')
    except UnknownCodecError:
        return 'cannot be read'
    frames = moving_bar()
    try:
        data = encode(name, frames)
    except (UnknownCodecError, av.FFmpegError):
        return 'can be read, not written'
    back = decode(data)
    if back.shape != frames.shape:
        return f'returns {back.shape} for {frames.shape}'
    if np.abs(back - frames.astype(int)).mean() > 8:
        return 'returns other frames'
    return 'can be read and written'


def moving_bar() -> np.ndarray:
    """Draw frames [8, 64, 64, 3], uint8: a bright bar that moves."""
    frames = np.full((8, 64, 64, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, 6 * index : 6 * index + 16] = 220
    return frames


def encode(codec: str, frames: np.ndarray) -> bytes:
    """Encode ``frames`` [T, H, W, 3], uint8, into a Matroska file."""
    import av

    # Two encoders describe themselves at length on stderr.
    os.environ.setdefault('SVT_LOG', '1')
    quiet = {'x265-params': 'log-level=none'}
    file = io.BytesIO()
    with av.open(file, 'w', format='matroska') as container:
        stream = container.add_stream(codec, rate=25, options=quiet)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.bit_rate = 2_000_000
        for frame in frames:
            frame = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Decode a video file into frames [T, H, W, 3], uint8."""
    import av

    with av.open(io.BytesIO(data)) as container:
        frames = container.decode(video=0)
        return np.stack([f.to_ndarray(format='rgb24') for f in frames])
