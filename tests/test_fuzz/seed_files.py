"""Small whole files of every kind, for mutations to start from."""

import csv
import io
import json
import zipfile

import av
import cv2
import numpy as np
import torch
from published_pickle import publish
from reader import model
from safetensors.torch import save_file

from stylegan_v_mm.evaluation.frechet import FeatureRows, FeatureStats
from stylegan_v_mm.inference import Latents
from stylegan_v_mm.models.noise import MotionNoise

#: File to codec and pixel format: many containers, decoders and indices.
VIDEOS = {
    'h264.mp4': ('libx264', 'yuv420p'),
    'mpeg4.avi': ('mpeg4', 'yuv420p'),
    'vp9.webm': ('libvpx-vp9', 'yuv420p'),
    'vp8.webm': ('libvpx', 'yuv420p'),
    'ffv1.mkv': ('ffv1', 'yuv420p'),
    'mpeg2.ts': ('mpeg2video', 'yuv420p'),
    'mpeg1.mpg': ('mpeg1video', 'yuv420p'),
    'gif.gif': ('gif', 'rgb8'),
    'prores.mov': ('prores_ks', 'yuv422p10le'),
    'flv.flv': ('flv', 'yuv420p'),
    'wmv.wmv': ('wmv2', 'yuv420p'),
    'raw.h264': ('libx264', 'yuv420p'),
    'mjpeg.avi': ('mjpeg', 'yuvj420p'),
}

#: What a published snapshot says of ``reader.model``.
CONFIG = {
    'sampling': {
        'type': 'random', 'num_frames_per_video': 3, 'max_num_frames': 64,
    },
    'model': {
        'generator': {
            'sampling': '${sampling}',
            'motion': {
                'z_dim': 16, 'v_dim': 32, 'motion_z_distance': 16,
                'gen_strategy': 'conv', 'kernel_size': 11, 'fourier': True,
            },
            'time_enc': {
                'cond_type': 'concat_const', 'dim': 16, 'min_period_len': 16,
                'max_period_len': 1024,
            },
        },
        'discriminator': {
            'sampling': '${sampling}', 'concat_res': 16,
            'num_frames_div_factor': 2, 'dummy_c': False,
        },
    },
}  # fmt: skip


def picture(i, width=48, height=32):
    """Frame i: a white square that moves over a ramp, [H, W, 3], uint8."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = np.linspace(0, 255, width)
    image[i : i + 8, 2 * i : 2 * i + 10] = 255
    return image


def video(path, codec, pix_fmt, num_frames=10):
    """Encode pictures, with B-frames and several groups where there are."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pix_fmt
        stream.codec_context.gop_size = 4
        stream.codec_context.thread_count = 1
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(i), format='rgb24')
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def image(suffix):
    """Encode a picture."""
    return cv2.imencode(suffix, picture(3))[1].tobytes()


def zipped(compression, suffix='.png'):
    """Two frame folders and labels."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for name in ('top/a/0', 'top/a/1', 'top/b/0', 'top/b/1'):
            archive.writestr(name + suffix, image(suffix))
        labels = {'labels': [['a/0.png', 0], ['b', 1]]}
        archive.writestr('top/dataset.json', json.dumps(labels))
    return file.getvalue()


def labels():
    """Files of labels: numbers, vectors, names of classes."""
    entries = [
        [['a', 0], ['b', 2], ['c/d/0.jpg', 1], ['c/d/1.jpg', 1]],
        [['a', [0.5, 1]], ['b', [2, 3]], ['c/d', [-1e3, 0]]],
    ]
    for i, each in enumerate(entries):
        yield f'{i}.json', json.dumps({'labels': each}).encode()
    for i, classes in enumerate(['012', ['walk', 'run, fast', 'ä']]):
        text = io.StringIO()
        rows = zip(['a', 'b.mp4', 'c/d'], classes)
        csv.writer(text).writerows([('video', 'label'), *rows])
        yield f'{i}.csv', text.getvalue().encode()


def make(folder):
    """Make the files.

    Args:
        folder (Path): To work in.

    Returns:
        dict: Kind to name of a file to its bytes.
    """
    made = {kind: {} for kind in ('video', 'checkpoint')}
    for name, (codec, pix_fmt) in VIDEOS.items():
        video(folder / name, codec, pix_fmt)
        made['video'][name] = (folder / name).read_bytes()
    suffixes = ('.png', '.jpg', '.webp', '.bmp', '.tiff', '.ppm')
    made['image'] = {f'a{suffix}': image(suffix) for suffix in suffixes}
    made['zip'] = {
        'stored.zip': zipped(zipfile.ZIP_STORED),
        'deflated.zip': zipped(zipfile.ZIP_DEFLATED, '.bmp'),
    }
    made['conversion'] = {
        'small.zip': zipped(zipfile.ZIP_DEFLATED),
        'small.mp4': made['video']['h264.mp4'],
    }
    made['labels'] = dict(labels())

    torch.manual_seed(0)
    gan = model()
    weights = gan.state_dict()
    torch.save({'state_dict': weights, 'meta': {'iter': 3}}, folder / 'a.pth')
    save_file(weights, folder / 'a.safetensors')
    torch.save(
        {'state_dict': weights},
        folder / 'old.pth',
        _use_new_zipfile_serialization=False,
    )
    for name in ('a.pth', 'a.safetensors', 'old.pth'):
        made['checkpoint'][name] = (folder / name).read_bytes()

    network = gan.generator_ema
    codes = torch.randn(30, network.motion_encoder.motion_z_dim)
    Latents(
        torch.randn(2, network.num_ws, network.w_dim),
        [MotionNoise(3), MotionNoise(4, codes, 2, 8)],
        torch.eye(2),
    ).save(folder / 'latents.safetensors')
    made['latents'] = {
        'latents.safetensors': (folder / 'latents.safetensors').read_bytes()
    }

    publish(gan, folder / 'a.pkl', CONFIG)
    made['snapshot'] = {'a.pkl': (folder / 'a.pkl').read_bytes()}

    features = torch.randn(20, 6)
    stats, rows = FeatureStats(6), FeatureRows()
    stats.append(features)
    rows.append(features, 0)
    for kind, kept in (('statistics', stats), ('rows', rows)):
        kept.save(folder / f'{kind}.npz')
        made[f'feature {kind}'] = {
            f'{kind}.npz': (folder / f'{kind}.npz').read_bytes()
        }
    line = dict(checkpoint='iter_1.pth', FVD16=3.5, FID=2.0)
    made['metrics'] = {'metrics.jsonl': 2 * (json.dumps(line) + '\n').encode()}
    return made
