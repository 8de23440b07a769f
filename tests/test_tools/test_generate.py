"""tools/generate.py: what it writes."""

import re
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image
from real_process import ROOT, run_program, run_tool, run_two
from safetensors.torch import load_file
from small_model import make_work_dir

from stylegan_v_mm.datasets.sources.finding import find_videos
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.inference import VideoGANInferencer
from stylegan_v_mm.video.animations import frame_duration


@pytest.fixture
def generate(run_script):
    def generate(job, out, *args):
        model = [job.config, job.checkpoint, '--out', out]
        result = run_script(ROOT / 'tools/generate.py', *model, *args)
        assert result.returncode == 0, result.stderr
        return result

    return generate


def pictures(folder):
    files = sorted(folder.iterdir())
    return np.stack([np.array(Image.open(f)) for f in files])


def test_videos_have_the_asked_size_length_and_rate(job, tmp_path):
    """As a real process."""
    out = tmp_path / 'out'
    args = ['--num-videos=2', '--num-frames=10', '--fps=12', '--seed=7']
    model = [job.config, job.checkpoint, '--out', out]
    result = run_tool('generate.py', *model, *args)
    assert result.returncode == 0, result.stderr
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


def test_the_same_seed_gives_the_same_bytes(job, tmp_path, generate):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        args = ['--grid', '--num-videos=2', '--num-frames=6']
        generate(job, tmp_path / f'{name}.mp4', *args, f'--seed={seed}')
    a, b, c = [(tmp_path / f'{n}.mp4').read_bytes() for n in 'abc']
    assert a == b
    assert a != c


def test_one_video_may_be_a_file_of_its_own(job, tmp_path, generate):
    args = ['--num-frames=6', '--seed=5']
    generate(job, tmp_path / 'folder', *args, '--num-videos=2')
    generate(job, tmp_path / 'one.mp4', *args)
    one = (tmp_path / 'one.mp4').read_bytes()
    assert one == (tmp_path / 'folder/000005.mp4').read_bytes()


def test_frames_do_not_depend_on_the_chunk(job, tmp_path, generate):
    args = ['--num-frames=9', '--format=png']
    generate(job, tmp_path / 'a', *args, '--chunk=2')
    generate(job, tmp_path / 'b', *args, '--chunk=64')
    a = pictures(tmp_path / 'a/000000')
    b = pictures(tmp_path / 'b/000000')
    assert a.shape == (9, 16, 16, 3)
    # Equal to 1e-5 before rounding to bytes.
    assert abs(a.astype(int) - b.astype(int)).max() <= 1
    assert (a != b).mean() < 0.01


@pytest.mark.parametrize(
    ('fps', 'hundredths'), [(60, 2), (15, 7), (25, 4), (0.001, 65535)]
)
def test_a_gif_plays_as_near_to_the_rate_as_viewers_can(
    job, tmp_path, generate, fps, hundredths, warnings_logged
):
    frame_duration.cache_clear()
    out = tmp_path / 'a.gif'
    generate(job, out, '--num-frames=4', f'--fps={fps}')
    rate = 100 / hundredths
    said = f'{rate:.4g} frames a second instead of {fps:.4g}'
    assert any(said in line for line in warnings_logged) == (fps != 25)
    with Image.open(out) as image:
        for i in range(image.n_frames):
            image.seek(i)
            # Equal frames are one, shown as long as these.
            assert image.info['duration'] % (10 * hundredths) == 0


@pytest.mark.parametrize('format', ['webp', 'gif'])
def test_what_is_generated_is_a_data_set(job, tmp_path, generate, format):
    args = ['--num-videos=3', '--num-frames=17', '--format', format]
    generate(job, tmp_path / 'a', *args)
    generate(job, tmp_path / 'b', *args[:-2], '--format=png')
    sources = find_videos(tmp_path / 'a')
    exact = find_videos(tmp_path / 'b')
    assert [s.name for s in sources] == [
        f'00000{i}.{format}' for i in range(3)
    ]
    for source, frames in zip(sources, exact, strict=True):
        assert len(source) == len(frames) == 17
        inds = range(17)
        error = abs(source.read(inds).astype(int) - frames.read(inds))
        assert error.max() == 0 if format == 'webp' else error.mean() < 12
    result = run_tool(
        'analysis_tools/compare_datasets.py', job.data, tmp_path / 'a',
        *['--metrics=motion', '--resolution=16'],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_jpg_quality_is_obeyed(job, tmp_path, generate):
    args = ['--num-frames=2', '--format=jpg']
    generate(job, tmp_path / 'low', *args, '--quality=5')
    generate(job, tmp_path / 'high', *args)
    low = tmp_path / 'low/000000/000000.jpg'
    high = tmp_path / 'high/000000/000000.jpg'
    assert low.stat().st_size < high.stat().st_size


def test_truncation_to_zero_gives_one_content(job, tmp_path, generate):
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


def decoded(path):
    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(format='rgb24')
            for frame in container.decode(video=0)
        ]
        return np.stack(frames), container.streams.video[0].average_rate


