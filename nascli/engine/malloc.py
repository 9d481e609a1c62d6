"""Memory of a process that needs the same tensors again and again."""

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's numbers of these options, `M_TRIM_THRESHOLD` and `M_MMAP_MAX` in malloc.h."""

_NEVER_BACK = 2**31 - 1
"""Bytes that must be free at the heap's end before any are given back: the most that can be asked for."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees for the next tensors, instead of giving it back to the system.

    glibc maps a large block afresh for each tensor and unmaps it afterwards, and Linux clears every page when it is
    first written. Steps of a training make the same tensors again and again, and would have their pages cleared each
    time: a sixth of a step on a CPU. The process's memory stays at its highest point until it ends.

    Returns:
        Whether it does; with another C library than glibc nothing is changed.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER_BACK)) and bool(mallopt(_MMAP_MAX, 0))
