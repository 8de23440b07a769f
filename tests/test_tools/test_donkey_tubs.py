"""The tool that cuts the recordings of cars."""

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from made_tubs import (
    clips_in,
    decode,
    entries,
    file_of,
    spans,
    write_list,
    write_tub,
)
from PIL import Image
from real_process import ROOT

TOOLS = ROOT / 'tools/dataset_converters'
TUB = Path(os.environ.get('STYLEGAN_V_TUB', '/nowhere'))


@pytest.fixture
def convert(run_script, monkeypatch):
    """Run the converter without the start of a process."""
    monkeypatch.syspath_prepend(TOOLS)

    def convert(*args, status=0):
        result = run_script(TOOLS / 'donkey_tubs.py', *args)
        assert result.returncode == status, result.stderr
        return result.stderr if status else result.stdout

    return convert


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


def test_options_decide_what_is_cut(tmp_path, convert):
    records = entries(range(60))
    for record in records[40:]:
        record['_timestamp_ms'] += 200
    write_tub(tmp_path / 'tub', records)
    text = convert(tmp_path / 'tub', tmp_path / 'a')
    assert ': 1 made, 0 there already, 1 skipped' in text
    line = 'skipped tub, records 40 to 59: only 20 frames without a cut\n'
    assert text.endswith(line)
    convert(tmp_path / 'tub', tmp_path / 'b', '--min-frames', 20)
    assert clips_in(tmp_path / 'b') == spans((0, 39), (40, 59))
    convert(tmp_path / 'tub', tmp_path / 'c', '--max-gap', 260)
    assert clips_in(tmp_path / 'c') == spans((0, 59))
    write_list(tmp_path / 'list.csv', [('x.mp4', 'images', 3, 9)])
    args = '--list', tmp_path / 'list.csv'
    convert(tmp_path / 'tub', tmp_path / 'd', *args)
    assert clips_in(tmp_path / 'd') == ['x.mp4']
    error = convert(tmp_path / 'tub', tmp_path / 'out.zip', status=2)
    assert error.startswith('error: ')
    assert 'must be a folder' in error
    assert error.count('\n') == 1


@pytest.mark.skipif(
    not TUB.is_dir(), reason='STYLEGAN_V_TUB names no folder of a real tub'
)
def test_a_piece_of_a_real_tub(tmp_path, convert):
    """140 records, ten of them deleted; the last one has no picture."""
    text = convert(TUB, tmp_path / 'out')
    assert ': 2 made, 0 there already, 2 skipped' in text
    assert clips_in(tmp_path / 'out') == spans((560, 639), (650, 698))
    report = json.loads((tmp_path / 'out/report.json').read_text())
    assert report['skipped'] == {
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
