"""Clips of the recordings of cars, made here, and of real ones."""

import csv
import json
import os
import shutil
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from made_tubs import (
    COLUMNS,
    clips_in,
    decode,
    entries,
    file_of,
    picture,
    save,
    spans,
    write_list,
    write_records,
    write_tub,
)
from PIL import Image
from real_process import ROOT

from stylegan_v_mm.datasets.conversion.donkey_tubs import listed_jobs, tub_jobs
from stylegan_v_mm.datasets.conversion.frames import write_mp4
from stylegan_v_mm.datasets.conversion.jobs import do_jobs
from stylegan_v_mm.errors import InputError

LIST = ROOT / 'configs/_lists/rc_track.csv'
RC_TRACK = Path(os.environ.get('STYLEGAN_V_RC_TRACK', '/nowhere'))
needs_rc_track = pytest.mark.skipif(
    not RC_TRACK.is_dir(), reason='STYLEGAN_V_RC_TRACK names no folder'
)


def moments_of(path, moments):
    """Which picture each frame of a clip is the most like."""
    known = np.stack([picture(i) for i in moments]).astype(int)
    nearest = [
        np.abs(known - f).mean((1, 2, 3)).argmin() for f in decode(path)
    ]
    return [moments[i] for i in nearest]


def convert(src, out, list=None, min_frames=32, max_gap=130, fps=20):
    """Make the clips that are not there yet; return the report."""
    write = partial(write_mp4, fps=fps)

    def plan():
        if list is not None:
            return listed_jobs(src, list, write)
        return tub_jobs(
            src=src,
            write=write,
            fps=fps,
            max_gap=max_gap,
            min_frames=min_frames,
        )

    settings = {'tool': 'donkey_tubs'}
    return do_jobs(
        src=src, out=out, plan=plan, settings=settings, num_workers=2
    )


def counts(report):
    return len(report.made), len(report.there), len(report.skipped)


# Cutting


def test_all_that_cuts(tmp_path):
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

    report = convert(tub, out, min_frames=10)
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
    assert report.skipped == {
        f'tub, {which}': reason for which, reason in expected.items()
    }
    assert counts(report) == (8, 0, 8)
    # Again: there is nothing to do, or just what was lost.
    assert counts(convert(tub, out, min_frames=10)) == (0, 8, 8)
    (out / '00060_00079.mp4').unlink()
    assert counts(convert(tub, out, min_frames=10)) == (1, 7, 8)


def test_a_clock_that_is_set_back_cuts(tmp_path):
    records = entries(range(80))
    for record in records[40:]:
        record['_timestamp_ms'] -= 3_600_000
    write_tub(tmp_path / 'tub', records, newline='\r\n')
    convert(tmp_path / 'tub', tmp_path / 'out')
    assert clips_in(tmp_path / 'out') == spans((0, 39), (40, 79))


def test_longest_gap_and_shortest_clip_can_be_chosen(tmp_path):
    records = entries(range(50))
    for record in records[31:]:
        record['_timestamp_ms'] += 400
    write_tub(tmp_path / 'tub', records)
    with pytest.raises(InputError) as error:
        convert(tmp_path / 'tub', tmp_path / 'a')
    assert 'only 31 frames without a cut' in str(error.value)
    assert 'only 19 frames without a cut' in str(error.value)
    convert(tmp_path / 'tub', tmp_path / 'b', min_frames=31)
    assert clips_in(tmp_path / 'b') == spans((0, 30))
    convert(tmp_path / 'tub', tmp_path / 'c', max_gap=450)
    assert clips_in(tmp_path / 'c') == spans((0, 49))


# Standing still


