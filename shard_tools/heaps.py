"""What the C library does with memory that is freed, where it is glibc."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # as M_… of malloc.h
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


def keep_freed_memory() -> None:
    """Keep what is freed for what comes next, unless the environment says otherwise.

    glibc gives large blocks back to the kernel at once, and the kernel clears every page that it gives
    again: a tenth of the time of an augmented batch and of a step of ResNetSE34V2 on a CPU, a quarter of
    ECAPA-TDNN's embeddings there. The process holds on to as much as it needed at most.
    """
    libc = ctypes.CDLL(None)
    said = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    if hasattr(libc, "gnu_get_libc_version") and not said:
        libc.mallopt(_MMAP_THRESHOLD, 2**31 - 1)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
