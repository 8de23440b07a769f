"""What data workers need of the machine."""

import multiprocessing

from .errors import InputError


def check_workers(num_workers: int) -> None:
    """Check that processes which decode can be started.

    Their queues need semaphores, which the system keeps in /dev/shm. torch
    finds out too late to say it well.

    Args:
        num_workers (int): How many there are to be.

    Raises:
        InputError: The system gives too few semaphores.
    """
    if num_workers == 0:
        return
    try:
        # All that torch's loader has, at a time.
        done = multiprocessing.Event()
        queues = [multiprocessing.Queue() for _ in range(num_workers + 1)]
        del done, queues
    except OSError as error:
        raise InputError(
            f'num_workers={num_workers}, but data workers need room in '
            f'/dev/shm ({error.strerror}): give it more, as by docker run '
            '--shm-size=1g, or set num_workers=0'
        ) from error
