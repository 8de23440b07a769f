"""The Markdown files: what they say to type works, their links are right."""

import argparse
import re
import runpy
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from documented import (
    COMMENTS,
    FENCE,
    LANGUAGES,
    Block,
    blocks_of,
    commands_of,
    without_stars,
)
from real_process import run_script

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in (
        '*.md',
        'docs/*.md',
        'projects/**/*.md',
        'stylegan_v_mm/zoo/*.md',
    )
    for path in ROOT.glob(pattern)
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
# Of this one, test_tools/test_export_model.py runs what it says.
ELSEWHERE = {'docs/export.md'}
# Those that take longer than a few seconds to run.
SLOW = {'docs/sampling.md'}

# Added to configs in the sandbox: small networks and pictures, a detector
# without weights.
SMALLER = {
    '_base_/models/stylegan_v.py': """
num_fp16_res = 0
model['generator'].update(
    z_dim=8, w_dim=8, motion_z_dim=8, motion_v_dim=8, time_enc_dim=4,
    channel_max=8,
)
model['discriminator'].update(channel_max=8)
""",
    '_base_/datasets/videos.py': 'num_workers = 0\n',
    '_base_/metrics/protocols.py': "detector = dict(type='RandomI3D')\n",
    'my_videos.py': 'resolution = 32\n',
}
# Added to commands that begin so; the last one of an option counts.
SHORTER = {
    'tools/dataset_converters/moving_shapes.py': (
        '--num-videos 6 --num-frames 40'
    ),
    'tools/dataset_converters/split_video.py': '--chunk-frames 20',
    'tools/analysis_tools/motion_report.py': '--num-frames 16',
    'tools/generate.py': '--num-frames 16',
    'tools/generate.py rc_track_64': '--num-frames 8',
    'tools/generate.py configs/my_videos.py work_dirs/my_videos/iter_5000.pth '
    '--num-videos 64': '--num-videos 4',
    'tools/generate.py work_dirs/my_videos --num-videos 64': '--num-videos 4',
    'tools/edit.py': '--num-frames 16',
    'tools/invert.py': '--steps 2 --starts 2 --loss pixels',
    'tools/analysis_tools/compare_datasets.py': '--detector random',
    'tools/analysis_tools/metric_sensitivity.py': (
        '--detector random --num-clips 4'
    ),
    # Training does not overwrite the run that is there.
    'tools/train.py configs/my_videos.py': '--work-dir work_dirs/again',
}
# Added to what commands of these scripts set in a config.
SETTINGS = {
    'tools/train.py': [
        *('max_iters=2', 'checkpoint_interval=2', 'preview_interval=2'),
        *('batch_size=2', 'preview_frames=2', 'log_interval=1'),
    ],
    'tools/test.py': ['num_test_videos=4'],
}


def to_run(name):
    """Give the blocks of a page that are run."""
    return [
        block
        for block in blocks_of(ROOT / name)
        if block.comment != 'not run' and block.language in ('bash', 'python')
    ]


class Parsed(BaseException):
    """Ends a script where it has a parser for its command line."""


def without_blocks(page):
    """Give the text of a page, not that in fenced blocks."""
    text = page.read_text()
    return re.sub('^```.*?^```', '', text, flags=re.MULTILINE | re.DOTALL)


