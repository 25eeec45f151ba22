"""Whether this process may read by a client that no fork survives.

obstore's runtime has threads, locks and an epoll instance of its own. A child that was forked after its
parent has read by it waits for the threads for ever, even with a store of its own, and what it registers with
the epoll instance, which both have, crashes the parent. So such a child must read by fsspec instead.
"""

from __future__ import annotations

import os

_used = False  # in this process
_inherited = False  # used in a process that this one was forked from
_kept = False  # this process is to fork readers


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


def _in_child() -> None:
    global _used, _inherited, _kept
    _inherited = _inherited or _used
    _used = _kept = False


os.register_at_fork(after_in_child=_in_child)
