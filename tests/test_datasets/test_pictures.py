"""Pixels of image files: upright, moving, damaged."""

import io
import os
import struct
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from stylegan_v_mm.datasets.sources.finding import (
    find_videos,
    frame_rate,
    open_video,
    read_each,
)
from stylegan_v_mm.datasets.sources.frame_folders import (
    FrameFolder,
    MovingPicture,
)
from stylegan_v_mm.datasets.sources.images import find_images
from stylegan_v_mm.datasets.sources.pictures import decode_images
from stylegan_v_mm.video.reader import DamagedVideoError

# Pillow's, about damaged TIFFs.
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
FAULTS = Path(os.environ.get('STYLEGAN_V_BAD_INPUTS', '/nowhere'))
ORIENTATION = 0x112


def picture(i=0, size=(40, 24)):
    """Smooth, other at each corner, and of no symmetry, [H, W, 3]."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 200, width) + 3 * i
    image[..., 1] = np.linspace(0, 240, height)[:, None]
    image[..., 2] = 30
    return image


# What a camera stores of a scene, by the orientation that it notes: EXIF 2.32,
# 4.6.4 says what is to be done to see the scene again.
STORED = {
    1: lambda scene: scene,
    2: np.fliplr,
    3: lambda scene: np.rot90(scene, 2),
    4: np.flipud,
    5: lambda scene: scene.swapaxes(0, 1),
    6: lambda scene: np.rot90(scene, 1),
    7: lambda scene: np.rot90(scene, 2).swapaxes(0, 1),
    8: lambda scene: np.rot90(scene, -1),
}
FORMATS = {
    'jpg': ('JPEG', dict(quality=95, subsampling=0)),
    'png': ('PNG', {}),
    'tif': ('TIFF', dict(compression='tiff_lzw')),
    'webp': ('WEBP', dict(lossless=True)),
}


def encode(images, format, orientation=1, **options):
    """Encode pictures [H, W, 3] as a file, still or moving."""
    first, *rest = (Image.fromarray(np.ascontiguousarray(i)) for i in images)
    if format == 'TIFF':
        options['tiffinfo'] = {ORIENTATION: orientation}
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options['exif'] = exif
    if rest:
        options |= dict(save_all=True, append_images=rest)
    file = io.BytesIO()
    first.save(file, format, **options)
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def readers(root, suffix, blobs):
    """Give frames [T, H, W, 3] of stills as each reader reads them."""
    names = [f'v/{i}.{suffix}' for i in range(len(blobs))]
    for name, blob in zip(names, blobs):
        write(root / 'data' / name, blob)
    with zipfile.ZipFile(root / 'data.zip', 'w') as archive:
        for name, blob in zip(names, blobs):
            archive.writestr(name, blob)
    for path in ('data', 'data.zip'):
        (source,) = find_videos(root / path)
        yield path, source.read(range(len(blobs)))
        yield (
            f'{path}, one by one',
            np.stack(list(read_each(source, range(len(blobs))))),
        )
        images = find_images(root / path)
        yield f'{path}, images', np.concatenate([i.read([0]) for i in images])
    yield 'one folder', open_video(root / 'data/v').read(range(len(blobs)))
    lmdb = pytest.importorskip('lmdb')
    with (
        lmdb.open(str(root / 'lmdb'), map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for name, blob in zip(names, blobs):
            transaction.put(name.encode(), blob)
    images = find_images(root / 'lmdb')
    yield 'LMDB', np.concatenate([image.read([0]) for image in images])


@pytest.mark.parametrize('suffix', FORMATS)
@pytest.mark.parametrize('orientation', STORED)
def test_stills_are_turned_upright(tmp_path, suffix, orientation):
    format, options = FORMATS[suffix]
    scenes = [picture(i) for i in range(3)]
    blobs = [
        encode([STORED[orientation](scene)], format, orientation, **options)
        for scene in scenes
    ]
    # Pillow reads the same of the files.
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(blobs[0])))
    error = 3 if suffix == 'jpg' else 0
    assert abs(np.array(image).astype(int) - scenes[0]).max() <= error
    for way, frames in readers(tmp_path, suffix, blobs):
        difference = abs(frames.astype(int) - scenes)
        assert difference.max() <= error, way


@pytest.mark.parametrize('suffix', ['png', 'webp', 'tif'])
@pytest.mark.parametrize('orientation', STORED)
def test_moving_pictures_are_turned_upright(tmp_path, suffix, orientation):
    format, options = FORMATS[suffix]
    scenes = [picture(i) for i in range(4)]
    stored = [STORED[orientation](scene) for scene in scenes]
    blob = encode(stored, format, orientation, **options)
    write(tmp_path / f'a.{suffix}', blob)
    (source,) = find_videos(tmp_path)
    np.testing.assert_array_equal(source.read(range(4)), scenes)


def exif_block(orientation, order='<'):
    entry = struct.pack(order + 'HHIHH', ORIENTATION, 3, 1, orientation, 0)
    head = b'II*\0' if order == '<' else b'MM\0*'
    directory = struct.pack(order + 'IH', 8, 1) + entry + bytes(4)
    return b'Exif\0\0' + head + directory


def segment(marker, content):
    return bytes([255, marker]) + struct.pack('>H', len(content) + 2) + content


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>'


@pytest.mark.parametrize(
    ('segments', 'orientation'),
    [
        ([(0xE1, exif_block(6, '>'))], 6),
        # Some write other data first.
        ([(0xE1, XMP), (0xE1, exif_block(6))], 6),
        ([(0xED, b'Photoshop 3.0\0' * 99), (0xE1, exif_block(8))], 8),
        ([(0xE1, exif_block(0))], 1),
        ([(0xE1, exif_block(9))], 1),
        ([(0xE1, b'Exif\0\0words')], 1),
        ([(0xE1, exif_block(6)[:-14])], 1),
    ],
)  # fmt: skip
def test_exif_of_other_cameras(segments, orientation):
    blob = encode([picture()], 'JPEG', quality=95, subsampling=0)
    start = blob.index(b'\xff\xdb')  # what follows the segments
    inserted = b''.join(segment(*each) for each in segments)
    blob = blob[:2] + inserted + blob[start:]
    (frame,) = decode_images([blob], ['a.jpg'])
    turned = STORED[orientation](frame)
    assert abs(turned.astype(int) - picture()).max() <= 3


# Pictures that move


def test_our_own_webp_is_read_exactly(tmp_path):
    """Three clips as generate.py writes them are three videos."""
    import torch

    from stylegan_v_mm.inference.writing import save_video

    rng = np.random.default_rng(0)
    videos = rng.integers(0, 256, (3, 7, 3, 16, 24), np.uint8)
    for i, video in enumerate(videos):
        save_video(
            torch.from_numpy(video).split(3), tmp_path / f'{i}.webp', 20
        )
    sources = find_videos(tmp_path)
    assert [len(source) for source in sources] == [7, 7, 7]
    for source, video in zip(sources, videos.transpose(0, 1, 3, 4, 2)):
        assert isinstance(source, MovingPicture)
        assert frame_rate(source) == pytest.approx(20)
        np.testing.assert_allclose(source.times, np.arange(7) / 20)
        inds = [6, 0, 3, 3, 1]
        np.testing.assert_array_equal(source.read(inds), video[inds])
        for i in range(7):
            np.testing.assert_array_equal(source.read([i]), video[i : i + 1])
        ones = np.stack(list(read_each(source, [1, 2, 5])))
        np.testing.assert_array_equal(ones, video[[1, 2, 5]])


def pillows_frames(path):
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.array(image.convert('RGB'))


MOVING = {
    'lossy.webp': dict(quality=60, duration=[40, 80, 40, 40, 200]),
    'lossless.webp': dict(lossless=True),
    'plain.tif': {},
    'lzw.tiff': dict(compression='tiff_lzw'),
    'deflate.TIF': dict(compression='tiff_adobe_deflate'),
    'jpeg.tif': dict(compression='jpeg'),
}


@pytest.mark.parametrize('name', MOVING)
@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'P'])
def test_moving_pictures_are_as_pillow_reads_them(tmp_path, name, mode):
    if name == 'jpeg.tif' and mode in ('RGBA', 'P'):
        pytest.skip('JPEG has no such pixels')
    rng = np.random.default_rng(1)
    images = []
    for i in range(5):
        image = Image.fromarray(picture(10 * i)).convert(mode)
        if mode == 'RGBA':
            alpha = rng.integers(0, 2, (24, 40), np.uint8) * 255
            image.putalpha(Image.fromarray(alpha))
        images.append(image)
    path = tmp_path / name
    format = 'TIFF' if 'tif' in name.lower() else 'WEBP'
    images[0].save(
        path, format, save_all=True, append_images=images[1:], **MOVING[name]
    )
    expected = list(pillows_frames(path))
    (source,) = find_videos(tmp_path)
    assert len(source) == 5
    np.testing.assert_array_equal(source.read(range(5)), expected)
    for i in (4, 2, 0):
        np.testing.assert_array_equal(source.read([i])[0], expected[i])
    if 'duration' in MOVING[name]:
        np.testing.assert_allclose(source.times, [0, 0.04, 0.12, 0.16, 0.2])
        assert frame_rate(source) == pytest.approx(5 / 0.4)


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('big', [False, True])
def test_stacks_of_either_byte_order_and_size(tmp_path, order, big):
    tifffile = pytest.importorskip('tifffile')
    frames = np.stack([picture(i) for i in range(4)])
    tifffile.imwrite(
        tmp_path / 'a.tif', frames, photometric='rgb', byteorder=order,
        bigtiff=big, metadata=None,
    )  # fmt: skip
    (source,) = find_videos(tmp_path)
    if big and order == '>':
        # Pillow cannot read them, and that is said.
        with pytest.raises(DamagedVideoError, match=r'a\.tif'):
            source.read(range(4))
        return
    np.testing.assert_array_equal(source.read(range(4)), frames)


def test_a_still_with_a_thumbnail_is_a_still(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    with tifffile.TiffWriter(tmp_path / '0.tif') as file:
        file.write(picture(), photometric='rgb')
        file.write(picture(size=(8, 8)), photometric='rgb', subfiletype=1)
    source = open_video(tmp_path / '0.tif')
    assert isinstance(source, FrameFolder)
    np.testing.assert_array_equal(source.read([0]), [picture()])
    (tmp_path / 'v').mkdir()
    (tmp_path / '0.tif').rename(tmp_path / 'v/0.tif')
    (source,) = find_videos(tmp_path)
    assert source.name == 'v'
    np.testing.assert_array_equal(source.read([0]), [picture()])


def test_sixteen_bits(tmp_path):
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60
    write(tmp_path / 'v/0.tif', encode([deep], 'TIFF'))
    write(tmp_path / 'm.tif', encode([deep, deep // 2], 'TIFF'))
    moving, still = find_videos(tmp_path)
    expected = np.repeat((deep // 256)[..., None], 3, axis=2)
    np.testing.assert_array_equal(still.read([0]), [expected])
    np.testing.assert_array_equal(moving.read([0]), [expected])
    np.testing.assert_array_equal(moving.read([1])[0], expected // 2)
    floats = encode([deep.astype(np.float32)], 'TIFF')
    with pytest.raises(DamagedVideoError, match=r'a\.tif: pixels of 32 bits'):
        decode_images([floats], ['a.tif'])


@pytest.mark.parametrize('suffix', ['png', 'tif', 'webp'])
def test_a_moving_picture_is_no_frame(tmp_path, suffix):
    """Of a still among stills it is a frame, else a video beside them."""
    format, options = FORMATS[suffix]
    scenes = [picture(i) for i in range(3)]
    write(tmp_path / f'v/0.{suffix}', encode(scenes[:1], format, **options))
    write(tmp_path / f'w/0.{suffix}', encode(scenes, format, **options))
    found = {source.name: source for source in find_videos(tmp_path)}
    assert set(found) <= {'v', f'w/0.{suffix}'}
    np.testing.assert_array_equal(found['v'].read([0]), scenes[:1])
    images = {image.name: image for image in find_images(tmp_path)}
    np.testing.assert_array_equal(
        images[f'v/0.{suffix}'].read([0]), scenes[:1]
    )
    with pytest.raises(DamagedVideoError, match='animated image of 3 frames'):
        images[f'w/0.{suffix}'].read([0])


def test_an_animation_of_one_frame_is_a_still(tmp_path):
    """Some programs write such."""
    webp = encode([picture(), picture(1)], 'WEBP', lossless=True)
    at = webp.index(b'ANMF')
    size = 8 + struct.unpack('<I', webp[at + 4 : at + 8])[0]
    one = webp[: at + size]
    one = one[:4] + struct.pack('<I', len(one) - 8) + one[8:]
    assert Image.open(io.BytesIO(one)).n_frames == 1
    write(tmp_path / 'v/0.webp', one)
    (source,) = find_videos(tmp_path)
    assert source.name == 'v'
    np.testing.assert_array_equal(source.read([0]), [picture()])


@pytest.mark.parametrize('suffix', ['webp', 'tif'])
def test_moving_pictures_that_end_early(tmp_path, suffix):
    format, options = FORMATS[suffix]
    blob = encode([picture(20 * i) for i in range(5)], format, **options)
    sizes = [1, 5, 11, 15, 18, 21, 30, *range(60, len(blob), len(blob) // 9)]
    for i, size in enumerate(sizes):
        write(tmp_path / f'{i}/a.{suffix}', blob[:size])
        write(tmp_path / f'{i}/b.{suffix}', blob)
        sources = find_videos(tmp_path / f'{i}')
        b = sources[-1]
        assert (b.name, len(b), b.problem) == (f'b.{suffix}', 5, '')
        for source in sources[:-1]:
            assert source.name == f'a.{suffix}'
            if source.problem:
                assert len(source) < 5
                continue
            try:
                frames = source.read(range(len(source)))
            except DamagedVideoError:
                continue
            # Nothing is lost but what nobody needs.
            np.testing.assert_array_equal(frames, b.read(range(5)))
        named = {s.name for s in sources} | {n for n, _ in sources.left_out}
        assert named == {f'a.{suffix}', f'b.{suffix}'}


# Damage


@pytest.fixture
def older_opencv(monkeypatch):
    """One that fills up with grey what a JPEG lacks, as up to 4.10."""

    def imdecode(buffer, flags):
        return np.full((24, 40, 3), 128, np.uint8)

    monkeypatch.setattr(cv2, 'imdecode', imdecode)


@pytest.mark.parametrize('progressive', [False, True])
@pytest.mark.parametrize('thumbnail', [False, True])
def test_jpegs_that_end_early(tmp_path, older_opencv, progressive, thumbnail):
    blob = encode([picture()], 'JPEG', progressive=progressive)
    if thumbnail:  # its end is not that of the picture
        inner = b'Exif\0\0II*\0' + encode([picture(size=(8, 8))], 'JPEG')
        blob = blob[:2] + segment(0xE1, inner) + blob[2:]
    assert decode_images([blob], ['a.jpg']).shape == (1, 24, 40, 3)
    assert decode_images([blob + b'more'], ['a.jpg']).shape[0] == 1
    for size in range(2, len(blob)):
        with pytest.raises(DamagedVideoError, match=r'v/0\.jpg'):
            decode_images([blob[:size]], ['v/0.jpg'])
        filled = blob[:size] + bytes(len(blob) - size)
        with pytest.raises(DamagedVideoError, match=r'v/0\.jpg'):
            decode_images([filled], ['v/0.jpg'])


@pytest.mark.parametrize('suffix', FORMATS)
def test_stills_that_end_early(suffix):
    format, options = FORMATS[suffix]
    blob = encode([picture()], format, **options)
    decode_images([blob], ['whole'])
    for size in range(len(blob)):
        with pytest.raises(DamagedVideoError, match=r'a\.file'):
            decode_images([blob[:size]], ['a.file'])


def frames_of_the_real_world(count):
    """Pictures with the detail that photographs have."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        noise = rng.integers(0, 256, (12, 20, 3), np.uint8)
        yield cv2.resize(noise, (80, 48), interpolation=cv2.INTER_CUBIC)


