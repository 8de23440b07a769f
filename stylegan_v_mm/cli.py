"""How every script under ``tools/`` starts and ends."""

import argparse
import ctypes
import errno
import io
import logging
import math
import multiprocessing
import os
import re
import reprlib
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import DictAction

from .errors import InputError

# Errors of a full disk, a full quota and a file that is too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and end the process with its status.

    An :class:`InputError` and what the machine does to a run (a full disk,
    too little memory, killed processes) become one line on stderr and status
    2; any other exception is a defect of ours and keeps its traceback. SIGTERM
    ends the process as an exception would, so that half-written files are
    removed. If nobody reads the output any more, as after ``| head``, the
    process ends silently, with the status of one that SIGPIPE ended.

    The memory of the process is tuned here, where the process is ours. To
    import the package does not change how a process manages its memory.
    """
    if not torch.cuda.is_available():
        keep_freed_memory()
    # A config may import modules in the current folder, such as projects.
    sys.path.append(os.getcwd())
    # File names may not be valid text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    # A full disk must not fill the terminal with tracebacks of the log.
    logging.raiseExceptions = False
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True
        # print() raises if the signal arrives inside another print().
        os.write(2, b'stopped by SIGTERM\n')
        sys.exit(128 + number)

    handler_before = signal.signal(signal.SIGTERM, stop)
    try:
        status = main()
        print(end='', flush=True)
    except KeyboardInterrupt:
        print('stopped by the user', file=sys.stderr)
        status = 130
    except Exception as error:
        if stopped:  # A library turned the exit into an error of its own.
            status = 128 + signal.SIGTERM
        elif _nobody_reads(error):
            status = 128 + signal.SIGPIPE
        elif message := _one_line(error):
            # File names may contain a terminal's control characters.
            shown = (c if c.isprintable() else ascii(c)[1:-1] for c in message)
            print(f'error: {"".join(shown)}', file=sys.stderr)
            status = 2
        else:
            raise
    finally:
        _end_output()
        signal.signal(signal.SIGTERM, handler_before)
        # Data workers ignore SIGTERM. If an error still refers to them,
        # Python would wait for them forever at exit.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would complain
        for child in multiprocessing.active_children():
            child.kill()
        # Without this, gloo's threads sometimes abort at exit.
        if dist.is_initialized():
            dist.destroy_process_group()
    sys.exit(status)


def import_mmengine() -> None:
    """Import mmengine's optimizers without transformers, for a quick start.

    If transformers is installed, mmengine imports it for one optimizer, which
    is then not available. Parts of mmagic can still import it later.
    """
    if 'transformers' not in sys.modules:
        sys.modules['transformers'] = None  # type: ignore[assignment]
        try:
            import mmengine.optim  # noqa: F401
        finally:
            del sys.modules['transformers']


def _nobody_reads(error: Exception) -> bool:
    """Whether an error means that nobody reads the output any more."""
    if not isinstance(error.__cause__ or error, BrokenPipeError):
        return False
    # Other pipes break, too, such as those of data workers.
    outputs = select.poll()
    outputs.register(1, 0)
    outputs.register(2, 0)
    return any(event & select.POLLERR for _, event in outputs.poll(0))


def _end_output() -> None:
    """Flush the output, or drop it if that fails.

    Otherwise, the interpreter would try again at exit and show a traceback.
    """
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            print(end='', file=stream, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _one_line(error: Exception) -> str:
    """Describe an error that a user can fix in one line; '' for others."""
    text = str(error)
    if isinstance(error, InputError):
        # torch puts the traceback of a data worker before its message.
        return re.sub(
            r'(?s)^Caught \w+ in .+\n[\w.]+Error: ', '', text
        ).strip()
    if isinstance(error, OSError) and error.errno in _FULL:
        return f'{error.filename or "a file"} cannot be written: {error}'
    if 'shared memory' in text:
        return (
            f'data workers need space in /dev/shm ({text.splitlines()[-1]}): '
            'enlarge it, as with docker run --shm-size=1g, or set '
            'num_workers=0'
        )
    if (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in text
    ):
        reason = text.partition('\n')[0] or type(error).__name__
        return f'there is too little memory: {reason}'
    if isinstance(error, RuntimeError) and re.match('DataLoader worker', text):
        return f'{text}; was there too little memory?'
    if isinstance(error, dist.DistError) or 'gloo' in text:
        return (
            'another process of this run has ended or hangs, see its own '
            f'messages ({text.splitlines()[0]})'
        )
    return ''


def place_among_processes() -> tuple[int, int]:
    """Return the number of this process, and of all that torchrun started.

    The process computes on the GPU that is its own.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)))
    return int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))


