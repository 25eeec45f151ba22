"""A process that reads for this one, by a client that this one is not to use: forked once, to stay.

`apart` forks for a piece of work, which suits the start of a run. A run by windows of shards looks up indexes
as it comes to them, when a fork would have threads of others (of a GPU, of collectives) to reckon with.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

from shard_tools import storage
from shard_tools.apart import may_fork
from shard_tools.errors import UserError
from shard_tools.launched import end_with_parent
from shard_tools.threads import patiently


def read_many(urls: Sequence[str]) -> list[bytes]:
    """storage.read_many, in the deputy of this process where that reads faster than this process may."""
    if urls and storage.forks_are_faster(urls[0]) and may_fork():
        found = _read_by_deputy(urls)
        if found is not None:
            return found
    return storage.read_many(urls)


_TRIES = 2


class _Deputy:
    """Raises OSError or EOFError where it cannot be had, or has ended."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._connection), daemon=True)
        try:
            self._process.start()
        finally:
            theirs.close()
        # Before multiprocessing ends its processes, by a SIGTERM, which this one does not heed, and waits.
        # atexit would do for a main program alone, not for a process that multiprocessing has started.
        Finalize(None, _end, exitpriority=0)

    def read_many(self, urls: Sequence[str]) -> list[bytes] | UserError | None:
        """None for an error that shows where it is met again."""
        self._connection.send((storage.current_policy(), list(urls)))
        patiently(self._connection.poll)
        found: list[bytes] | UserError | None = self._connection.recv()
        return found

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()


_deputy: _Deputy | None = None
_asking = threading.Lock()


def _read_by_deputy(urls: Sequence[str]) -> list[bytes] | None:
    """None where there is none to be had, or it met what is no UserError."""
    global _deputy
    with _asking:
        for _ in range(_TRIES):
            try:
                deputy = _deputy = _deputy or _Deputy()
            except OSError:  # no more processes are to be had
                return None
            whole = False
            try:
                found = deputy.read_many(urls)
                whole = True
            except (OSError, EOFError):  # it was killed
                continue
            finally:
                if not whole:  # an interrupt too, which leaves an answer on its way
                    _end()
            if isinstance(found, UserError):
                raise found
            return found
    return None


def _serve(connection: Connection, theirs: Connection) -> None:
    theirs.close()
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # sent to a whole job
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # what was there stays shared
    while True:
        try:
            policy, urls = connection.recv()
        except EOFError:
            return
        storage.configure(policy)
        connection.send(_found(urls))


def _found(urls: Sequence[str]) -> list[bytes] | UserError | None:
    try:
        return storage.read_many(urls)
    except UserError as error:
        return error
    except Exception:
        return None


def _end() -> None:
    global _deputy
    deputy, _deputy = _deputy, None
    if deputy is not None:
        deputy.end()


def _in_child() -> None:
    global _deputy, _asking
    _deputy, _asking = None, threading.Lock()  # which another thread may have held


os.register_at_fork(after_in_child=_in_child)
