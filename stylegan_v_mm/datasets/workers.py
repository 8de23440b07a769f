"""What data workers need of the machine."""

import multiprocessing

from ..errors import InputError


def check_workers(num_workers: int) -> None:
    """Check that processes which decode can be started.

    Their queues need semaphores, which the system keeps in /dev/shm. torch
    finds out too late to say it well.

    Args:
        num_workers (int): How many there are to be.

    Raises:
        InputError: It is no whole number, or the system gives too few
            semaphores.
    """
    if not isinstance(num_workers, int):
        raise InputError(f'num_workers={num_workers!r} must be a whole number')
    if num_workers == 0:
        return
    try:
        # All that torch's loader has, at a time.
        held: list = [multiprocessing.Event()]
        for _ in range(num_workers + 1):
            held.append(multiprocessing.Queue())
    except OSError as error:
        raise InputError(
            f'num_workers={num_workers}, but data workers need room in '
            f'/dev/shm ({error.strerror}): give it more, as by docker run '
            '--shm-size=1g, or set num_workers=0'
        ) from error
