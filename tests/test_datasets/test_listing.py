"""What lies in a folder or a zip: order, kinds of files, what is left out."""

import ctypes
import io
import multiprocessing
import os
import pickle
import re
import stat
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stylegan_v_mm.datasets.sources.finding import find_videos, open_video
from stylegan_v_mm.datasets.sources.images import find_images
from stylegan_v_mm.datasets.sources.listing import natural_key
from stylegan_v_mm.errors import InputError

FAULTS = Path(os.environ.get('STYLEGAN_V_BAD_INPUTS', '/nowhere'))


def picture(i):
    """Frame i, RGB."""
    return np.full((12, 16, 3), (i, 255 - i, 7 * i % 256), np.uint8)


def encode(i=0, format='PNG', **options):
    file = io.BytesIO()
    Image.fromarray(picture(i)).save(file, format, **options)
    return file.getvalue()


def write(path, content=b'x'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_frames(folder, count=2):
    for i in range(count):
        write(folder / f'{i}.png', encode(i))


def video(codec='libx264', format='mp4', num_frames=4):
    """What a video file holds."""
    file = io.BytesIO()
    with av.open(file, 'w', format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
        for i in range(num_frames):
            image = np.full((32, 32, 3), 40 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def summary(sources):
    return {source.name: len(source) for source in sources}


def left_out(sources):
    return dict(sources.left_out)


# Order


@pytest.mark.parametrize(
    'names',
    [
        ['0.png', '0.04.png', '0.2.png', '0.76.png', '1.png', '1.5.png'],
        ['0.25', '0.3', '0.50', '0.51'],
        ['-10.png', '-2.5.png', '-1.png', '0.png', '1.png'],
        ['t=-2 x.jpg', 't=-1 x.jpg', 't=0 x.jpg', 't=10 x.jpg'],
        ['depth -5.png', 'depth -1.png', 'depth 3.png'],
        ['v_-1', 'v_0', 'v_1'],
        ['clip-2', 'clip-10'],
        ['2024-01-05', '2024-01-12', '2024-02-01'],
        ['take-1.mp4', 'take-2.mp4', 'take-10.mp4'],
        # Of three parts, each counts by itself, as for `sort -V`.
        ['v1.2.3', 'v1.2.10', 'v1.10.0'],
        ['10.0.0.9', '10.0.0.10', '10.0.1.0'],
        # The dot of a suffix is no decimal point.
        ['1.3gp', '2.3gp', '10.3gp'],
        ['-2.3gp', '-1.3gp', '1.264', '1.265', '3.264'],
        ['a/-1/x', 'a/0/x', 'a/2/x', 'a/10/x'],
        ['a0.5.3gp', 'a0.50.3gp', 'a0.75.3gp'],
    ],
)
def test_numbers_in_names(names):
    mixed = sorted(names, key=lambda name: hash((name, 1)))
    assert sorted(mixed, key=natural_key) == names


def test_names_that_sort_versions_agree_with_the_shell():
    names = ['v1.2.3', 'v1.2.10', 'v1.10.2', 'a1', 'a10', 'a9', 'x01y', 'x1z']
    result = subprocess.run(
        ['sort', '-V'],
        input='\n'.join(names),
        capture_output=True,
        text=True,
        env={'LC_ALL': 'C'},
        check=True,
    )
    assert sorted(names, key=natural_key) == result.stdout.split()


# Kinds of files


@pytest.mark.parametrize(
    ('name', 'codec', 'format'),
    [
        ('a.f4v', 'libx264', 'mp4'),
        ('a.3g2', 'libx264', '3g2'),
        ('a.264', 'libx264', 'h264'),
        ('a.m2v', 'mpeg2video', 'mpeg2video'),
        ('a.mk3d', 'libx264', 'matroska'),
        ('a.mod', 'mpeg2video', 'mpeg'),
        ('a.m2t', 'mpeg2video', 'mpegts'),
        ('a.nut', 'mpeg4', 'nut'),
        ('a.ivf', 'libvpx', 'ivf'),
        ('a.dat', 'mpeg1video', 'mpeg1video'),
        ('without', 'mpeg4', 'avi'),
        ('a.ogx', 'libvpx', 'ogg'),
        ('a.png', 'libx264', 'mp4'),
    ],
)
def test_videos_are_found_whatever_their_suffix(tmp_path, name, codec, format):
    write(tmp_path / 'b.mp4', video())
    write(tmp_path / name, video(codec, format, 12))
    assert summary(find_videos(tmp_path)) == {'b.mp4': 4, name: 12}
    assert summary(find_videos(tmp_path / name)) == {name: 12}
    assert len(open_video(tmp_path / name)) == 12


def tar_of(blobs):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        for i, blob in enumerate(blobs):
            info = tarfile.TarInfo(f'{i}.jpg')
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    return file.getvalue()


JPEGS = [encode(i, 'JPEG') for i in range(5)]
OTHERS = {
    'notes': (b'words\n' * 900, 'text'),
    'umlauts.md': (('xä' * 3000).encode(), 'text'),
    'utf16.txt': ('words'.encode('utf-16'), 'text'),
    'P1 of a story.txt': (b'P1 is about words', 'text'),
    'nothing.bin': (b'', 'empty'),
    'noise.bin': (np.random.default_rng(0).bytes(9000),
                  'neither video nor image'),
    'a.npy': (b'\x93NUMPY' + bytes(300), 'neither video nor image'),
    # FFmpeg would find a video of five frames in each of these.
    'a.tar': (tar_of(JPEGS), 'an archive'),
    'a.pkl': (pickle.dumps(JPEGS), 'neither video nor image'),
    'a.tfrecord': (b''.join(struct.pack('<QI', len(j), 7) + j for j in JPEGS),
                   'neither video nor image'),
    'a.zip': (b'PK\x03\x04' + bytes(99), 'an archive'),
    'a.avif': (encode(format='AVIF'), 'a HEIF picture'),
    'sound.wav': (b'RIFF\0\0\0\0WAVEfmt ' + bytes(99),
                  'neither video nor image'),
}  # fmt: skip


def test_what_is_no_video_is_named_and_said_what_it_is(tmp_path, monkeypatch):
    """And FFmpeg, which would read all of it, does not see it."""
    from stylegan_v_mm.datasets.sources import video_files

    seen, index_video = [], video_files.index_video
    monkeypatch.setattr(
        video_files,
        'index_video',
        lambda path, thorough: (
            seen.append(os.path.basename(path)) or index_video(path, thorough)
        ),
    )
    write(tmp_path / 'a.mp4', video())
    write(tmp_path / 'half.x', b'\0\0\0\x20ftypisom' + bytes(90))
    for name, (content, _) in OTHERS.items():
        write(tmp_path / name, content)
    sources = find_videos(tmp_path)
    assert summary(sources) == {'a.mp4': 4}
    found = left_out(sources)
    assert found.pop('half.x').startswith('no video: ')
    assert found == {name: reason for name, (_, reason) in OTHERS.items()}
    assert sorted(seen) == ['a.mp4', 'half.x']


def test_images_are_found_whatever_their_suffix(tmp_path):
    frames = {
        '0.jpg': 'JPEG', '1.jfif': 'JPEG', '2.JFIF': 'JPEG', '3.jpe': 'JPEG',
        '4': 'PNG', '5.jpg_large': 'JPEG', '6.dib': 'BMP', '7.pnm': 'PPM',
        '8.x': 'WEBP',
    }  # fmt: skip
    for name, format in frames.items():
        write(tmp_path / 'data/v' / name, encode(int(name[0]), format))
    write(tmp_path / 'data/v/notes.txt', b'words')
    cut = tmp_path / 'cut'
    write(cut / 'w/half', encode(0, 'JPEG')[:400])
    assert summary(find_videos(cut)) == {'w': 1}  # reading says what it is
    with zipfile.ZipFile(tmp_path / 'data.zip', 'w') as archive:
        for name in os.listdir(tmp_path / 'data/v'):
            archive.write(tmp_path / 'data/v' / name, f'v/{name}')
    for root in (tmp_path / 'data', tmp_path / 'data.zip'):
        (source,) = sources = find_videos(root)
        assert len(source) == 9
        shown = source.read(range(9)).mean((1, 2))
        wanted = [picture(i)[0, 0] for i in range(9)]
        assert abs(shown - wanted).max() < 6
        assert left_out(sources) == {'v/notes.txt': 'text'}
        images = find_images(root)
        assert len(images) == 9
        assert [reason for _, reason in images.left_out] == ['text']


def test_copies_that_programs_keep_do_not_count(tmp_path):
    write(tmp_path / 'a.mp4', video())
    copies = ['a.mp4_original', 'a.mp4.bak', 'a.mp4~', 'v/0.png~']
    for name in copies:
        write(tmp_path / name, video())
    write_frames(tmp_path / 'v')
    write(tmp_path / 'v/10', encode(5))  # not a copy of 1.png
    sources = find_videos(tmp_path)
    assert summary(sources) == {'a.mp4': 4, 'v': 3}
    assert set(left_out(sources)) == set(copies)
    assert 'copy' in left_out(sources)['a.mp4~']


def test_a_stream_of_jpegs_is_no_image(tmp_path):
    """Its reader may say what it likes; a frame of a folder it is not."""
    write(tmp_path / 'a.mp4', video())
    write(tmp_path / 'v/stream', b''.join(JPEGS))
    write(tmp_path / 'v/0.png', encode())
    # A phone adds a second picture to its JPEG.
    file = io.BytesIO()
    image = Image.fromarray(picture(1))
    image.save(file, 'MPO', save_all=True, append_images=[image])
    write(tmp_path / 'w/phone', file.getvalue())
    sources = find_videos(tmp_path)
    frames = {s.name: len(s) for s in sources if hasattr(s, 'files')}
    assert frames.pop('w') == 1
    assert frames in ({'v': 1}, {})
    assert 'v/stream' in summary(sources) | left_out(sources)


# Folders


SYSTEM = [
    '@eaDir/0.png/SYNO_THUMB.jpg', '#recycle/a.mp4', '$RECYCLE.BIN/a.mp4',
    '@Recycle/a.mp4', 'System Volume Information/a.mp4', 'lost+found/a.mp4',
    '__MACOSX/a.mp4', 'v/Thumbs.db', 'v/desktop.ini', 'v/@__thumb/0.jpg',
]  # fmt: skip
HIDDEN = ['.thumbnails/0.jpg', '.AppleDouble/0.png', 'v/._0.png', '.DS_Store',
          'v/.0.png.swp', '.Trash-0/a.mp4']  # fmt: skip


def test_thumbnails_and_trash_are_nobodys(tmp_path, warnings_logged):
    write_frames(tmp_path / 'v')
    for name in SYSTEM + HIDDEN:
        write(tmp_path / name, encode(format='JPEG'))
    sources = find_videos(tmp_path)
    assert summary(sources) == {'v': 2}
    assert len(sources.left_out) == len(SYSTEM + HIDDEN)
    for name, reason in sources.left_out:
        kind = HIDDEN if reason == 'hidden' else SYSTEM
        assert any(k == name or k.startswith(name) for k in kind), name
    assert len(find_images(tmp_path)) == 2
    assert warnings_logged == []


def test_links(tmp_path):
    """To something else they count, to what is here they do not, nor twice."""
    data, other = tmp_path / 'data', tmp_path / 'other'
    write_frames(data / 'a')
    write_frames(other / 'b', 3)
    write_frames(data / '.git/annex/c', 4)
    write(data / 'd.mp4', video())
    write(other / 'e.mp4', video(num_frames=5))
    links = {
        'to_b': other / 'b', 'again_b': other / 'b', 'annexed': '.git/annex/c',
        'latest': 'a', 'loop': '.', 'a/up': '..', 'a/self': 'self',
        'latest.mp4': 'd.mp4', 'e.mp4': other / 'e.mp4',
        'f.mp4': other / 'e.mp4', 'nothing.mp4': 'nowhere',
        'a/7.png': other / 'nothing', 'null.mp4': '/dev/null',
    }  # fmt: skip
    for name, target in links.items():
        os.symlink(target, data / name)
    os.mkfifo(data / 'pipe.mp4')
    sources = find_videos(data)
    found = summary(sources)
    b = {'to_b', 'again_b'} & set(found)
    e = {'e.mp4', 'f.mp4'} & set(found)
    assert len(b) == len(e) == 1
    assert found == {
        'a': 2, 'annexed': 4, 'd.mp4': 4, b.pop(): 3, e.pop(): 5,
    }  # fmt: skip
    reasons = left_out(sources)
    assert set(reasons) | set(found) == (
        {name + '/' * (name in ('to_b', 'again_b', 'latest', 'loop', 'a/up'))
         for name in set(links) - set(found)}
        | {'a', 'd.mp4', '.git/', 'pipe.mp4'} | set(found)
    )  # fmt: skip
    for name in ('latest/', 'loop/', 'a/up/', 'latest.mp4'):
        assert reasons[name] == 'a link to something listed already'
    assert reasons['nothing.mp4'] == 'a link to nothing'
    assert reasons['a/7.png'] == 'a link to nothing'
    assert 'levels of symbolic links' in reasons['a/self']
    assert reasons['pipe.mp4'] == 'neither file nor folder'
    assert reasons['null.mp4'] == 'neither file nor folder'


def look_as_anybody(paths, answers):
    """Say what is found, as videos and as images."""
    # Root may read anywhere, until it gives this up.
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    words = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, words) == 0
    words[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, words) == 0
    for path in paths:
        for find in (find_videos, find_images):
            try:
                found = find(path)
                answers.put(f'{[x.name for x in found]} {found.left_out}')
            except InputError as error:
                answers.put(f'error: {error}')


def test_what_may_not_be_read_is_named(tmp_path):
    data = tmp_path / 'data'
    write_frames(data / 'a')
    write_frames(data / 'private')
    write(data / 'mine.mp4', video())
    write(data / 'mine', b'words')
    for name in ('private', 'mine.mp4', 'mine'):
        (data / name).chmod(0)
    try:
        paths = [data, data / 'private', data / 'private/a']
        context = multiprocessing.get_context('fork')
        answers = context.SimpleQueue()
        child = context.Process(target=look_as_anybody, args=(paths, answers))
        child.start()
        child.join()
        assert child.exitcode == 0
        lines = [answers.get() for _ in range(6)]
    finally:
        (data / 'private').chmod(0o700)
    reason = "'cannot be read: Permission denied'"
    for line in lines[:2]:
        assert line.startswith('[')
        assert f"('private/', {reason})" in line
        assert f"('mine', {reason})" in line
        assert "'mine.mp4'" in line
    private = f'error: {data}/private'
    for line, place in zip(lines[2:], ['', '', '/a', '/a'], strict=True):
        assert line == f'{private}{place}: cannot be read: Permission denied'


def test_one_line_in_the_log(tmp_path, warnings_logged):
    write_frames(tmp_path / 'v')
    for i in range(30):
        write(tmp_path / f'{i}.txt', b'words')
    find_videos(tmp_path)
    assert warnings_logged == []  # text may lie there
    for i in range(7):
        os.symlink('nowhere', tmp_path / f'{i}.mp4')
    write(tmp_path / os.fsdecode(b'\xff.bin'), b'\0')
    find_videos(tmp_path)
    (line,) = warnings_logged
    assert 'a link to nothing (7: 0.mp4, 1.mp4, 2.mp4 and 4 more)' in line
    assert 'text (30: 0.txt, 1.txt, 2.txt and 27 more)' in line
    assert r'neither video nor image (1: \udcff.bin)' in line


# Zips


def zip_of(path, entries):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in entries:
            archive.writestr(name, content)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_the_last_of_what_was_packed_twice_counts(tmp_path):
    entries = [
        ('v/0.png', encode(1)),
        ('v/1.png', encode(2)),
        ('dataset.json', '{"labels": [["v", 0]]}'),
        ('./v//0.png', encode(3)),
        ('v/0.png', encode(4)),
        ('dataset.json', '{"labels": [["v", 4]]}'),
    ]
    zip_of(tmp_path / 'a.zip', entries)
    (source,) = sources = find_videos(tmp_path / 'a.zip')
    np.testing.assert_array_equal(
        source.read([0, 1]), [picture(4), picture(2)]
    )
    again = [n for n, r in sources.left_out if 'packed again' in r]
    assert again == ['dataset.json', 'v/0.png', 'v/0.png']
    assert len(find_images(tmp_path / 'a.zip')) == 2
    from stylegan_v_mm.datasets.labels import load_labels

    c, _ = load_labels(tmp_path / 'a.zip', ['v'], 'dataset.json')
    assert c.tolist() == [[0, 0, 0, 0, 1]]


def test_backslashes_part_folders(tmp_path):
    entries = [
        ('top\\v\\', b''),
        ('top\\v\\0.png', encode(1)),
        ('top\\v\\1.png', encode(2)),
        ('top\\w\\0.png', encode(3)),
        ('top\\dataset.json', '{"labels": [["v", 0], ["w", 1]]}'),
    ]
    zip_of(tmp_path / 'a.zip', entries)
    sources = find_videos(tmp_path / 'a.zip')
    assert summary(sources) == {'v': 2, 'w': 1}
    np.testing.assert_array_equal(sources[0].read([1]), [picture(2)])
    from stylegan_v_mm.datasets.labels import load_labels

    c, _ = load_labels(tmp_path / 'a.zip', ['v', 'w'], 'dataset.json')
    assert c.tolist() == [[1, 0], [0, 1]]
    # Where there are slashes, a backslash is a letter.
    zip_of(tmp_path / 'b.zip', [('v/a\\0.png', encode(1))])
    assert summary(find_videos(tmp_path / 'b.zip')) == {'v': 1}


@pytest.mark.parametrize(
    ('raw', 'name'),
    [
        ('Größe'.encode(), 'Größe'),  # as Macs and Linux pack, no flag
        ('Größe'.encode('cp437'), 'Größe'),  # as DOS did
        (b'\xff\xfe', '\u00a0\u25a0'),
    ],
)
def test_names_in_zips_that_are_not_said_to_be_utf8(tmp_path, raw, name):
    placeholder = b'v' * len(raw)
    zip_of(tmp_path / 'a.zip', [
        (f'{placeholder.decode()}/0.png', encode(1)), ('w/0.png', encode(2)),
    ])  # fmt: skip
    content = (tmp_path / 'a.zip').read_bytes()
    (tmp_path / 'a.zip').write_bytes(
        content.replace(placeholder + b'/', raw + b'/')
    )
    sources = find_videos(tmp_path / 'a.zip')
    assert summary(sources) == {name: 1, 'w': 1}
    by_name = {source.name: source for source in sources}
    np.testing.assert_array_equal(by_name[name].read([0]), [picture(1)])


def test_other_things_in_zips_are_named(tmp_path):
    link = zipfile.ZipInfo('v/5.png')
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    frames = [Image.fromarray(picture(i)) for i in range(3)]
    webp = io.BytesIO()
    frames[0].save(webp, 'WEBP', save_all=True, append_images=frames[1:])
    zip_of(tmp_path / 'a.zip', [
        ('v/0.png', encode(1)), ('0.png', encode(2)), ('v/a.mp4', video()),
        ('v/m.webp', webp.getvalue()), ('../v/1.png', encode()),
        ('v/._0.png', b'x'), ('__MACOSX/v/0.png', b'x'), (link, '/etc/passwd'),
        ('notes', b'words'), ('v/b.f4v_', video()),
    ])  # fmt: skip
    sources = find_videos(tmp_path / 'a.zip')
    assert summary(sources) == {'v': 1}
    in_zip = 'a video in a zip: unpack it'
    assert left_out(sources) == {
        '0.png': 'images in no folder of frames',
        'v/a.mp4': in_zip,
        'v/b.f4v_': in_zip,
        'v/m.webp': 'an animated image in a zip: unpack it',
        '../v/1.png': 'a name that points outside the zip',
        'v/._0.png': 'hidden',
        '__MACOSX/v/0.png': 'a system file',
        'v/5.png': 'a link',
        'notes': 'text',
    }


# Those that people met


def needs_faults(function):
    return pytest.mark.skipif(
        not FAULTS.is_dir(), reason='STYLEGAN_V_BAD_INPUTS names no folder'
    )(function)


@needs_faults
@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('other_suffixes',
         {f'{n}': 40 for n in
          ['a.mp4', 'b.3g2', 'd.264', 'f.m2v', 'g.ogg', 'j.f4v']}),
        ('frames_jfif', {'v': 20}),
        ('animated_webp', {f'classA/clip{i}.webp': 17 for i in range(3)}),
        ('nas_thumbnails', {'clip_1': 20}),
        ('dup.zip', {'clip_1': 20}),
        ('frames_named_by_seconds', {'v': 20}),
    ],
)  # fmt: skip
def test_given_data_sets(name, expected):
    assert summary(find_videos(FAULTS / name)) == expected


@needs_faults
def test_given_frames_named_by_seconds():
    (source,) = find_videos(FAULTS / 'frames_named_by_seconds')
    times = [float(Path(file).stem) for file in source.files]
    assert times == pytest.approx([0.04 * i for i in range(20)])


@needs_faults
def test_given_frames_beside_resource_forks():
    source = open_video(FAULTS / 'ds_with_dot_underscore')
    assert list(source.files) == [f'frame_{i}.png' for i in range(1, 5)]
    assert len(source.read(range(4))) == 4
    assert len(find_images(FAULTS / 'ds_with_dot_underscore')) == 4
    with pytest.raises(InputError, match=re.escape('._frame_1.png')):
        find_videos(FAULTS / 'ds_with_dot_underscore')
