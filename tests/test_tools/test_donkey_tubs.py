"""Recordings of cars, made here as cars make them, and real ones."""

import csv
import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from real_process import ROOT

TOOLS = ROOT / 'tools/dataset_converters'
LIST = ROOT / 'configs/_lists/rc_track.csv'
TUB = Path(os.environ.get('STYLEGAN_V_TUB', '/nowhere'))
RC_TRACK = Path(os.environ.get('STYLEGAN_V_RC_TRACK', '/nowhere'))
needs_rc_track = pytest.mark.skipif(
    not RC_TRACK.is_dir(), reason='STYLEGAN_V_RC_TRACK names no folder'
)
COLUMNS = ['clip', 'source_folder', 'first_image', 'last_image']
SCENE = np.random.default_rng(0).integers(0, 256, (4, 1024, 3), np.uint8)


def picture(i):
    """What the car sees at moment i, [32, 48, 3], uint8: it turns."""
    scene = np.roll(SCENE, -3 * i, axis=1)[:, :16]
    return scene.repeat(8, 0).repeat(3, 1)


@pytest.fixture
def convert(run_script, monkeypatch):
    """Run the converter without the start of a process."""
    monkeypatch.syspath_prepend(TOOLS)

    def convert(*args, status=0):
        result = run_script(TOOLS / 'donkey_tubs.py', *args)
        assert result.returncode == status, result.stderr
        return result.stderr if status else result.stdout

    return convert


def file_of(number):
    return f'{number}_cam_image_array_.jpg'


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95, subsampling=0, **options)


def entries(numbers, **more):
    """Records as a car writes them, 50 ms apart, at full throttle."""
    return [
        {
            '_index': i,
            '_session_id': '26-01-01_0',
            '_timestamp_ms': 1_700_000_000_000 + 50 * i,
            'cam/image_array': file_of(i),
            'user/angle': 0.1,
            'user/mode': 'user',
            'user/throttle': 0.5,
        }
        | more
        for i in numbers
    ]