def parser_of(script):
    """Run a script as far as its command line."""

    def parse_args(self, *_):
        raise Parsed(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
        patch.setattr('sys.argv', [str(script)])
        patch.syspath_prepend(script.parent)
        with pytest.raises(Parsed) as parsed:
            runpy.run_path(str(script), run_name='__main__')
    return parsed.value.args[0]


@pytest.fixture(scope='module')
def parser():
    """Give the parser of a script by its path in the repository."""
    parsers = {}

    def parser(script):
        if script not in parsers:
            parsers[script] = parser_of(ROOT / script)
        return parsers[script]

    return parser


def options_of(parser):
    """Give all options of a parser and of its commands."""
    options = set()
    for action in parser._actions:
        options.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                options |= options_of(command)
    return options


@pytest.fixture(scope='module')
def sandbox(tmp_path_factory):
    """Make a folder like the repository, with small data and models."""
    folder = tmp_path_factory.mktemp('docs') / 'sandbox'
    for name in ('configs', 'projects', 'tools', 'tests/data'):
        shutil.copytree(
            ROOT / name,
            folder / name,
            ignore=shutil.ignore_patterns('__pycache__'),
        )
    for block in blocks_of(ROOT / 'README.md'):
        if block.comment == 'file':
            (folder / block.value).write_text(block.text)
    for name in SMALLER:
        make_smaller(name, folder)

    def run(command):
        run_here(shorter(shlex.split(command)), folder)

    shapes = 'tools/dataset_converters/moving_shapes.py'
    run(f'{shapes} data/my_videos')
    run(f'{shapes} data/moving_shapes')
    run('tools/train.py configs/my_videos.py')
    demo = 'configs/stylegan_v/demo_moving_shapes.py'
    run(f'tools/train.py {demo} --work-dir work_dirs/demo')
    # A path wins over the name of a trained model, which takes longer.
    shutil.copytree(folder / 'work_dirs/demo', folder / 'rc_track_64')
    # The names that the documents use.
    ours = folder / 'work_dirs/my_videos'
    (folder / 'work_dirs/again').rename(ours)
    (ours / 'iter_2.pth').rename(ours / 'iter_5000.pth')
    (ours / 'last_checkpoint').unlink()
    (folder / 'other_run').mkdir()
    shutil.copy(ours / 'iter_5000.pth', folder / 'other_run/iter_50000.pth')
    for name in ('clips', 'real'):
        shutil.copytree(folder / 'data/my_videos', folder / 'data' / name)
    run(
        'tools/generate.py work_dirs/demo --num-videos 6 --num-frames 16 '
        '--format png --out samples'
    )
    shutil.make_archive(folder / 'samples', 'zip', folder, 'samples')
    shutil.rmtree(folder / 'samples')
    for name in ('clip.mp4', 'film.mp4'):
        shutil.copy(next((folder / 'data/clips').iterdir()), folder / name)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    cv2.imwrite(str(folder / 'mask.png'), mask)
    return folder


def make_smaller(name, folder):
    """Change a config of the sandbox."""
    with open(folder / 'configs' / name, 'a') as file:
        file.write(SMALLER.get(name, ''))


def shorter(words):
    """Change a command so that it takes a second or two."""
    words = list(words)
    for start, more in SHORTER.items():
        if shlex.join(words).startswith(start):
            words += shlex.split(more)
    if words[0] in SETTINGS:
        if '--cfg-options' not in words:
            words.append('--cfg-options')
        end = words.index('--cfg-options') + 1
        while end < len(words) and not words[end].startswith('--'):
            end += 1
        words[end:end] = SETTINGS[words[0]]
    return words


def run_here(words, folder):
    """Run a script, which has to succeed."""
    done = run_script(words, folder, XDG_CACHE_HOME=str(folder / '.cache'))
    output = done.stdout + done.stderr
    assert done.returncode == 0, f'{shlex.join(words)}\n{output}'


def check_config(path, folder):
    """Read a config as the tools do."""
    (folder / 'block.py').write_text(
        'import sys\n'
        'from stylegan_v_mm.config import load_config\n'
        'load_config(sys.argv[1])\n'
    )
    run_here(['block.py', path], folder)


def run_block(block, folder, before):
    """Do what a block says; return the Python source so far."""
    if block.language == 'bash':
        for variables, (program, *words) in commands_of(block):
            known = program == 'python' and not variables
            assert known, f'line {block.line}: cannot run {program}: mark it'
            shutil.rmtree(folder / 'work_dirs/again', ignore_errors=True)
            run_here(shorter(without_stars(words, folder)), folder)
    elif block.comment == 'file':
        (folder / block.value).write_text(block.text)
        if block.value.startswith('configs/'):
            check_config(block.value, folder)
            make_smaller(block.value.removeprefix('configs/'), folder)
    elif block.comment == 'config':
        text = block.text
        if '_base_' not in text:
            text = f"_base_ = ['./stylegan_v/ucf101.py']\n{text}"
        (folder / 'configs/part.py').write_text(text)
        check_config('configs/part.py', folder)
    elif block.language == 'python':
        source = block.text
        assert 'import ' in source, f'line {block.line}: mark it'
        if block.comment == 'continued':
            source = before + source
        (folder / 'block.py').write_text(source)
        run_here(['block.py'], folder)
        return source
    return before


@pytest.mark.parametrize('name', NAMES)
def test_blocks_say_what_they_are(name):
    text = (ROOT / name).read_text()
    blocks = blocks_of(ROOT / name)
    assert len(blocks) * 2 == len(re.findall('^ *```', text, re.MULTILINE))
    for block in blocks:
        assert block.language in LANGUAGES, f'line {block.line}'
        assert block.comment in (None, *COMMENTS), f'line {block.line}'
        if block.comment == 'not run':
            assert block.value, f'line {block.line}: say why'


def check_command(command, parser):
    """Check that script, options and target of a command are there."""
    program, *words = command.words
    if program == 'make':
        known = re.findall(
            r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE
        )
        for word in words:
            assert word in known or '=' in word or word.startswith('.venv/')
    elif program.startswith('tools/'):
        assert (ROOT / program).is_file()
    elif program == 'python' and not words[0].startswith(('-', '$')):
        try:
            parser(words[0]).parse_args(words[1:])
        except SystemExit:
            raise AssertionError('the script does not take it') from None


def check_span(span, parser):
    """Check the script of a piece of code in the text, and its options."""
    script, *words = span.split() or ['']
    if script == 'python' and words:
        script, *words = words
    if not script.endswith('.py') or not words or Path(script).stem.isupper():
        return
    if '/' in script:
        path = ROOT / script
    else:
        (path,) = ROOT.glob(f'tools/**/{script}')
    options = options_of(parser(path.relative_to(ROOT).as_posix()))
    for word in words:
        assert not word.startswith('--') or word.split('=')[0] in options


def check_link(target, folder):
    """Check that a link within the repository leads to a file."""
    if not re.match('https?:|#', target):
        assert (folder / target.split('#')[0]).exists()


@pytest.mark.parametrize('name', NAMES)
def test_what_it_names_is_there(name, parser, capsys):
    page = ROOT / name
    for block in blocks_of(page):
        if block.language == 'bash':
            for command in commands_of(block):
                try:
                    check_command(command, parser)
                except (AssertionError, OSError) as error:
                    text = f'line {block.line}: {shlex.join(command.words)}'
                    pytest.fail(f'{text}\n{error}\n{capsys.readouterr().err}')
    text = without_blocks(page)
    for span in re.findall(r'`([^`]+)`', text):
        check_span(span, parser)
    for link, picture in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
        check_link(link or picture, page.parent)


@pytest.mark.parametrize(
    'text',
    [
        'python tools/generate.py work_dirs/demo --nun-videos 4',
        'python tools/generate.py',
        'python tools/generated.py work_dirs/demo',
        'python tools/analysis_tools/benchmark.py sampled',
        'tools/dist_trains.sh configs/my_videos.py 8',
        'make tests',
    ],
)
def test_wrong_commands_are_found(text, parser):
    block = Block('bash', text, None, None, 1)
    (command,) = commands_of(block)
    with pytest.raises((AssertionError, OSError)):
        check_command(command, parser)


def test_wrong_options_in_the_text_are_found(parser):
    check_span('generate.py --num-videos 4', parser)
    with pytest.raises(AssertionError):
        check_span('generate.py --nun-videos 4', parser)
    with pytest.raises(AssertionError):
        check_link('no_such_page.md#part', ROOT / 'docs')


def test_commands_are_read_as_a_shell_does():
    page = """
<!-- not run: needs GPUs -->
```bash
GPUS=2 tools/a.sh 'two words' \\
    --more  # why
python b.py tests/data/tiny_*.npz
```
"""
    (match,) = FENCE.finditer(page)
    assert match.group('comment', 'value') == ('not run', 'needs GPUs')
    block = Block('bash', match['text'], None, None, 1)
    first, second = commands_of(block)
    assert first == ({'GPUS': '2'}, ['tools/a.sh', 'two words', '--more'])
    files = sorted(path.name for path in (ROOT / 'tests/data').glob('*.npz'))
    assert without_stars(second.words, ROOT)[2:] == [
        f'tests/data/{name}' for name in files
    ]


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in NAMES
        if to_run(name) and name not in ELSEWHERE
    ],
)
def test_what_it_says_to_type_runs(name, sandbox, tmp_path):
    folder = tmp_path / 'repository'
    shutil.copytree(sandbox, folder)
    before = ''
    for block in to_run(name):
        before = run_block(block, folder, before)
