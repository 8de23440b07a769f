"""How every script under ``tools/`` starts and ends."""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable

import torch.distributed as dist

from .errors import InputError


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and end the process with its status.

    An :class:`InputError` becomes one line on stderr and status 2; any other
    exception is a defect of ours and keeps its traceback.
    """
    # What a config imports may lie in the current folder, as projects do.
    sys.path.append(os.getcwd())
    try:
        status = main()
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print('stopped by the user', file=sys.stderr)
        status = 130
    finally:
        # Data workers are deaf to SIGTERM. Where an error still holds on to
        # them, Python's exit would wait for them for ever.
        for child in multiprocessing.active_children():
            child.kill()
        # Left to the interpreter's end, gloo's threads now and then abort.
        if dist.is_initialized():
            dist.destroy_process_group()
    sys.exit(status)


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