def pillow_flags(blob):
    try:
        Image.open(io.BytesIO(blob)).load()
    except Exception:
        return True
    return False


def ffmpeg_flags(blob, codec):
    try:
        context = av.CodecContext.create(codec, 'r')
        frames = [*context.decode(av.Packet(blob)), *context.decode(None)]
    except (av.FFmpegError, ValueError):
        return True
    return not frames or any(frame.is_corrupt for frame in frames)


@pytest.mark.parametrize(
    ('suffix', 'codec', 'unnoticed'),
    # A JPEG or a WebP has no checksums: most flipped bits are a picture.
    [('jpg', 'mjpeg', 1), ('png', 'png', 0), ('tif', 'tiff', 0.9),
     ('webp', 'webp', 1)],
)  # fmt: skip
def test_no_frame_is_used_that_ffmpeg_or_pillow_flags(
    suffix, codec, unnoticed
):
    format, options = FORMATS[suffix]
    if suffix == 'tif':
        options = dict(compression='tiff_adobe_deflate')
    rng = np.random.default_rng(2)
    used = spoilt = 0
    for image in frames_of_the_real_world(4):
        whole = encode([image], format, **options)
        (right,) = decode_images([whole], ['whole'])
        # Behind the head, where it is about pixels.
        for at in rng.integers(len(whole) // 4, len(whole), 40):
            damaged = bytearray(whole)
            if at % 2:
                damaged[at] ^= 1 << rng.integers(8)
            else:
                damaged[at : at + 64] = bytes(len(damaged[at : at + 64]))
            try:
                (frame,) = decode_images([bytes(damaged)], ['x'])
            except DamagedVideoError:
                spoilt += 1
                continue
            if frame.shape == right.shape and (frame == right).all():
                continue
            used, spoilt = used + 1, spoilt + 1
            # OpenCV has gone on where Pillow's way to libwebp stops.
            assert suffix == 'webp' or not pillow_flags(bytes(damaged))
            assert not ffmpeg_flags(bytes(damaged), codec)
    assert used <= unnoticed * spoilt


def test_a_zip_notices_all_damage(tmp_path):
    """It has checksums, whatever the pictures have."""
    (image,) = frames_of_the_real_world(1)
    blob = encode([image], 'JPEG', quality=90)
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('v/0.jpg', blob)
    (source,) = find_videos(tmp_path / 'a.zip')
    source.read([0])
    whole = (tmp_path / 'a.zip').read_bytes()
    start = whole.index(blob)
    for at in np.random.default_rng(0).integers(len(blob), size=50):
        damaged = bytearray(whole)
        damaged[start + at] ^= 4
        (tmp_path / 'a.zip').write_bytes(damaged)
        with pytest.raises(DamagedVideoError, match=r'v/0\.jpg is damaged'):
            source.read([0])


# Those that people met


@pytest.mark.skipif(
    not FAULTS.is_dir(), reason='STYLEGAN_V_BAD_INPUTS names no folder'
)
def test_given_moving_pictures():
    for source in find_videos(FAULTS / 'animated_webp'):
        expected = list(pillows_frames(source.path))
        np.testing.assert_array_equal(
            source.read(range(len(source))), expected
        )
        assert frame_rate(source) > 0