def write_records(folder, records, deleted=(), newline='\n', per_catalog=25):
    """Write catalogs and a manifest; a record may be a text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for start in range(0, len(records), per_catalog):
        names.append(f'catalog_{len(names)}.catalog')
        lines = [
            record if isinstance(record, str) else json.dumps(record)
            for record in records[start : start + per_catalog]
        ]
        text = ''.join(line + newline for line in lines)
        (folder / names[-1]).write_bytes(text.encode())
    manifest = [
        ['cam/image_array', 'user/angle', 'user/throttle', 'user/mode'],
        ['image_array', 'float', 'float', 'str'],
        {},
        {'created_at': 1.5, 'sessions': {'last_id': 0}},
        {
            'paths': names,
            'current_index': len(records),
            'max_len': per_catalog,
            'deleted_indexes': list(deleted),
        },
    ]
    text = newline.join(map(json.dumps, manifest)) + newline
    (folder / 'manifest.json').write_bytes(text.encode())


def write_tub(folder, records, moments=None, **options):
    """Write a tub; ``moments`` are of other pictures than ``picture(i)``."""
    for record in records:
        i = record['_index']
        moment = (moments or {}).get(i, i)
        save(picture(moment), folder / 'images' / file_of(i))
    write_records(folder, records, **options)


def decode(path):
    with av.open(str(path)) as file:
        return np.stack(
            [frame.to_ndarray(format='rgb24') for frame in file.decode()]
        )


def moments_of(path, moments):
    """Which picture each frame of a clip is the most like."""
    known = np.stack([picture(i) for i in moments]).astype(int)
    nearest = [
        np.abs(known - f).mean((1, 2, 3)).argmin() for f in decode(path)
    ]
    return [moments[i] for i in nearest]


def clips_in(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob('*.mp4'))


def report_of(out):
    return json.loads((out / 'report.json').read_text())


def spans(*pairs):
    return [f'{first:05d}_{last:05d}.mp4' for first, last in pairs]


def write_list(path, rows, columns=COLUMNS):
    lines = [columns, *rows]
    path.write_text('\n'.join(','.join(map(str, line)) for line in lines))


# Cutting


def test_all_that_cuts(tmp_path, convert):
    """Each reason once, between stretches of ten good records."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    records = entries(range(5, 120))
    for record in records[55:]:  # from 60 on
        record['_timestamp_ms'] += 81  # 131 ms after the one before
    records[65]['_timestamp_ms'] += 80  # 70, 130 ms after: not too long
    for record in records[66:]:
        record['_timestamp_ms'] += 80
    write_tub(tub, records, deleted=[15, 16], per_catalog=20)
    # 27 has the bytes of 26; 38 its pixels, in other bytes.
    images = tub / 'images'
    shutil.copy(images / file_of(26), images / file_of(27))
    pixels = (images / file_of(37)).read_bytes()
    assert pixels[:2] == b'\xff\xd8'
    comment = pixels[:2] + b'\xff\xfe\x00\x06text' + pixels[2:]
    (images / file_of(38)).write_bytes(comment)
    (images / file_of(49)).unlink()
    (images / file_of(80)).write_bytes(b'not a picture')
    save(picture(0)[:, :40], images / file_of(90))  # of another size
    # Half a record, as a car leaves it when it is switched off.
    lines = (tub / 'catalog_4.catalog').read_text().split('\n')
    assert '"_index": 101,' in lines[16]
    lines[16] = lines[16][:40]
    (tub / 'catalog_4.catalog').write_text('\n'.join(lines))

    text = convert(tub, out, '--min-frames', 10)
    good = [
        *[(5, 14), (17, 26), (28, 37), (39, 48), (50, 59), (60, 79)],
        *[(91, 100), (102, 119)],
    ]
    assert clips_in(out) == spans(*good)
    for first, last in good:
        inds = list(range(first, last + 1))
        path = out / f'{first:05d}_{last:05d}.mp4'
        assert moments_of(path, list(range(5, 120))) == inds
    expected = {
        'records 15 to 16': 'marked as deleted',
        'record 27': 'its picture repeats the one before',
        'record 38': 'its picture repeats the one before',
        'record 49': 'its picture is missing',
        'record 80': 'its picture is damaged',
        'records 81 to 89': 'only 9 frames without a cut',
        'record 90': 'only 1 frames without a cut',
        'record 101': 'its record is damaged',
    }
    assert report_of(out)['skipped'] == {
        f'tub, {which}': reason for which, reason in expected.items()
    }
    assert ': 8 made, 0 there already, 8 skipped' in text
    # Again: there is nothing to do, or just what was lost.
    assert 'nothing to do' in convert(tub, out, '--min-frames', 10)
    (out / '00060_00079.mp4').unlink()
    text = convert(tub, out, '--min-frames', 10)
    assert ': 1 made, 7 there already, 8 skipped' in text


def test_a_clock_that_is_set_back_cuts(tmp_path, convert):
    records = entries(range(80))
    for record in records[40:]:
        record['_timestamp_ms'] -= 3_600_000
    write_tub(tmp_path / 'tub', records, newline='\r\n')
    convert(tmp_path / 'tub', tmp_path / 'out')
    assert clips_in(tmp_path / 'out') == spans((0, 39), (40, 79))


def test_longest_gap_and_shortest_clip_can_be_chosen(tmp_path, convert):
    records = entries(range(50))
    for record in records[31:]:
        record['_timestamp_ms'] += 400
    write_tub(tmp_path / 'tub', records)
    error = convert(tmp_path / 'tub', tmp_path / 'a', status=2)
    assert 'only 31 frames without a cut' in error
    assert 'only 19 frames without a cut' in error
    convert(tmp_path / 'tub', tmp_path / 'b', '--min-frames', 31)
    assert clips_in(tmp_path / 'b') == spans((0, 30))
    convert(tmp_path / 'tub', tmp_path / 'c', '--max-gap', 450)
    assert clips_in(tmp_path / 'c') == spans((0, 49))


# Standing still


