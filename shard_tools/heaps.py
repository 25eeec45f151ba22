"""Memory of threads that come and go, where the C library is glibc."""

from __future__ import annotations

import ctypes
import os

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_ARENAS = 2


def share_heaps() -> None:
    """Let all threads to come allocate from two heaps, unless the environment says otherwise.

    glibc gives each thread one of its own, up to eight for each core. An answer is allocated by the thread
    that asked and freed by another one, so that each heap grows to hold many; and such heaps are given back
    to the kernel as soon as they are empty, which clears every page of the next answer: measured from a
    store that is near, that is half of the CPU that a crop takes, and 500 MiB of a reading process.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version") and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, _ARENAS)
