"""Files made to do harm, each in a way that is known or has worked once.

What has failed here or under mutations is kept as a case: search for "once".
"""

import io
import json
import os
import pickle
import stat
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import torch
from published_pickle import Call
from seed_files import image, picture

from stylegan_v_mm.datasets.sources.kinds import MAX_FILE


def png(width, height):
    """A png that claims to be large, with the right checksums."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        size = len(content)
        return (
            struct.pack('>I', size) + name + content + struct.pack('>I', crc)
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'x'))
    return b'\x89PNG\r\n\x1a\n' + parts + chunk(b'IEND', b'')


def resized(suffix, width, height):
    """An image whose header is changed to other sizes."""
    content = image(suffix)
    match suffix:
        case '.bmp':
            sizes = (
                struct.pack('<ii', 48, 32),
                struct.pack('<ii', width, height),
            )
        case '.jpg':
            sizes = (
                struct.pack('>HH', 32, 48),
                struct.pack('>HH', height, width),
            )
        case '.ppm':
            sizes = b'48 32', b'%d %d' % (width, height)
    assert sizes[0] in content
    return content.replace(*sizes, 1)


IMAGES = {
    # Once, OpenCV made room for 3 GB before it read any of these.
    'a.png': (png(30_000, 30_000), '900000000 pixels'),
    'b.png': (png(2**31 - 1, 2**31 - 1), 'too large|not an image'),
    'c.png': (png(2**14, 2**12 + 1), '16384x4097 pixels is too large'),
    'd.png': (b'\xff' * 8 + png(20_000, 20_000)[8:], 'not an image'),
    'a.jpg': (resized('.jpg', 65500, 65500), '4290250000 pixels'),
    'a.bmp': (resized('.bmp', 2**20, 2**20), 'too large|not an image'),
    'a.ppm': (resized('.ppm', 10**6, 10**6), 'too large|not an image'),
    # Formats that are no image of ours, whatever they are called.
    'e.png': (b'#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n',
              'not an image'),
    'f.png': (b'PF\n30000 30000\n-1.0\n' + bytes(100), 'not an image'),
    'g.png': (b'\x59\xa6\x6a\x95' + struct.pack('>7I', 30000, 30000, 24, 0,
              1, 0, 0), 'not an image'),
    'h.png': (b'', 'not an image'),
    # Once, OpenCV made room for what a chunk says to hold.
    'i.png': (png(48, 32)[:33] +
              b'\x7f\xff\xff\xffIDAT' + bytes(99), 'the PNG ends early'),
}  # fmt: skip


@pytest.mark.parametrize('name', IMAGES)
def test_images(name, check):
    content, words = IMAGES[name]
    assert_words(check('image', name, content, ['refused']), words)


def assert_words(message, words):
    assert any(word in message for word in words.split('|')), message


def zip_of(files, method=zipfile.ZIP_STORED):
    """A zip of (name or ZipInfo, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method, compresslevel=1) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def patched(content, old, new):
    assert old in content
    return content.replace(old, new)


def with_size(content, name, size):
    """Let the directory of a zip tell another size of a file."""
    place = content.rindex(name.encode()) - 46
    assert content[place:][:4] == b'PK\x01\x02'
    size = struct.pack('<I', size)
    return content[: place + 24] + size + content[place + 28 :]


def link(target):
    info = zipfile.ZipInfo('a/0.png')
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def utf8_flag(content):
    """Say that names are UTF-8, which they then are not."""
    changed = bytearray(patched(content, b'a/0.png', b'\xff/0.png'))
    for magic, place in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        changed[changed.index(magic) + place + 1] |= 8
    return bytes(changed)


