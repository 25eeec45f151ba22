"""Open files that carry advisory locks (flock), and what a fork must do about them.

A flock belongs to the open file, which a forked child shares: left alone, a child
would keep alive what its parent released, or a download whose process was killed.
So a child closes its copies at once, which leaves the parent's locks as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from typing import Protocol

SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX


class LockFile:
    """A file opened for its lock, which ends with close(), with this object, or with the process."""

    def __init__(self, path: str, flags: int) -> None:
        """Open `path`; raises OSError as os.open does."""
        self.path = path
        self.fd = -1
        with _guard:
            self.fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
            _open_files.add(self)

    def lock(self, kind: int) -> bool:
        """Take the lock, or change it, without waiting; False when another open file's lock forbids it."""
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the lock, even where a child that is just being forked shares the file."""
        with _guard:
            if self.fd < 0:
                return
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)
            os.close(self.fd)
            self.fd = -1
            _open_files.discard(self)

    def __del__(self) -> None:
        self.close()


class Forgetful(Protocol):
    def forget(self) -> None:
        """Become as new: called in a forked child, where another process's state is none of its business."""


def forget_after_fork(item: Forgetful) -> None:
    """Have `item.forget()` called in every child that this process forks."""
    with _guard:
        _forgetful.add(item)


# Re-entrant, since the garbage collector may run LockFile.__del__ at any point. Held through a
# fork, so that no file is open there which is not in the list.
_guard = threading.RLock()
_open_files: weakref.WeakSet[LockFile] = weakref.WeakSet()
_forgetful: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def _in_child() -> None:
    for file in list(_open_files):
        os.close(file.fd)
        file.fd = -1
    _open_files.clear()
    for item in list(_forgetful):
        item.forget()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_in_child)
