"""Tubs as cars write them, and the clips that are made of them."""

import json

import av
import numpy as np
from PIL import Image

COLUMNS = ['clip', 'source_folder', 'first_image', 'last_image']
SCENE = np.random.default_rng(0).integers(0, 256, (4, 1024, 3), np.uint8)


def picture(i):
    """What the car sees at moment i, [32, 48, 3], uint8: it turns."""
    scene = np.roll(SCENE, -3 * i, axis=1)[:, :16]
    return scene.repeat(8, 0).repeat(3, 1)


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


def write_list(path, rows, columns=COLUMNS):
    lines = [columns, *rows]
    path.write_text('\n'.join(','.join(map(str, line)) for line in lines))


def decode(path):
    with av.open(str(path)) as file:
        return np.stack(
            [frame.to_ndarray(format='rgb24') for frame in file.decode()]
        )


def clips_in(out):
    return sorted(p.relative_to(out).as_posix() for p in out.rglob('*.mp4'))


def spans(*pairs):
    return [f'{first:05d}_{last:05d}.mp4' for first, last in pairs]