FRAME = image('.png')
BMP = cv2.imencode('.bmp', np.zeros((32, 48, 3), np.uint8))[1].tobytes()
DEFLATED = zip_of([('a/0.bmp', BMP)], zipfile.ZIP_DEFLATED)
BOMB = zip_of([('a/0.png', bytes(MAX_FILE + 1))], zipfile.ZIP_DEFLATED)
ONE = zip_of([('a/0.png', FRAME)])
LABELS = with_size(
    zip_of([('a/0.png', FRAME), ('dataset.json', b'{}')]),
    'dataset.json',
    2**29,
)
ZIPS = {
    'crc': (patched(ONE, FRAME[50:90], bytes(40)), 'is damaged'),
    'bomb': (BOMB, 'too large'),
    'bomb that tells another size': (with_size(BOMB, 'a/0.png', 5000),
                                     'is damaged'),
    'size that is none': (with_size(DEFLATED, 'a/0.bmp', 2**32 - 2),
                          'too large'),
    'labels bomb': (LABELS, 'dataset.json: it is too large'),
    'symlink': (zip_of([link('/etc/passwd')]), 'a link (1: a/0.png)'),
    'nested': (zip_of([('a/0.png', ONE)]), 'not an image'),
    'zip in zip': (zip_of([('a/0.zip', ONE)]), 'no folders of frames'),
    'encrypted': (patched(ONE, b'PK\x01\x02\x14\x03\x14\x00\x00',
                          b'PK\x01\x02\x14\x03\x14\x00\x01'), 'is encrypted'),
    # Once, each of these was a traceback.
    'directory cut': (ONE.replace(b'PK\x01\x02', b'PK\x01\x03'),
                      'the zip is damaged'),
    'names that are no text': (utf8_flag(ONE), 'the zip is damaged'),
    'version of zip': (patched(ONE, b'PK\x01\x02\x14\x03\x14',
                               b'PK\x01\x02\x14\x03\xff'),
                       'the zip is damaged'),
    'labels that are no text': (zip_of([('a/0.png', FRAME), ('b/0.png', FRAME),
                                        ('dataset.json', b'\xff')]),
                                'not a text file in UTF-8'),
    'nothing': (zip_of([]), 'no folders of frames'),
}  # fmt: skip


@pytest.mark.parametrize('name', ZIPS)
def test_zips(name, check):
    content, words = ZIPS[name]
    path = 'a.zip'
    assert_words(check('zip', path, content, ['refused']), words)


def test_a_long_name_is_a_name(check):
    """Once, its digits had to be an integer."""
    name = '9' * 60_000
    content = zip_of([(f'a/{name}.png', FRAME), ('a/2.png', FRAME)])
    check('zip', 'a.zip', content, ['read', 'refused'])


# Once, a name that starts with / became a folder there.
NAMES = ['../up/0.png', 'a/../../up/0.png', '/absolute/{}/0.png', '{}/0.png']
NAMES += ['//{}/0.png', 'a\\..\\..\\up/0.png', './a/0.png', 'a/b/../0.png']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('alone', [True, False])
def test_names_that_lead_out(name, alone, check, sandbox, tmp_path):
    """What is made lies in its folder; an audit hook watches the rest."""
    name = name.format(tmp_path / 'outside')
    others = [] if alone else [('b/0.png', FRAME), ('c/0.png', FRAME)]
    before = set(sandbox.iterdir())
    content = zip_of([(name, FRAME), *others])
    message = check('conversion', 'a.zip', content)
    assert alone or message == ''
    assert not (tmp_path / 'outside').exists()
    new = {path.name for path in set(sandbox.iterdir()) - before}
    # The reader's own are the log and the cache.
    assert new <= {'out', 'log.txt', 'cache'}


def test_duplicate_names(check):
    with pytest.warns(UserWarning, match='Duplicate name'):
        content = zip_of([('a/0.png', FRAME), ('a/0.png', image('.png'))])
    check('zip', 'a.zip', content, ['read', 'refused'])


# Folders


