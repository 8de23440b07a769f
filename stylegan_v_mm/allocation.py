"""How a CPU's memory is given out."""

import ctypes


def keep_freed_memory() -> None:
    """Make glibc reuse large freed blocks instead of returning them.

    A tensor of several megabytes otherwise gets fresh zeroed pages from the
    kernel each time, which costs a CPU a sixth of an iteration. Does nothing
    with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # names in malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)