def test_a_higher_rate_keeps_the_speed(job, tmp_path, generate):
    args = ['--num-frames=9', '--format=png']
    generate(job, tmp_path / 'a', *args)
    normal = pictures(tmp_path / 'a/000000').astype(int)
    for name, more in (
        ('fast', ['--fps=25', '--fps-out=50']),
        ('slow', ['--slow-motion=2']),
        ('both', ['--fps-out=50', '--slow-motion=1']),
    ):
        generate(job, tmp_path / name, *args, *more)
        frames = pictures(tmp_path / name / '000000').astype(int)
        assert abs(frames[::2] - normal[:5]).max() <= 1
        assert (frames[1] != frames[0]).any()
    args = ['--num-frames=4', '--fps=30', '--fps-out=60']
    generate(job, tmp_path / 'a.mp4', *args)
    assert decoded(tmp_path / 'a.mp4')[1] == 60


def test_files_have_the_rate_of_the_data(job, tmp_path, generate):
    """As the config says, unless an option does."""
    out, config = tmp_path / 'a.mp4', ['--cfg-options', 'fps=12']
    for rate, options in (
        (12, config),
        (24, ['--fps-out=24', *config]),
        (30, ['--fps=30', *config]),
    ):
        generate(job, out, '--num-frames=2', *options)
        assert decoded(out)[1] == rate
    gan = VideoGANInferencer(str(job.config), str(job.checkpoint))
    assert gan.fps == 25
    options = dict(fps=0.0)
    with pytest.raises(InputError, match='in the config must be positive'):
        VideoGANInferencer('rc_track_64', options=options)
    assert VideoGANInferencer('rc_track_64').fps == 20
    with pytest.raises(InputError, match='fps must be positive'):
        gan.sample(num_frames=2, fps=0, out=out)


def test_a_decomposition_pairs_contents_and_motions(job, tmp_path, generate):
    args = ['--num-frames=3', '--format=png']
    generate(job, tmp_path / 'd', *args, '--decomposition', '--num-videos=3')
    grid = pictures(tmp_path / 'd').astype(int)
    assert grid.shape == (3, 52, 52, 3)
    for motion in (0, 2):
        generate(
            job, tmp_path / f'{motion}', *args, '--num-videos=3',
            f'--motion-seed={motion}',
        )  # fmt: skip
        for content in range(3):
            cell = grid[:, 18 * motion :, 18 * content :][:, :16, :16]
            alone = pictures(tmp_path / f'{motion}/00000{content}')
            assert abs(cell - alone).max() <= 1


def test_latents_are_the_videos(job, tmp_path, generate):
    args = ['--num-frames=5', '--format=png', '--time-offset=30']
    file = tmp_path / 'l.safetensors'
    generate(
        job, tmp_path / 'a', *args, '--seed', 3, 8, 5, '--save-latents', file
    )
    generate(job, tmp_path / 'b', *args, '--latents', file)
    for i, seed in enumerate((3, 8, 5)):
        ours = pictures(tmp_path / f'b/00000{i}').astype(int)
        theirs = pictures(tmp_path / f'a/00000{seed}')
        assert abs(ours - theirs).max() <= 1


def test_labels_are_as_frequent_as_in_the_data(tmp_path, run_script):
    model, data = make_work_dir(tmp_path / 'model', c_dim=3), tmp_path / 'data'
    counts = [30, 6, 18]
    for label, count in enumerate(counts):
        for video in range(count):
            folder = data / str(label) / str(video)
            folder.mkdir(parents=True)
            Image.new('RGB', (4, 4)).save(folder / '0.png')
    with (model / 'small.py').open('a') as file:
        file.write(
            "test_dataloader = dict(dataset=dict(type='SeedDataset', "
            f"num_videos=1, num_frames=1, data_root='{data}', "
            "labels='folder'))"
        )
    latents = tmp_path / 'some.safetensors'
    args = ['--num-videos=90', '--num-frames=1', '--save-latents', latents]
    result = run_script(
        ROOT / 'tools/generate.py',
        *[model, '--out', tmp_path / 'out', '--label=data', *args],
    )
    assert result.returncode == 0, result.stderr
    c = load_file(latents)['c']
    assert (c.sum(1) == 1).all()
    assert (c.amax(1) == 1).all()
    # Of 90 draws, the numbers lie within 3 standard deviations (14).
    expected = torch.tensor([50.0, 10, 30])
    assert (c.sum(0) - expected).abs().max() < 14


