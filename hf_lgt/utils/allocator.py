"""Memory that a step on a CPU frees is kept for the next one.

By default glibc gives what is free at the end of its heap, and every large block, back to the system, so
that each step gets its activations as fresh pages, which the system must clear first
(https://man7.org/linux/man-pages/man3/mallopt.3.html).
"""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT = 2**30
"""bytes that may be free at the end of the heap"""
_LARGEST = 2**25
"""the largest block that glibc can take from its heap"""
_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, up to a gibibyte.

    Nothing happens without glibc, or where the environment has a choice of its own.

    Returns:
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _CHOICES):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_TRIM, _KEPT)) and bool(libc.mallopt(_MAP, _LARGEST))