def test_no_file_is_waited_for(reader, sandbox):
    """Pipes, devices, folders and links to nothing in the place of files."""
    root = sandbox / 'special'
    (root / 'a').mkdir(parents=True)
    (root / 'b').mkdir()
    os.mkfifo(root / 'a/0.png')
    os.symlink('/dev/zero', root / 'b/0.png')
    answer = reader.read('video', root)
    assert answer['outcome'] == 'refused', answer
    assert 'neither file nor folder (2: a/0.png' in answer['about']
    for name, make in {
        'a.mp4': os.mkfifo,
        'b.mp4': lambda path: os.symlink('/dev/zero', path),
        'c.mp4': lambda path: os.symlink('nowhere', path),
        'd.mp4': os.mkdir,
    }.items():
        make(root / name)
    assert reader.read('video', root)['outcome'] == 'refused'


def test_links_in_circles_end(reader, sandbox):
    """Once, two links to their own folder were followed 2^40 times."""
    root = sandbox / 'circle'
    (root / 'a').mkdir(parents=True)
    (root / 'a/0.png').write_bytes(FRAME)
    for name in ('b', 'c', 'a/d', 'a/e'):
        os.symlink(root, root / name)
    assert reader.read('video', root)['outcome'] == 'read'


def test_names_are_shown_on_one_line(sandbox, reader):
    """Once, a name could move the cursor, or forge a second line."""
    root = sandbox / 'names'
    folder = root / 'a\n\x1b[2Jerror: all is well'
    folder.mkdir(parents=True)
    (folder / '0.png').write_bytes(b'x')
    answer = reader.read('conversion', root)
    assert answer['outcome'] == 'refused', answer
    assert r'a\n\x1b[2Jerror' in answer['about']


# Videos

CONCAT = b'ffconcat version 1.0\nfile inner.mp4\n'
PLAYLIST = (
    b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninner.mp4\n#EXT-X-ENDLIST'
)
SESSION = b'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n'
VIDEOS = {
    # Once, a text could name other files, which were then read.
    'concat.mp4': (CONCAT, 'cannot be read'),
    'playlist.mp4': (PLAYLIST, 'cannot be read'),
    'session.mp4': (SESSION + b'm=video 9 RTP/AVP 31\n', 'cannot be read'),
    'manifest.mp4': (
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        b'type="static"><Period><BaseURL>inner.mp4</BaseURL></Period></MPD>',
        'cannot be read',
    ),
    'huge.y4m': (b'YUV4MPEG2 W20000 H12000 F25:1\nFRAME\n' + bytes(2**20),
                 'too large'),
    'more.y4m': (b'YUV4MPEG2 W2147483647 H2147483647 F25:1\nFRAME\nx',
                 'cannot be read|no frame|holds no video'),
    'text.mp4': (b'words', 'cannot be read'),
    'empty.mp4': (b'', 'cannot be read'),
}  # fmt: skip


@pytest.mark.parametrize('name', VIDEOS)
def test_videos(name, check, sandbox, seeds):
    (sandbox / 'inner.mp4').write_bytes(seeds['video']['h264.mp4'])
    content, words = VIDEOS[name]
    assert_words(check('video', name, content, ['refused']), words)
    (sandbox / 'inner.mp4').unlink()


def test_a_codec_that_nobody_knows(check, seeds):
    """Once, this was a traceback."""
    content = patched(seeds['video']['h264.mp4'], b'avc1', b'zzz1')
    message = check('video', 'a.mp4', content, ['refused'])
    assert 'holds no video' in message


def test_concatenated_videos(check, seeds):
    """Of one kind and of two, in either order."""
    videos = list(seeds['video'].items())
    for (name, one), (_, other) in zip(videos, videos[1:] + videos[:1]):
        check('video', name, one + other)
        check('video', name, other + one)


