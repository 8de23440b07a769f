"""How every script under ``tools/`` starts and ends."""

import argparse
import errno
import io
import logging
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from mmengine.config import DictAction

from .allocation import keep_freed_memory
from .errors import InputError

# Of a disk, a quota, and the largest size of a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and end the process with its status.

    An :class:`InputError` and what the machine does to a run (a full disk,
    killed processes) become one line on stderr and status 2; any other
    exception is a defect of ours and keeps its traceback. SIGTERM ends the
    process as an exception would, so that half-written files go.

    Only here, where the process is ours, is it tuned: the package leaves the
    memory of a process that imports it alone.
    """
    if not torch.cuda.is_available():
        keep_freed_memory()
    # What a config imports may lie in the current folder, as projects do.
    sys.path.append(os.getcwd())
    # Names of files may be no text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    # A full disk must not fill the terminal with tracebacks of the log.
    logging.raiseExceptions = False
    handler_before = signal.signal(signal.SIGTERM, _stop)
    try:
        status = main()
    except KeyboardInterrupt:
        print('stopped by the user', file=sys.stderr)
        status = 130
    except Exception as error:
        message = _one_line(error)
        if not message:
            raise
        # Names of files can hold what moves a terminal's cursor.
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in message)
        print(f'error: {"".join(shown)}', file=sys.stderr)
        status = 2
    finally:
        signal.signal(signal.SIGTERM, handler_before)
        # Data workers are deaf to SIGTERM. Where an error still holds on to
        # them, Python's exit would wait for them for ever.
        for child in multiprocessing.active_children():
            child.kill()
        # Left to the interpreter's end, gloo's threads now and then abort.
        if dist.is_initialized():
            dist.destroy_process_group()
    sys.exit(status)


def import_mmengine() -> None:
    """Import mmengine's optimizers without transformers, for a quick start.

    mmengine imports it, where it is installed, for one optimizer that then is
    missing. Parts of mmagic that need transformers find it later.
    """
    if 'transformers' not in sys.modules:
        sys.modules['transformers'] = None  # type: ignore[assignment]
        try:
            import mmengine.optim  # noqa: F401
        finally:
            del sys.modules['transformers']


def _stop(number: int, frame: object) -> None:
    print('stopped by SIGTERM', file=sys.stderr)
    sys.exit(128 + number)


def _one_line(error: Exception) -> str:
    """Say what a user can mend; '' if nothing."""
    text = str(error)
    if isinstance(error, InputError):
        # torch puts the traceback of a data worker before its message.
        return re.sub(
            r'(?s)^Caught \w+ in .+\n[\w.]+Error: ', '', text
        ).strip()
    if isinstance(error, OSError) and error.errno in _FULL:
        return f'{error.filename or "a file"} cannot be written: {error}'
    if isinstance(error, RuntimeError) and re.match('DataLoader worker', text):
        return f'{text}; was there too little memory?'
    if isinstance(error, dist.DistError) or 'gloo' in text:
        return (
            'another process of this run has ended or hangs, see its own '
            f'messages ({text.splitlines()[0]})'
        )
    return ''


def read_options(words: Sequence[str]) -> dict:
    """Read what follows ``--cfg-options``.

    Args:
        words (sequence): ``KEY=VALUE``, as mmengine reads them.

    Returns:
        dict: Values by their dotted keys.

    Raises:
        InputError: A word is of another form.
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


def model_parser(description: str) -> argparse.ArgumentParser:
    """Start the command line of a script that takes a trained model.

    Args:
        description (str): Shown as it is.

    Returns:
        ArgumentParser: With ``model`` and ``checkpoint``, see
        ``stylegan_v_mm.inference.find_model``.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'model', help='config file, work dir, or OWNER/NAME on the hub'
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='file of a training run, or its work dir; not needed if the '
        'model is a work dir',
    )
    return parser