def noisy(i, seed):
    """Moment i with a camera's noise: 1.2 grey levels from another one."""
    noise = np.random.default_rng(seed).normal(0, 1, (32, 48, 3))
    return np.clip(picture(i) + noise.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(('length', 'stands'), [(10, False), (11, True)])
def test_a_picture_that_hardly_changes_is_of_a_standing_car(
    tmp_path, convert, length, stands
):
    """Against a wall, at full throttle: 10 pictures are 450 ms, 11 are 500."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    write_tub(tub, entries(range(80)))
    for i in range(40, 40 + length):
        image = Image.fromarray(noisy(40, i))
        image.save(tub / 'images' / file_of(i), quality=100, subsampling=0)
    convert(tub, out, '--min-frames', 20)
    last = 40 + length
    cut = spans((0, 39), (last, 79))
    assert clips_in(out) == (cut if stands else spans((0, 79)))
    still = {f'tub, records 40 to {last - 1}': 'the car stands still'}
    assert report_of(out)['skipped'] == (still if stands else {})


@pytest.mark.parametrize(
    ('driving', 'standing', 'stands'),
    [
        ({'user/throttle': 0.5}, {'user/throttle': 0.0}, True),
        ({'user/throttle': 0.5}, {'user/throttle': -0.2}, False),
        # Speed has the last word.
        ({'enc/speed': 1.5}, {'enc/speed': 0.0}, True),
        ({'enc/speed': 1.5}, {'enc/speed': 1.2, 'user/throttle': 0}, False),
        # The throttle is that of whoever drives.
        (
            {'user/mode': 'local', 'pilot/throttle': 0.4},
            {'user/mode': 'local', 'pilot/throttle': 0.0},
            True,
        ),
        (
            {'user/mode': 'local', 'pilot/throttle': 0.4},
            {
                'user/mode': 'local',
                'pilot/throttle': 0.4,
                'user/throttle': 0.0,
            },
            False,
        ),
        # Where it is always 0, it was not recorded.
        ({'user/throttle': 0.0}, {'user/throttle': 0.0}, False),
        ({'user/throttle': None}, {'user/throttle': None}, False),
    ],
)
def test_records_tell_that_the_car_stands(
    tmp_path, convert, driving, standing, stands
):
    """While something before it moves."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    records = entries(range(80), **driving)
    # Ten are over after 450 ms: as long as a car rolls on.
    for i in (*range(10, 20), *range(40, 51)):
        records[i] |= standing
    write_tub(tub, records)
    convert(tub, out, '--min-frames', 20)
    expected = spans((0, 39), (51, 79)) if stands else spans((0, 79))
    assert clips_in(out) == expected


# Kinds of tubs


def test_tubs_at_any_depth(tmp_path, convert):
    src, out = tmp_path / 'src', tmp_path / 'out'
    write_tub(src / 'day1/data', entries(range(7, 40)))
    write_tub(src / 'day2/a/data', entries(range(32)))
    # Hidden copies are passed over, a link is followed, but not in a circle.
    write_tub(src / 'day1/.trash', entries(range(40)))
    (src / 'day1/data/._catalog_0.catalog').write_bytes(b'\0')
    write_tub(tmp_path / 'disk', entries(range(50)))
    (src / 'linked').symlink_to(tmp_path / 'disk')
    (src / 'day2/circle').symlink_to(src)
    # Records without a time are 1/fps apart.
    timeless = entries(range(35))
    for record in timeless:
        del record['_timestamp_ms']
    write_tub(src / 'day3', timeless)
    # Of no use: a lost manifest, one cut off, a lost catalog.
    for name in ('lost', 'torn', 'part'):
        write_tub(src / name, entries(range(40)))
    (src / 'lost/manifest.json').unlink()
    torn = (src / 'torn/manifest.json').read_text()
    (src / 'torn/manifest.json').write_text(torn[:-30])
    (src / 'part/catalog_1.catalog').unlink()
    text = convert(src, out)
    assert clips_in(out) == [
        'day1/data/00007_00039.mp4',
        'day2/a/data/00000_00031.mp4',
        'day3/00000_00034.mp4',
        'linked/00000_00049.mp4',
    ]
    assert ': 4 made, 0 there already, 3 skipped' in text
    skipped = report_of(out)['skipped']
    assert f'{src}/lost/manifest.json, which lists' in skipped['lost']
    assert f'{src}/torn/manifest.json, which lists' in skipped['torn']
    assert f'{src}/part/catalog_1.catalog, named in' in skipped['part']


def test_tubs_of_old_versions(tmp_path, convert):
    """A file for each record, beside the pictures; deleted ones are gone."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    for i in range(1, 131):
        name = f'{i}_cam-image_array_.jpg'
        record = {
            'cam/image_array': name,
            'user/throttle': 0.5,
            'user/angle': 0.0,
            'user/mode': 'user',
            'milliseconds': 50 * i + (200 if i > 99 else 0),
        }
        save(picture(i), tub / name)
        (tub / f'record_{i}.json').write_text(json.dumps(record))
    (tub / 'record_33.json').unlink()
    (tub / 'meta.json').write_text('{"inputs": [], "types": []}')
    (tub / 'exclude.json').write_text('[66, 67]')
    convert(tub, out, '--min-frames', 31)
    good = [(1, 32), (34, 65), (68, 99), (100, 130)]
    assert clips_in(out) == spans(*good)
    for first, last in good:
        path = out / f'{first:05d}_{last:05d}.mp4'
        inds = list(range(first, last + 1))
        assert moments_of(path, list(range(1, 131))) == inds
    skipped = {'tub, records 66 to 67': 'marked as deleted'}
    assert report_of(out)['skipped'] == skipped


def test_what_is_no_tub(tmp_path, convert):
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src/manifest.json').write_text('{}')
    out = tmp_path / 'out'
    for src, words in [
        (tmp_path / 'nowhere', 'no such folder'),
        (tmp_path / 'src/manifest.json', 'no such folder'),
        (tmp_path / 'src', 'no tubs found'),
    ]:
        error = convert(src, out, status=2)
        assert error.startswith(f'error: {src}: {words}')
    write_tub(tmp_path / 'src/a', entries(range(40)), deleted=range(40))
    error = convert(tmp_path / 'src', out, status=2)
    assert 'a, records 0 to 39 (marked as deleted)' in error
    assert 'must be a folder' in convert(
        tmp_path / 'src', tmp_path / 'out.zip', status=2
    )
    assert not out.exists()


def test_encoding(tmp_path, convert):
    """By default as the clips of rc_track; each option changes it."""
    write_tub(tmp_path / 'tub', entries(range(40)))
    clips = []
    for out, options in [
        ('a', []),
        ('b', ['--fps', 10, '--gop', 5, '--crf', 33]),
    ]:
        convert(tmp_path / 'tub', tmp_path / out, *options)
        clips.append(tmp_path / out / '00000_00039.mp4')
    for path, fps, gop, crf in [(clips[0], 20, 12, 21), (clips[1], 10, 5, 33)]:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            assert stream.codec_context.name == 'h264'
            assert stream.codec_context.format.name == 'yuv420p'
            assert (stream.width, stream.height) == (48, 32)
            assert stream.average_rate == fps
            keys = [p.is_keyframe for p in file.demux(stream) if p.size]
        assert np.diff(np.flatnonzero(keys)).max() <= gop
        assert keys.count(True) <= -(-40 // gop) + 4  # and scene cuts
        # x264 notes its settings in the stream.
        assert f'crf={crf}.0'.encode() in path.read_bytes()


# Lists


@pytest.fixture
def clone(tmp_path):
    """Two tubs of a source, of which a list is made, one marked as deleted."""
    src = tmp_path / 'clone'
    write_tub(src / 'a/data', entries(range(30)), deleted=range(30))
    write_tub(src / 'b/data', entries(range(100, 130)))
    (src / 'b/data/images' / file_of(115)).unlink()
    return src


def test_a_list_decides_alone(tmp_path, convert, clone):
    """Not deletion, length or repeats; both splits have a folder."""
    rows = [
        ('one.mp4', 'a/data/images', 3, 9, 'train'),
        ('two.mp4', 'a/data/images', 10, 20, 'held_out'),
        ('three.mp4', 'b/data/images', 100, 114, 'train'),
        ('four.mp4', 'b/data/images', 110, 118, 'train'),
        ('five.mp4', 'c/data/images', 1, 2, 'train'),
    ]
    images = clone / 'a/data/images'
    shutil.copy(images / file_of(5), images / file_of(6))
    write_list(tmp_path / 'list.csv', rows, [*COLUMNS, 'split'])
    out = tmp_path / 'out'
    convert(clone, out, '--list', tmp_path / 'list.csv')
    assert clips_in(out) == [
        'held_out/two.mp4', 'train/one.mp4', 'train/three.mp4'
    ]  # fmt: skip
    known = list(range(30))
    found = moments_of(out / 'train/one.mp4', known)
    assert found == [3, 4, 5, 5, 7, 8, 9]
    found = moments_of(out / 'held_out/two.mp4', known)
    assert found == list(range(10, 21))
    assert len(decode(out / 'train/three.mp4')) == 15
    missing = f'1 of 9 pictures are missing, such as {file_of(115)}'
    assert report_of(out)['skipped'] == {
        'train/four.mp4': missing,
        'train/five.mp4': f'no folder {clone}/c/data/images',
    }
    # Without splits, there is one folder.
    write_list(tmp_path / 'list.csv', [row[:4] for row in rows[:2]])
    convert(clone, tmp_path / 'all', '--list', tmp_path / 'list.csv')
    assert clips_in(tmp_path / 'all') == ['one.mp4', 'two.mp4']


@pytest.mark.parametrize(
    ('row', 'words'),
    [
        (('x.mp4', 'a/data/images', 3), 'not as many values'),
        (('x.mp4', 'a/data/images', 3, 9, 'train', 1), 'not as many values'),
        (('x.avi', 'a/data/images', 3, 9, ''), "clip='x.avi' must be"),
        (('../x.mp4', 'a/data/images', 3, 9, ''), "clip='../x.mp4' must be"),
        (('.mp4', 'a/data/images', 3, 9, ''), "clip='.mp4' must be"),
        (('x.mp4', '../b', 3, 9, ''), "source_folder='../b' must be"),
        (('x.mp4', '/b', 3, 9, ''), "source_folder='/b' must be"),
        (('x.mp4', 'a/data/images', 3, 9, '..'), "split='..' must be"),
        (('x.mp4', 'a/data/images', 3, 9, 'a/b'), "split='a/b' must be"),
        (('x.mp4', 'a/data/images', 'x', 9, ''), 'must be numbers'),
        (('x.mp4', 'a/data/images', -3, 9, ''), 'must be numbers'),
        (('x.mp4', 'a/data/images', 9, 3, ''), 'first_image 9 is after'),
    ],
)
def test_lists_that_make_no_sense(tmp_path, convert, clone, row, words):
    file, out = tmp_path / 'list.csv', tmp_path / 'out'
    good = ('good.mp4', 'a/data/images', 0, 9, 'train')
    write_list(file, [good, row], [*COLUMNS, 'split'])
    error = convert(clone, out, '--list', file, status=2)
    assert error.startswith(f'error: {file}, line 3: ')
    assert words in error
    assert error.count('\n') == 1
    assert not out.exists()


def test_lists_that_cannot_be_read(tmp_path, convert, clone):
    file, out = tmp_path / 'list.csv', tmp_path / 'out'
    for content, words in [
        (None, 'cannot be read'),
        (b'\xff\xfe\x00', 'cannot be read'),
        (b'', 'expected a csv file'),
        (b'clip,first_image,last_image\n', 'it lacks source_folder'),
        (','.join(COLUMNS).encode(), 'expected a csv file'),
    ]:
        if content is not None:
            file.write_bytes(content)
        error = convert(clone, out, '--list', file, status=2)
        assert error.startswith(f'error: {file}: ')
        assert words in error
        assert error.count('\n') == 1
    two = [('x.mp4', 'a/data/images', i, i + 1) for i in (0, 5)]
    write_list(file, two)
    error = convert(clone, out, '--list', file, status=2)
    assert 'would both become x.mp4' in error
    assert not out.exists()


# Real recordings


def test_the_list_of_rc_track():
    """No picture is in two clips, so none of those held out is trained on."""
    with LIST.open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 184
    held_out = {row['clip'] for row in rows if row['split'] == 'held_out'}
    assert held_out == {
        'day1_s1_13175_13276.mp4',
        'day1_s1_20143_20291.mp4',
        'day2_s1_04189_04363.mp4',
        'day2_s1_11541_11748.mp4',
        'day2_s1_17774_17893.mp4',
        'day2_s2_05914_06230.mp4',
        'day2_s3_04864_05031.mp4',
        'day2_s3_12335_12683.mp4',
    }
    assert {row['split'] for row in rows} == {'train', 'held_out'}
    seen = set()
    for row in rows:
        first, last = int(row['first_image']), int(row['last_image'])
        assert row['clip'].endswith(f'_{first:05d}_{last:05d}.mp4')
        assert int(row['frames']) == last - first + 1
        pictures = {(row['source_folder'], i) for i in range(first, last + 1)}
        assert seen.isdisjoint(pictures)
        seen |= pictures
    assert len(seen) == 36121
    licence = LIST.with_name('rc_track.LICENSE').read_text()
    assert licence.startswith('MIT License\n\nCopyright (c) 2017 Will Roscoe')


@needs_rc_track
def test_the_list_names_the_clips_that_there_are():
    with LIST.open(newline='') as file:
        rows = {
            row['clip']: int(row['frames']) for row in csv.DictReader(file)
        }
    assert rows.keys() == {path.name for path in RC_TRACK.glob('*.mp4')}
    for name, num_frames in rows.items():
        with av.open(str(RC_TRACK / name)) as file:
            assert file.streams.video[0].frames == num_frames


@needs_rc_track
def test_clips_of_rc_track_are_found_again(tmp_path, convert):
    """Their frames as a tub, with what lay between them in the source."""
    names = ['day2_s1_14050_14260.mp4', 'day2_s1_14262_14367.mp4']
    with LIST.open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['clip'] in names]
    (folder,) = {row['source_folder'] for row in rows}
    tub = (tmp_path / 'clone' / folder).parent
    records, real = [], {}
    for row in rows:
        real[row['clip']] = decode(RC_TRACK / row['clip'])
        first = int(row['first_image'])
        for i, frame in enumerate(real[row['clip']]):
            save(frame, tub / 'images' / file_of(first + i))
            (record,) = entries([first + i])
            passed = i * float(row['mean_dt_ms'])
            record['_timestamp_ms'] = round(
                int(row['first_timestamp_ms']) + passed
            )
            records.append(record)
    # 14261 repeats the picture before it.
    images = tub / 'images'
    shutil.copy(images / file_of(14260), images / file_of(14261))
    (record,) = entries([14261])
    record['_timestamp_ms'] = records[210]['_timestamp_ms'] + 50
    records.insert(211, record)
    write_records(tub, records, per_catalog=1000)

    found = tmp_path / 'found'
    convert(tub, found)
    assert clips_in(found) == spans((14050, 14260), (14262, 14367))
    listed = tmp_path / 'listed'
    text = convert(tmp_path / 'clone', listed, '--list', LIST)
    assert ': 2 made, 0 there already, 182 skipped' in text
    assert clips_in(listed) == [f'train/{name}' for name in names]
    for name in names:
        frames = decode(listed / 'train' / name)
        np.testing.assert_array_equal(
            frames, decode(found / name.removeprefix('day2_s1_'))
        )
        error = np.square(frames.astype(float) - real[name]).mean((1, 2, 3))
        assert frames.shape == real[name].shape
        # In dB; the next frame is nowhere nearer than 18.
        assert (10 * np.log10(255**2 / error)).min() > 28


@pytest.mark.skipif(
    not TUB.is_dir(), reason='STYLEGAN_V_TUB names no folder of a real tub'
)
def test_a_piece_of_a_real_tub(tmp_path, convert):
    """140 records, ten of them deleted; the last one has no picture."""
    text = convert(TUB, tmp_path / 'out')
    assert ': 2 made, 0 there already, 2 skipped' in text
    assert clips_in(tmp_path / 'out') == spans((560, 639), (650, 698))
    assert report_of(tmp_path / 'out')['skipped'] == {
        f'{TUB.name}, records 640 to 649': 'marked as deleted',
        f'{TUB.name}, record 699': 'its picture is missing',
    }
    for first, last in [(560, 639), (650, 698)]:
        frames = decode(tmp_path / 'out' / f'{first:05d}_{last:05d}.mp4')
        assert frames.shape == (last - first + 1, 120, 160, 3)
        for i, frame in enumerate(frames):
            jpeg = Image.open(TUB / 'images' / file_of(first + i))
            error = np.square(frame.astype(float) - np.array(jpeg)).mean()
            assert 10 * np.log10(255**2 / error) > 28
