"""A reading process: makes some steps' batches ahead of need and hands them over through a Room.

The two talk through one socket: notes of finished batches, or the error that ended it, come out; a
byte for each slot that is free again goes in. There is no queue, no thread and no file between
them, so that what the process has said is what has arrived.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.heaps import keep_freed_memory
from shard_tools.launched import end_with_parent
from shard_tools.storage.errors import is_passing
from train.data.handover import Note, Room
from train.data.pipeline import Stream
from train.life.failure import RankError, explained, node_name
from train.life.signals import ignore

StartMethod = Literal["fork", "forkserver", "spawn"]
_FREE = b"\0"
_END_S = 5.0  # for the kernel to end a process that is killed


@dataclass(frozen=True)
class _Failed:
    """Why a reading process ended early.

    passing: as RankError's; None for a defect, whose text is its traceback.
    """

    text: str
    passing: bool | None


class ReadingProcess:
    """Makes the batches of `steps` in a process of its own, at most `prefetch` finished ones ahead of need.

    siblings: those that were started before for the same loader; method: how processes are started.
    """

    def __init__(
        self,
        stream: Stream,
        steps: Sequence[int],
        prefetch: int,
        siblings: Sequence[ReadingProcess],
        method: StartMethod = "fork",
    ) -> None:
        forked = method == "fork"
        self._room = Room(min(prefetch, len(steps)), stream.most_bytes, forked=forked)
        self._connection, theirs = multiprocessing.Pipe()
        inherited = [self._connection, *(each._connection for each in siblings)] if forked else []
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([__name__])  # loads torch once, rather than in every process
        # A server of forks has the environment of its own start, without credentials that were set since.
        environment = dict(os.environ) if method == "forkserver" else None
        # A fork shares the plan and the catalogue, megabytes for a million utterances; others get copies.
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work,
            args=(stream, steps, self._room, theirs, inherited, storage.current_policy(), environment),
            daemon=True,
        )
        try:
            self._process.start()
        except OSError as error:
            raise UserError(
                f"a reading process cannot be started ({error.strerror}): lower data.workers, or raise the "
                "limit of processes or memory"
            ) from error
        finally:
            theirs.close()
            self._room.close()

    def arrived(self, seconds: float) -> bool:
        """Wait for something to `take`: a batch, or the word that there will be none."""
        return bool(wait([self._connection, self._process.sentinel], seconds))

    def take(self, *, pin_memory: bool) -> dict[str, Any]:
        """The next batch. Raises RankError where the process met an error or ended, else RuntimeError."""
        try:
            found: Note | _Failed = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._lost() from None
        if isinstance(found, _Failed):
            if found.passing is None:
                raise RuntimeError(f"a defect in a reading process:\n{found.text}")
            raise RankError(found.text, passing=found.passing)
        batch = self._room.take(found, pin_memory=pin_memory)
        with contextlib.suppress(ConnectionError):  # it has ended, having made its last batch
            self._connection.send_bytes(_FREE)
        return batch

    def describe(self) -> str:
        """What the process is doing, in the kernel's eyes."""
        try:
            state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return f"reading process {self._process.pid}"
        doing = {
            "R": "is at work",
            "D": "waits for a disk or file system",
            "S": "waits for storage or the like",
        }
        stopped = {"T": "is stopped by a signal", "t": "is stopped by a debugger"}
        return f"reading process {self._process.pid} {(doing | stopped).get(state, 'has ended')}"

    def kill(self) -> None:
        """It holds nothing that would need an orderly end: a shared cache outlives any death of its users."""
        self._process.kill()

    def end(self) -> None:
        """Wait for the end of a process that was killed, and free what it had here."""
        self._process.join(_END_S)
        self._connection.close()
        if self._process.exitcode is not None:
            self._process.close()

    def _lost(self) -> RankError:
        self._process.join(_END_S)
        code = self._process.exitcode
        how = f"with exit status {code}"
        if code is not None and code < 0:
            how = f"by {signal.Signals(-code).name}"
        memory = (
            " (a kill by the kernel is most often for want of memory: lower data.workers, data.prefetch or "
            "data.ahead_mib)"
        )
        return RankError(
            f"a reading process ended {how} on {node_name()}{memory if code == -signal.SIGKILL else ''}",
            passing=True,
        )


def _work(
    stream: Stream,
    steps: Sequence[int],
    room: Room,
    connection: Connection,
    inherited: Sequence[Connection],
    patience: storage.StoragePolicy,
    environment: dict[str, str] | None,
) -> None:
    end_with_parent()
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    storage.configure(patience)
    ignore()
    for each in inherited:  # so that each process notices when the other end of its own is gone
        each.close()
    keep_freed_memory()
    gc.freeze()  # what was loaded stays: collections would look at it, and so copy it, all the time
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, ConnectionError):  # the one that is read for has gone
        failed = _hand_over(stream, steps, room, connection)
        if failed is not None:
            connection.send(failed)


def _hand_over(stream: Stream, steps: Sequence[int], room: Room, connection: Connection) -> _Failed | None:
    """Make the batches and hand them over; returns why it ended early, or None.

    An error of the socket itself is raised.
    """
    made = enumerate(stream.made(steps))
    while True:
        try:
            number, batch = next(made)
        except StopIteration:
            return None
        except Exception as error:
            return _failed(error)
        if number >= room.slots:
            connection.recv_bytes()
        connection.send(room.put(number % room.slots, batch))


def _failed(error: Exception) -> _Failed:
    known = error if isinstance(error, UserError) else explained(error)
    if known is None:
        return _Failed(traceback.format_exc(), None)
    passing = known.passing if isinstance(known, RankError) else is_passing(known)
    return _Failed(str(known), passing)