def noisy(i, seed):
    """Moment i with a camera's noise: 1.2 grey levels from another one."""
    noise = np.random.default_rng(seed).normal(0, 1, (32, 48, 3))
    return np.clip(picture(i) + noise.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(('length', 'stands'), [(10, False), (11, True)])
def test_a_picture_that_hardly_changes_is_of_a_standing_car(
    tmp_path, length, stands
):
    """Against a wall, at full throttle: 10 pictures are 450 ms, 11 are 500."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    write_tub(tub, entries(range(80)))
    for i in range(40, 40 + length):
        image = Image.fromarray(noisy(40, i))
        image.save(tub / 'images' / file_of(i), quality=100, subsampling=0)
    report = convert(tub, out, min_frames=20)
    last = 40 + length
    cut = spans((0, 39), (last, 79))
    assert clips_in(out) == (cut if stands else spans((0, 79)))
    still = {f'tub, records 40 to {last - 1}': 'the car stands still'}
    assert report.skipped == (still if stands else {})


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
def test_records_tell_that_the_car_stands(tmp_path, driving, standing, stands):
    """While something before it moves."""
    tub, out = tmp_path / 'tub', tmp_path / 'out'
    records = entries(range(80), **driving)
    # Ten are over after 450 ms: as long as a car rolls on.
    for i in (*range(10, 20), *range(40, 51)):
        records[i] |= standing
    write_tub(tub, records)
    convert(tub, out, min_frames=20)
    expected = spans((0, 39), (51, 79)) if stands else spans((0, 79))
    assert clips_in(out) == expected


# Kinds of tubs


def test_tubs_at_any_depth(tmp_path):
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
    report = convert(src, out)
    assert clips_in(out) == [
        'day1/data/00007_00039.mp4',
        'day2/a/data/00000_00031.mp4',
        'day3/00000_00034.mp4',
        'linked/00000_00049.mp4',
    ]
    assert counts(report) == (4, 0, 3)
    skipped = report.skipped
    assert f'{src}/lost/manifest.json, which lists' in skipped['lost']
    assert f'{src}/torn/manifest.json, which lists' in skipped['torn']
    assert f'{src}/part/catalog_1.catalog, named in' in skipped['part']


def test_tubs_of_old_versions(tmp_path):
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
    report = convert(tub, out, min_frames=31)
    good = [(1, 32), (34, 65), (68, 99), (100, 130)]
    assert clips_in(out) == spans(*good)
    for first, last in good:
        path = out / f'{first:05d}_{last:05d}.mp4'
        inds = list(range(first, last + 1))
        assert moments_of(path, list(range(1, 131))) == inds
    skipped = {'tub, records 66 to 67': 'marked as deleted'}
    assert report.skipped == skipped


def test_what_is_no_tub(tmp_path):
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src/manifest.json').write_text('{}')
    out = tmp_path / 'out'
    for src, words in [
        (tmp_path / 'nowhere', 'no such folder'),
        (tmp_path / 'src/manifest.json', 'no such folder'),
        (tmp_path / 'src', 'no tubs found'),
    ]:
        with pytest.raises(InputError, match=f'^{src}: {words}'):
            convert(src, out)
    write_tub(tmp_path / 'src/a', entries(range(40)), deleted=range(40))
    message = r'a, records 0 to 39 \(marked as deleted\)'
    with pytest.raises(InputError, match=message):
        convert(tmp_path / 'src', out)
    assert not out.exists()


# Lists


@pytest.fixture
def clone(tmp_path):
    """Two tubs of a source, of which a list is made, one marked as deleted."""
    src = tmp_path / 'clone'
    write_tub(src / 'a/data', entries(range(30)), deleted=range(30))
    write_tub(src / 'b/data', entries(range(100, 130)))
    (src / 'b/data/images' / file_of(115)).unlink()
    return src


def test_a_list_decides_alone(tmp_path, clone):
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
    report = convert(clone, out, tmp_path / 'list.csv')
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
    assert report.skipped == {
        'train/four.mp4': missing,
        'train/five.mp4': f'no folder {clone}/c/data/images',
    }
    # Without splits, there is one folder.
    write_list(tmp_path / 'list.csv', [row[:4] for row in rows[:2]])
    convert(clone, tmp_path / 'all', tmp_path / 'list.csv')
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
def test_lists_that_make_no_sense(tmp_path, clone, row, words):
    file, out = tmp_path / 'list.csv', tmp_path / 'out'
    good = ('good.mp4', 'a/data/images', 0, 9, 'train')
    write_list(file, [good, row], [*COLUMNS, 'split'])
    with pytest.raises(InputError) as error:
        convert(clone, out, file)
    assert str(error.value).startswith(f'{file}, line 3: ')
    assert words in str(error.value)
    assert not out.exists()


def test_lists_that_cannot_be_read(tmp_path, clone):
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
        with pytest.raises(InputError) as error:
            convert(clone, out, file)
        assert str(error.value).startswith(f'{file}: ')
        assert words in str(error.value)
    two = [('x.mp4', 'a/data/images', i, i + 1) for i in (0, 5)]
    write_list(file, two)
    with pytest.raises(InputError, match=r'would both become x\.mp4'):
        convert(clone, out, file)
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
def test_clips_of_rc_track_are_found_again(tmp_path):
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
    report = convert(tmp_path / 'clone', listed, LIST)
    assert counts(report) == (2, 0, 182)
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