def test_noise_is_an_option_of_generators_that_add_it(tmp_path, run_script):
    model = make_work_dir(tmp_path / 'model', use_noise=True)

    def run(model, name, *args):
        args = ['--num-frames=2', '--format=png', *args]
        tool = ROOT / 'tools/generate.py'
        return run_script(tool, model, '--out', tmp_path / name, *args)

    for name, args in {
        'default': [],
        'const': ['--noise-mode=const'],
        'none': ['--noise-mode=none'],
        'config': ['--cfg-options', 'model.generator.noise_mode=none'],
    }.items():
        result = run(model, name, *args)
        assert result.returncode == 0, result.stderr
    videos = {
        name: pictures(tmp_path / name / '000000')
        for name in ('default', 'const', 'none', 'config')
    }
    assert (videos['default'] == videos['const']).all()
    assert (videos['none'] == videos['config']).all()
    assert (videos['none'] != videos['const']).mean() > 0.1

    silent = make_work_dir(tmp_path / 'silent')
    for mode in ('const', 'none'):
        result = run(silent, 'never', f'--noise-mode={mode}')
        assert result.returncode == 2
        assert result.stderr == (
            f'error: --noise-mode {mode}: this generator adds no noise '
            '(model.generator.use_noise), so leave it out\n'
        )
    assert list((tmp_path / 'never').iterdir()) == []


def test_mixed_layers_are_those_of_the_other(job, tmp_path, generate):
    args = ['--num-frames=2', '--format=png', '--motion-seed=1']
    generate(job, tmp_path / 'a', *args, '--seed=3')
    generate(job, tmp_path / 'b', *args, '--seed=4')
    mixing = ['--seed=3', '--mix-seed=4', '--mix-layers']
    generate(job, tmp_path / 'all', *args, *mixing, '0-')
    generate(job, tmp_path / 'some', *args, *mixing, '3-4')
    one, other, both = (
        pictures(tmp_path / name / seed).astype(int)
        for name, seed in (('a', '000003'), ('b', '000004'), ('all', '000003'))
    )
    assert abs(both - other).max() <= 1
    some = pictures(tmp_path / 'some/000003').astype(int)
    assert (some != one).any()
    assert (some != other).any()


def test_loops_and_walks_return(job, tmp_path, generate):
    args = ['--num-frames=24', '--loop', '--format=png']
    generate(job, tmp_path / 'a', *args, '--seed=2')
    walk = ['--interpolate=content', '--num-videos=2']
    generate(job, tmp_path / 'b', *args, *walk)
    for folder in ('a/000002', 'b'):
        frames = pictures(tmp_path / folder).astype(int)
        assert len(frames) == 24
        steps = abs(frames - np.roll(frames, -1, 0)).mean((1, 2, 3))
        assert steps[-1] <= steps[:-1].max()
        assert steps.max() > 0


def test_a_work_dir_and_a_metric_name_the_model(job, tmp_path, run_script):
    args = ['--num-frames=2', '--out', tmp_path / 'a.gif']
    tool = ROOT / 'tools/generate.py'
    work_dir = shutil.copytree(job.work_dir, tmp_path / 'work')
    result = run_script(tool, work_dir, *args)
    assert 'iter_4.pth' in result.stdout
    (work_dir / 'metrics.jsonl').write_text(
        '{"checkpoint": "x/iter_2.pth", "FVD16": 3.0}\n'
        '{"checkpoint": "x/iter_4.pth", "FVD16": 5.0}\n'
    )
    result = run_script(tool, work_dir, *args, '--metric=FVD16')
    assert 'iter_2.pth' in result.stdout


def test_processes_share_a_folder_of_videos(job, tmp_path, generate):
    """In the passes of one process, so that the bytes are the same."""
    args = ['--num-videos=5', '--num-frames=6', '--chunk=12', '--label=random']
    generate(job, tmp_path / 'one', *args)
    words = [ROOT / 'tools/generate.py', job.config, job.checkpoint, *args]
    both = run_two([*words, '--out', tmp_path / 'two'], tmp_path)
    for rank, process in enumerate(both):
        assert process.returncode == 0, process.stderr
        assert f'two, process {rank} its share, with' in process.stdout
    # Passes of two, two and one.
    assert ('frame' in both[0].stderr, both[1].stderr) == (True, '')
    names = [f'00000{i}.mp4' for i in range(5)]
    for folder in ('one', 'two'):
        paths = (tmp_path / folder).iterdir()
        assert sorted(path.name for path in paths) == names
    for name in names:
        one, two = (tmp_path / folder / name for folder in ('one', 'two'))
        assert one.read_bytes() == two.read_bytes()
    one, two = run_two([*words, '--grid', '--out', 'a.mp4'], tmp_path)
    assert 'one file, which one process writes' in one.stdout
    assert (tmp_path / 'a.mp4').exists()
    assert (two.returncode, two.said) == (0, '')


PEAKS = """
import resource, runpy, sys
words = sys.argv[1:]
for num_frames in ('200', '1500'):
    sys.argv = [*words, '--num-frames', num_frames]
    sys.argv += ['--out', num_frames + '.mp4']
    try:
        runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as end:
        assert not end.code, end.code
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print('peak:', peak / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(job, tmp_path):
    words = [ROOT / 'tools/generate.py', job.config, job.checkpoint, '--grid']
    result = run_program(PEAKS, tmp_path, *words)
    assert result.returncode == 0, result.stderr
    short, long = map(float, re.findall(r'peak: (\S+)', result.stdout))
    # One hidden layer alone, of 8 channels for all frames at once, would be
    # 1500 * 8 * 16 * 16 * 4 bytes = 12 MiB.
    assert long - short < 10
