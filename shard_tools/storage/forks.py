"""Whether this process may read by a client that no fork survives.

obstore's runtime has threads, locks and an epoll instance of its own. A child that was forked after its
parent has read by it waits for the threads for ever, even with a store of its own, and what it registers with
the epoll instance, which both have, crashes the parent. So such a child must read by fsspec instead.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator

_used = False  # in this process
_inherited = False  # used in a process that this one was forked from
_kept = False  # this process is to fork readers
_readying: set[int] = set()  # threads that are about to use it; counting them would not be atomic


def keep_forkable() -> None:
    """From now on this process reads without threads that a fork would lose, since it will fork readers.

    They may use what it does without. What was used before is past mending: see `forkable`.
    """
    global _kept
    _kept = True


def forkable() -> bool:
    """Whether processes that are forked from this one read as fast as others."""
    return not (_used or _inherited)


def may_use() -> bool:
    """Whether the client that no fork survives may be used here."""
    return not (_kept or _inherited)


def use() -> None:
    """Told before it is used."""
    global _used
    _used = True


@contextlib.contextmanager
def about_to_use() -> Iterator[None]:
    """Inside, a thread gets it ready, with a lock for which a child that is forked would wait for ever."""
    _readying.add(threading.get_ident())
    try:
        yield
    finally:
        _readying.discard(threading.get_ident())


_held: list[object] = []


def _keep_inherited() -> None:
    """Let no client of the parent's be destroyed here, as fsspec would at its first use in a child.

    Parent and child share the epoll of its event loop: a socket that is closed in the child leaves it, and
    the parent would wait for its next answer for ever.
    """
    s3fs = sys.modules.get("s3fs")
    asyn = sys.modules.get("fsspec.asyn")
    if s3fs is not None:
        _held.extend(s3fs.S3FileSystem._cache.values())
    if asyn is not None:
        _held.extend((asyn.loop[0], asyn.iothread[0]))
    gc.freeze()


def _in_child() -> None:
    global _used, _inherited, _kept
    _keep_inherited()
    _inherited = _inherited or _used or bool(_readying)
    _used = _kept = False
    _readying.clear()


os.register_at_fork(after_in_child=_in_child)