# Pickles


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def packed(content):
    """Compress a checkpoint, which torch reads, too."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as other,
    ):
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    return file.getvalue()


def array_with(value):
    file = io.BytesIO()
    arrays = {
        n: np.array([value]) for n in ('num', 'sum', 'outer', 'features')
    }
    np.savez(file, **arrays)
    return file.getvalue()


EVIL = Call(os.mkdir, 'executed')
SPARSE = torch.eye(3).to_sparse()
CHECKPOINTS = {
    'call': saved({'state_dict': EVIL}),
    'call, old': saved(
        {'state_dict': EVIL}, _use_new_zipfile_serialization=False
    ),
    'plain pickle': pickle.dumps({'state_dict': EVIL}),
    # Once, these were tracebacks, or took memory without end.
    'compressed': packed(saved({'state_dict': {'x': torch.zeros(2**20)}})),
    'no weights': saved({'state_dict': [1, 2]}),
    'weights that are none': saved({'state_dict': {'x': 3}}),
    'names that are none': saved({'state_dict': {3: torch.ones(1)}}),
    'sparse': saved({'state_dict': {'x': SPARSE}}),
    'without values': saved({'state_dict': {'x': torch.ones(3).to('meta')}}),
    'a number': saved(3),
}


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_checkpoints(name, check, sandbox):
    check('checkpoint', 'a.pth', CHECKPOINTS[name], ['refused'])
    assert not (sandbox / 'executed').exists()


@pytest.mark.parametrize('kind', ['feature rows', 'feature statistics'])
def test_arrays_of_objects(kind, check, sandbox):
    check(kind, 'a.npz', array_with(EVIL), ['refused'])
    assert not (sandbox / 'executed').exists()


def test_snapshots(check, sandbox):
    for evil in (EVIL, {'G_ema': EVIL}, {'G_ema': {'G': EVIL}}):
        content = pickle.dumps(evil)
        message = check('snapshot', 'a.pkl', content, ['refused'])
        assert 'posix.mkdir' in message
    assert not (sandbox / 'executed').exists()


# Labels and results

DEEP = '[' * 200_000 + ']' * 200_000
LABELS_OF_HARM = {
    # Once, a label made a square matrix as wide as it is large.
    'large.json': ('{"labels": [["a", 99999], ["b", 0], ["c/d", 1]]}',
                   'a label is 99999'),
    'huge.json': ('{"labels": [["a", 1e999], ["b", 0], ["c/d", 1]]}', 'inf'),
    'long.json': ('{"labels": [["a", %s], ["b", 0], ["c/d", 1]]}'
                  % (10**4000), 'a label is'),
    'longer.json': ('{"labels": [["a", %s]]}' % ('9' * 5000), 'expected'),
    'wide.json': ('{"labels": [["a", [%s]], ["b", [1]], ["c/d", [1]]]}'
                  % (10**400), 'finite numbers'),
    'deep.json': ('{"labels": ' + DEEP + '}', 'expected'),
    'long.csv': ('a,%s\nb,0\nc/d,1' % ('9' * 5000), 'not a known header'),
    'signs.csv': ('a,--5\nb,0\nc/d,1', 'not a known header'),
    'field.csv': ('"%s",1' % ('x' * 200_000), 'field larger'),
    'nul.csv': ('a,\0\nb,\0\nc/d,1', 'all integers or'),
}  # fmt: skip


@pytest.mark.parametrize('name', LABELS_OF_HARM)
def test_labels(name, check):
    text, words = LABELS_OF_HARM[name]
    expected = ['refused'] if words else ['read']
    assert words in check('labels', name, text.encode(), expected)


@pytest.mark.parametrize(
    'line',
    [
        '[1]', '3', 'null', '{"checkpoint": 3, "FVD16": 1.5}', DEEP, '{',
        '{"checkpoint": "%s", "FVD16": 1.5}' % ('x' * 5000),
        '{"checkpoint": "iter_1.pth", "FVD16": "low"}', '\\udcff',
    ],
)  # fmt: skip
def test_results(line, check):
    check('metrics', 'metrics.jsonl', line.encode(), ['refused'])


def test_pictures_are_as_they_were(check, seeds):
    """What is refused above is refused for its harm alone."""
    for kind in ('image', 'zip', 'labels'):
        for name, content in seeds[kind].items():
            check(kind, name, content, ['read'])
    assert picture(0).shape == (32, 48, 3)
    assert json.loads(seeds['labels']['0.json'])['labels']
