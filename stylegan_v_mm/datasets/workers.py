"""Check what data workers need from the machine."""

import multiprocessing

from ..errors import InputError


def check_workers(num_workers: int) -> None:
    """Check that data workers can be started.

    Their queues need semaphores, which the system keeps in /dev/shm. If there
    are too few, torch fails later and without a clear message.

    Args:
        num_workers (int): Number of data workers.

    Raises:
        InputError: It is not a whole number, or the system has too few
            semaphores.
    """
    if not isinstance(num_workers, int):
        raise InputError(f'num_workers={num_workers!r} must be a whole number')
    if num_workers == 0:
        return
    try:
        # As many as torch's loader holds at a time.
        held: list = [multiprocessing.Event()]
        for _ in range(num_workers + 1):
            held.append(multiprocessing.Queue())
    except OSError as error:
        raise InputError(
            f'num_workers={num_workers}, but data workers need space in '
            f'/dev/shm ({error.strerror}): enlarge it, as with docker run '
            '--shm-size=1g, or set num_workers=0'
        ) from error
