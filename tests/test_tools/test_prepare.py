"""From raw footage to clips, with real processes and files."""

import json
import re
import signal
from contextlib import suppress
from functools import partial

import av
import numpy as np
import pytest
from planted import PLANTS, black_border, scenery, write
from real_process import ROOT, run_tool, start_tool

from stylegan_v_mm.datasets.sources.finding import find_videos

prepare = partial(run_tool, 'dataset_converters/prepare.py')


@pytest.fixture(scope='module')
def footage(tmp_path_factory):
    """Videos with flaws, in two folders."""
    folder = tmp_path_factory.mktemp('footage')
    a, b, c, d = (scenery(seed) for seed in range(4))
    write(folder / 'day/cut.mp4', black_border(PLANTS['cut'](a, b), None))
    write(folder / 'day/twice.mp4', PLANTS['repeated frames'](c, None))
    write(folder / 'night/still.mp4', np.repeat(b[:1], 60, axis=0))
    write(folder / 'day/plain.mp4', d)
    write(folder / 'night/copy.mp4', d[20:60])
    (folder / 'night/broken.mp4').write_bytes(b'x' * 999)
    return folder


def clips(folder):
    return {x.name: x for x in find_videos(str(folder))}


def test_footage_becomes_clips(footage, tmp_path):
    out = tmp_path / 'out'
    result = prepare(footage, out, '--resolution=64')
    assert result.returncode == 0, result.stderr
    made = clips(out)
    assert made.keys() == {
        'day/cut_000000.mp4',
        'day/cut_000048.mp4',
        'day/twice_000000.mp4',
        'day/plain_000000.mp4',
    }
    lens = {name: len(source) for name, source in made.items()}
    assert lens.pop('day/plain_000000.mp4') == 96
    assert set(lens.values()) == {48}
    # The border is gone, frames are square, and the speed is that of life.
    frame = made['day/cut_000000.mp4'].read([0])[0]
    assert frame.shape == (64, 64, 3)
    assert frame[0].mean() > 40
    assert made['day/twice_000000.mp4'].index.fps == pytest.approx(12.5)
    report = json.loads((out / 'report.json').read_text())
    skipped = report['skipped']
    assert skipped.keys() == {
        f'night/{name}.mp4' for name in ('still', 'broken', 'copy')
    }
    assert 'standstill' in skipped['night/still.mp4']
    assert 'day/plain.mp4 has them' in skipped['night/copy.mp4']
    page = (tmp_path / 'out.html').read_text()
    for name in ('day/cut.mp4', 'night/still.mp4', 'night/broken.mp4'):
        assert f'<h3>{name}</h3>' in page
    assert page.count('class="clip kept"') == 4
    assert page.count('data:image/jpeg;base64') > 20
    assert not re.search('(src|href)="(?!data:)', page)
    # Nothing is done twice.
    again = prepare(footage, out, '--resolution=64')
    assert again.returncode == 0, again.stderr
    assert 'nothing to do' in again.stdout


def test_a_dry_run_makes_no_clips(footage, tmp_path):
    out = tmp_path / 'out'
    result = prepare(footage, out, '--dry-run')
    assert result.returncode == 0, result.stderr
    assert re.search('clips +4, 240 frames', result.stdout)
    assert 'are free' in result.stdout
    assert (tmp_path / 'out.html').exists()
    assert not [x for x in out.iterdir() if not x.name.startswith('.')]
    # Other options are no obstacle to the real run.
    result = prepare(footage, out, '--max-frames=48', '--format=jpg')
    assert result.returncode == 0, result.stderr
    assert {name: len(x) for name, x in clips(out).items()} == dict.fromkeys(
        [
            *('day/cut_000000', 'day/cut_000048', 'day/twice_000000'),
            *('day/plain_000000', 'day/plain_000048'),
        ],
        48,
    )


def test_what_is_intact_of_damaged_videos(tmp_path):
    """A file that is cut off in its middle."""
    write(tmp_path / 'in/whole.mp4', scenery(1))
    with av.open(str(tmp_path / 'in/cut.mkv'), 'w') as file:
        stream = file.add_stream('mpeg4', 25, options={'g': '8'})
        stream.width, stream.height, stream.bit_rate = 128, 96, 10**7
        for frame in scenery(0):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        file.mux(stream.encode())
    path = tmp_path / 'in/cut.mkv'
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    assert prepare(tmp_path / 'in', tmp_path / 'a').returncode == 0
    assert clips(tmp_path / 'a').keys() == {'whole_000000.mp4'}
    args = '--keep-damaged', '--min-frames=16'
    result = prepare(tmp_path / 'in', tmp_path / 'b', *args)
    assert result.returncode == 0, result.stderr
    made = clips(tmp_path / 'b')
    assert len(made) >= 3
    assert 'cannot be decoded' in (tmp_path / 'b.html').read_text()


@pytest.mark.slow
def test_killed_and_restarted_equals_undisturbed(footage, tmp_path):
    assert prepare(footage, tmp_path / 'a').returncode == 0
    out, killed = tmp_path / 'b', 0
    # While it searches, and while it writes clips.
    for first in ('.analysis/*.npz', '*/*.mp4'):
        process = start_tool('dataset_converters/prepare.py', footage, out)
        while process.poll(0.01) is None and not list(out.glob(first)):
            pass
        killed += process.poll() is None
        with suppress(ProcessLookupError):
            process.send(signal.SIGKILL)
        process.wait()
    assert killed > 0
    assert prepare(footage, out).returncode == 0
    for name in clips(tmp_path / 'a'):
        ours = (tmp_path / 'a' / name).read_bytes()
        assert (out / name).read_bytes() == ours


@pytest.mark.slow
def test_what_comes_out_trains(footage, tmp_path):
    out = tmp_path / 'out'
    assert prepare(footage, out, '--resolution=16').returncode == 0
    config = ROOT / 'configs/stylegan_v/demo_moving_shapes.py'
    result = run_tool(
        'train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options',
        f'data_root={out}', 'resolution=16', 'batch_size=2', 'max_iters=2',
        'preview_interval=9', 'model.generator.channel_max=8',
        'model.discriminator.channel_max=8',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'run/iter_2.pth').exists()
