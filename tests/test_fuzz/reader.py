"""Reads files that may be damaged or malicious, in a process of its own.

Each line on stdin, ``[KIND, PATH]``, gets a line on stdout:

* ``outcome``: ``read``, ``refused`` (by one clear line), or what must not be:
  ``crashed`` (with any other exception), ``unclear`` (refused without naming
  the file, or by more than a line), ``forbidden`` (it started a program,
  opened a connection, or wrote outside of its folder);
* ``about``: the message;
* ``bytes``: by how much the memory in use grew meanwhile, at its peak.

What takes longer than TIMEOUT seconds ends the process.
"""

import contextlib
import faulthandler
import io
import json
import os
import resource
import runpy
import sys
import traceback
from pathlib import Path

import numpy as np
import torch
from small_model import CONFIG

from stylegan_v_mm.checkpoints.loading import (
    average_weights,
    load_average,
    load_checkpoint,
    load_weights,
)
from stylegan_v_mm.checkpoints.transfer import transfer_weights
from stylegan_v_mm.datasets.labels import load_labels
from stylegan_v_mm.datasets.sources.finding import find_videos, read_each
from stylegan_v_mm.datasets.sources.images import find_images
from stylegan_v_mm.datasets.sources.pictures import decode_images
from stylegan_v_mm.datasets.sources.video_files import index_cache
from stylegan_v_mm.errors import InputError
from stylegan_v_mm.evaluation.frechet import FeatureRows, FeatureStats
from stylegan_v_mm.inference import Latents, find_model
from stylegan_v_mm.registry import MODELS

TOOLS = Path(__file__).parents[2] / 'tools'
TIMEOUT = 30
#: Bytes beyond those at the start: no bomb shall hurt the machine.
ADDRESS_SPACE = 6 * 2**30
#: Events of Python's audit hooks that no reader has a reason for.
FORBIDDEN = (
    'os.exec', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.spawn',
    'os.startfile', 'os.system', 'pty.spawn', 'socket.', 'subprocess.Popen',
)  # fmt: skip
WRITES = ('os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.symlink')


def model():
    """Make a small generator, discriminator and moving average."""
    variables = {}
    exec(CONFIG.format(c_dim=2, use_noise=False), variables)
    return MODELS.build(variables['model'])


