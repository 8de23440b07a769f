"""tools/generate.py as a real process."""

import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image
from real_process import ROOT, run_tool


def generate(job, out, *args):
    result = run_tool(
        'generate.py', job.config, job.checkpoint, '--out', out, *args
    )
    assert result.returncode == 0, result.stderr
    return result


def pictures(folder):
    files = sorted(folder.iterdir())
    return np.stack([np.array(Image.open(f)) for f in files])


def test_videos_have_the_asked_size_length_and_rate(job, tmp_path):
    out = tmp_path / 'out'
    generate(
        job, out, '--num-videos=2', '--num-frames=10', '--fps=12', '--seed=7'
    )
    assert sorted(p.name for p in out.iterdir()) == [
        '000007.mp4',
        '000008.mp4',
    ]
    with av.open(str(out / '000007.mp4')) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == 'h264'
        assert stream.codec_context.pix_fmt == 'yuv420p'
        assert stream.average_rate == 12
    assert len(frames) == 10
    assert (frames[0].width, frames[0].height) == (16, 16)


def test_the_same_seed_gives_the_same_bytes(job, tmp_path):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        args = ['--grid', '--num-videos=2', '--num-frames=6']
        generate(job, tmp_path / f'{name}.mp4', *args, f'--seed={seed}')
    a, b, c = [(tmp_path / f'{n}.mp4').read_bytes() for n in 'abc']
    assert a == b
    assert a != c


def test_one_video_may_be_a_file_of_its_own(job, tmp_path):
    args = ['--num-frames=6', '--seed=5']
    generate(job, tmp_path / 'folder', *args, '--num-videos=2')
    generate(job, tmp_path / 'one.mp4', *args)
    one = (tmp_path / 'one.mp4').read_bytes()
    assert one == (tmp_path / 'folder/000005.mp4').read_bytes()


def test_frames_do_not_depend_on_the_chunk(job, tmp_path):
    args = ['--num-frames=9', '--format=png']
    generate(job, tmp_path / 'a', *args, '--chunk=2')
    generate(job, tmp_path / 'b', *args, '--chunk=64')
    a = pictures(tmp_path / 'a/000000')
    b = pictures(tmp_path / 'b/000000')
    assert a.shape == (9, 16, 16, 3)
    # Equal to 1e-5 before rounding to bytes.
    assert abs(a.astype(int) - b.astype(int)).max() <= 1
    assert (a != b).mean() < 0.01


def test_jpg_quality_is_obeyed(job, tmp_path):
    args = ['--num-frames=2', '--format=jpg']
    generate(job, tmp_path / 'low', *args, '--quality=5')
    generate(job, tmp_path / 'high', *args)
    low = tmp_path / 'low/000000/000000.jpg'
    high = tmp_path / 'high/000000/000000.jpg'
    assert low.stat().st_size < high.stat().st_size


def test_truncation_to_zero_gives_one_content(job, tmp_path):
    args = ['--num-videos=2', '--num-frames=1', '--format=png']
    generate(job, tmp_path / 'a', *args, '--truncation-psi=1')
    generate(job, tmp_path / 'b', *args, '--truncation-psi=0')

    def difference(name):
        one, two = [
            pictures(tmp_path / name / seed).astype(int)
            for seed in ('000000', '000001')
        ]
        return abs(one - two).mean()

    # What is left is their motion.
    assert difference('b') < difference('a')


PEAK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(job, tmp_path):
    def peak(num_frames):
        result = subprocess.run(
            [
                sys.executable, '-c', PEAK, ROOT / 'tools/generate.py',
                job.config, job.checkpoint, '--grid',
                '--out', tmp_path / f'{num_frames}.mp4',
                '--num-frames', str(num_frames),
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return int(result.stdout.split()[-1]) / 1024

    # One hidden layer alone, of 8 channels for all frames at once, would be
    # 3000 * 8 * 16 * 16 * 4 bytes = 23 MiB.
    assert peak(3000) - peak(300) < 20