def whole_number(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Return a type for argparse, integers from ``least`` to ``most``."""
    return _number(int, 'a whole number', least, most)


def real_number(least: float, most: float) -> Callable[[str], float]:
    """Return a type for argparse, numbers from ``least`` to ``most``."""
    return _number(float, 'a number', least, most)


def _number(kind: Callable, word: str, least: float, most: float) -> Callable:
    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f'{reprlib.repr(text)} must be {word} from {least} to {most}'
            )
        return number

    return parse


# Types of the tools' options, except those with a range of their own.
count = whole_number(0)
positive_int = whole_number(1)
frame_count = whole_number(1, 10**8)
video_count = whole_number(1, 10**6)
picture_size = whole_number(1, 8192)
seed_number = whole_number(0, 2**63 - 1)
finite_float = real_number(-1e6, 1e6)
positive_float = real_number(1e-6, 1e6)
loss_weight = real_number(0, 1e6)
frame_rate = real_number(1e-3, 1e3)
time_offset = real_number(0, 2**50)


def read_options(words: Sequence[str]) -> dict:
    """Parse the arguments of ``--cfg-options``.

    Args:
        words (sequence): ``KEY=VALUE`` in mmengine's syntax.

    Returns:
        dict: Values by their dotted keys.

    Raises:
        InputError: A word has another form.
    """
    found = argparse.Namespace()
    try:
        DictAction(['--cfg-options'], 'options')(
            argparse.ArgumentParser(), found, words
        )
    except Exception as error:
        raise InputError(
            f'--cfg-options: give KEY=VALUE, not {words} ({error})'
        ) from error
    return found.options


def tool_parser(description: str | None) -> argparse.ArgumentParser:
    """Start the command line of a script.

    Args:
        description (str): Shown as it is; the docstring of the script.
    """
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def model_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the command line of a script with a trained model.

    Args:
        description (str): Description of the script, shown with its line
            breaks.

    Returns:
        ArgumentParser: Parser with the arguments ``model`` and
        ``checkpoint``, see ``stylegan_v_mm.inference.find_model``.
    """
    parser = tool_parser(description)
    parser.add_argument(
        'model',
        help='config file, work dir, name of a trained model such as '
        'rc_track_64, or OWNER/NAME on the hub',
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='file of a training run, or its work dir; only needed if the '
        'model is a config',
    )
    return parser


def add_cfg_options(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--cfg-options``, see :func:`read_options`."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help=f'settings to override, e.g. {example}',
    )


def add_videos_to_edit(
    parser: argparse.ArgumentParser,
) -> argparse._ArgumentGroup:
    """Add a group of options that choose videos; return the group."""
    videos = parser.add_argument_group('videos to edit')
    videos.add_argument(
        '--seed', type=seed_number, default=0, help='seed of the first video'
    )
    videos.add_argument('--num-videos', type=video_count, default=1)
    videos.add_argument('--label', type=count, help='class; random by default')
    videos.add_argument('--truncation-psi', type=finite_float, default=1)
    videos.add_argument(
        '--latents', type=Path, help='edit these instead of seeds'
    )
    return videos


def add_rendering_options(
    parser: argparse.ArgumentParser,
) -> argparse._ArgumentGroup:
    """Add the options of rendering; return the group of those about time."""
    time = parser.add_argument_group('time')
    time.add_argument('--num-frames', type=frame_count, default=128)
    time.add_argument(
        '--fps',
        type=frame_rate,
        help='frames a second of the data; default: that of the config',
    )
    time.add_argument(
        '--slow-motion',
        type=positive_float,
        default=1,
        help='4: four times slower, with three new frames in between',
    )
    time.add_argument(
        '--time-offset', type=time_offset, default=0, help='frames to skip'
    )
    parser.add_argument(
        '--chunk',
        type=positive_int,
        default=32,
        help='frames of each video rendered at a time',
    )
    parser.add_argument('--device', help='cuda or cpu; found if not given')
    return time


def keep_freed_memory() -> None:
    """Make glibc reuse large freed blocks instead of returning them.

    Otherwise, each tensor of several megabytes gets new zeroed pages from the
    kernel, which takes a sixth of an iteration on a CPU. With another C
    library, this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # names in malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)