def read_all(sources):
    """Decode all frames of all videos, in both ways."""
    problems, count = [], 0
    for source in sources:
        if len(source) == 0:
            problems.append(f'{source.name}: {source.problem}')
            assert source.problem, 'no frame, and no word about it'
            continue
        inds = range(len(source))
        try:
            frames = source.read(inds[:: max(1, len(source) // 5)])
            assert frames.dtype == np.uint8
            assert frames.shape[3:] == (3,)
            count += sum(1 for _ in read_each(source, inds))
        except InputError as error:
            problems.append(str(error))
    if problems and not count:
        raise InputError('; '.join(problems))


def read_videos(path):
    read_all(find_videos(path))


def read_zip(path):
    """As videos, as images, and for its labels."""
    errors = []
    for work in (
        lambda: read_all(find_videos(path)),
        lambda: read_all(find_images(path)),
        lambda: load_labels(path, ['a', 'b'], 'dataset.json'),
    ):
        try:
            work()
        except InputError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def read_labels(path):
    c, _ = load_labels('nowhere', ['a', 'b.mp4', 'c/d'], str(path))
    assert len(c) == 3
    assert np.isfinite(c).all()


def read_checkpoint(path):
    """For what is to be done with it: load it, or start from it."""
    checkpoint = load_checkpoint(str(path))
    try:
        load_weights(model(), checkpoint, str(path))
    except InputError:
        transfer_weights(model(), checkpoint, str(path))
        raise
    finally:
        with contextlib.suppress(InputError):
            average = average_weights(checkpoint)
            load_average(model().generator_ema, average, str(path))


def read_latents(path):
    Latents.load(path, model().generator_ema)


def read_metrics(path):
    (path.parent / 'config.py').touch()
    (path.parent / 'iter_1.pth').touch()
    find_model(str(path.parent), metric='FVD16')


def read_index(path):
    """A damaged cache changes nothing: it is made again."""
    videos = path.parent / 'videos'
    cache = index_cache(videos, '.json')
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_bytes(path.read_bytes())
    (source,) = find_videos(videos)
    frames = source.read(range(len(source)))
    cache.unlink()
    (expected,) = find_videos(videos)
    expected = expected.read(range(len(expected)))
    assert np.array_equal(frames, expected), 'the cache gives other frames'


def tool(script, *args):
    """Run a script as a user does, but in this process."""
    errors, status = io.StringIO(), None
    before = sys.argv, list(sys.path)
    sys.argv = [str(TOOLS / script), *map(str, args)]
    sys.path.insert(0, str((TOOLS / script).parent))
    try:
        with (
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv, sys.path[:] = before
    if status == 2:
        lines = [
            line.removeprefix('error: ')
            for line in errors.getvalue().splitlines()
            if line.startswith('error: ')
        ]
        raise InputError('\n'.join(lines))
    assert not status, errors.getvalue()


def read_snapshot(path):
    tool(
        'model_converters/stylegan_v_pkl.py',
        path,
        path.parent / 'out' / f'{path.stem}.pth',
        '--overwrite',
    )


def convert(path):
    """Make frame folders of what a folder, zip or file holds."""
    out = path.parent / 'out' / path.name
    more = ['--fps=25', '--max-frames=50'] if path.suffix == '.mp4' else []
    tool('dataset_converters/videos_to_frames.py', path, out, *more)


READERS = {
    'checkpoint': read_checkpoint,
    'conversion': convert,
    'feature rows': FeatureRows.load,
    'feature statistics': FeatureStats.load,
    'image': lambda path: decode_images([path.read_bytes()], [path.name]),
    'index of videos': read_index,
    'labels': read_labels,
    'latents': read_latents,
    'metrics': read_metrics,
    'snapshot': read_snapshot,
    'video': read_videos,
    'zip': read_zip,
}


class Watch:
    """Notes what a reader must not do, by Python's audit hooks."""

    def __init__(self, folder):
        self.allowed = (str(folder), '/dev/', '/proc/')
        self.seen = []
        sys.addaudithook(self)

    def __call__(self, event, args):
        """Look at an event of the interpreter."""
        if event.startswith(FORBIDDEN):
            self.seen.append(f'{event} {args}'[:200])
        elif event == 'open' and isinstance(args[0], str | bytes):
            write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
            if isinstance(args[2], int) and args[2] & write:
                self.check(event, args[0])
        elif event in WRITES:
            self.check(event, args[0])

    def check(self, event, path):
        """Note what is outside."""
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(self.allowed):
            self.seen.append(f'{event} {path}')


def high_water():
    """Most bytes of memory in use since the last reset."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition('VmHWM:')[2].split()[0]) * 1024


def read(kind, path, watch):
    """Read one file; say how it ended."""
    watch.seen.clear()
    Path('/proc/self/clear_refs').write_text('5')
    before = high_water()
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    try:
        READERS[kind](path)
        outcome, about = 'read', ''
    except InputError as error:
        outcome, about = 'refused', str(error)
        if '\n' in about or path.name not in about or len(about) > 2000:
            outcome = 'unclear'
    except BaseException:
        outcome, about = 'crashed', traceback.format_exc()
    faulthandler.cancel_dump_traceback_later()
    if watch.seen:
        outcome, about = 'forbidden', ' '.join(watch.seen)
    return dict(outcome=outcome, about=about, bytes=high_water() - before)


def main():
    """Answer until stdin ends."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    status = Path('/proc/self/status').read_text()
    used = int(status.partition('VmSize:')[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
    model()
    watch = Watch(Path.cwd())
    for line in sys.stdin:
        kind, path = json.loads(line)
        answer = read(kind, Path(path), watch)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
    main()
