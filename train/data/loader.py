"""A run's batches, made by reading processes or here, for as long as a `with` lasts.

    with open_loader(stream, first, last, workers=2, prefetch=4) as batches:
        for batch in batches: ...

However the loader is left (at its end, by break, by an error, forgotten, or with the interpreter),
its processes end with it. Waiting for a batch ends when one comes, when its process has
met an error or died, and soon after a signal asked the run to stop.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.storage.errors import is_passing
from shard_tools.threads import joined
from train.data.pipeline import Stream
from train.data.readers import ReadingProcess, StartMethod, keep_freed_memory
from train.life.failure import RankError
from train.life.signals import flag

logger = logging.getLogger("train")

Batch = dict[str, Any]

# After a signal a batch has so long to come: less than torchrun and SLURM leave between it and a kill.
GRACE_S = 10.0
TELL_S = 60.0  # between two words about a batch that does not come
# A slow store is waited for; beyond this, and the time that its requests may take, a process hangs.
HANGS_S = 3600.0
_POLL_S = 0.2


class NoBatchError(RankError):
    """The next batch has not come, and is waited for no longer."""

    def __init__(self, text: str) -> None:
        super().__init__(text, passing=True)


class Loader:
    """An iterator over batches (see Stream.finish), and a context manager that ends what makes them.

    Raises RankError for what cannot be read, and NoBatchError. What `close` ends is ended too when
    the loader is collected as garbage, and when the interpreter ends.
    """

    def __init__(self, take: Callable[[], Batch], close: Callable[[], None]) -> None:
        """take: the next batch, or StopIteration; close: must not hold this loader."""
        self._take = take
        self._close = weakref.finalize(self, _unless_forked, os.getpid(), close)
        # The last registered is the first called. multiprocessing's own waits for processes that heed no
        # SIGTERM, and weakref's own may have been registered before that.
        atexit.register(self._close)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._close.alive:
            raise StopIteration
        try:
            return self._take()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. Further calls do nothing; the iterator is at its end."""
        self._close()
        atexit.unregister(self._close)


def open_loader(
    stream: Stream,
    first: int,
    last: int,
    *,
    workers: int,
    prefetch: int,
    pin_memory: bool = False,
    start_method: StartMethod | None = None,
) -> Loader:
    """The batches of steps [first, last), in order, made by `workers` processes (0: in this one).

    prefetch: finished batches that each process holds at most; pin_memory: hand them over in pinned
    memory, for the current GPU; start_method: multiprocessing's, fork unless the data is remote and this
    process has read by a client that no fork survives (`storage.keep_forkable` keeps it from that): then
    forkserver, which like spawn loads torch anew and sends the stream to each process. Raises UserError
    where there is no memory, or no process to be had.
    """
    keep_freed_memory()
    workers = min(workers, last - first)
    if workers <= 0:
        made = stream.made(range(first, last))
        return Loader(lambda: _next(made), made.close)
    method = start_method or ("fork" if storage.forkable() or not stream.remote else "forkserver")
    if method == "fork":
        stream.plan_for_all(first)
    readers: list[ReadingProcess] = []
    try:
        for worker in range(workers):
            steps = range(first + worker, last, workers)
            readers.append(ReadingProcess(stream, steps, prefetch, readers, method))
    except BaseException:
        _end(readers)
        raise
    taking = _Taking(readers, first, last, pin_memory)
    return Loader(taking.take, taking.close)


class _Taking:
    """Takes the batches from the reading processes, in turn, in a thread that is one ahead.

    The thread copies while the training computes. Worker w of W made every W-th step, so that one
    of each in turn gives back the steps in their order.
    """

    def __init__(self, readers: Sequence[ReadingProcess], first: int, last: int, pin_memory: bool) -> None:
        self._readers = readers
        self._steps = range(first, last)
        self._given = 0
        self._device = torch.cuda.current_device() if pin_memory else None
        self._taken: queue.Queue[Batch | BaseException] = queue.Queue(1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def take(self) -> Batch:
        """The next batch, or what kept it from coming. Raises StopIteration after the last."""
        if self._given == len(self._steps):
            raise StopIteration
        patience = _Patience(self._steps[self._given], self._reader(self._given))
        while True:
            try:
                found = self._taken.get(timeout=_POLL_S)
                break
            except queue.Empty:
                patience.count(_POLL_S)
        if isinstance(found, BaseException):
            raise found
        self._given += 1
        return found

    def close(self) -> None:
        self._closed.set()
        for reader in self._readers:
            reader.kill()
        joined(self._thread)
        _end(self._readers)

    def _reader(self, number: int) -> ReadingProcess:
        return self._readers[number % len(self._readers)]

    def _run(self) -> None:
        try:
            if self._device is not None:
                torch.cuda.set_device(self._device)  # a thread has its own, and pinning is a GPU's business
            for number in range(len(self._steps)):
                reader = self._reader(number)
                while not reader.arrived(_POLL_S):
                    if self._closed.is_set():
                        return
                self._put(reader.take(pin_memory=self._device is not None))
        except BaseException as error:
            self._put(error)

    def _put(self, item: Batch | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._taken.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue


class _Patience:
    """How long the batch of a step is waited for.

    Counted in looks rather than by a clock, so that a job that was suspended has not waited.
    """

    def __init__(self, step: int, reader: ReadingProcess) -> None:
        self._step = step
        self._reader = reader
        self._waited = 0.0
        self._since_signal = 0.0
        self._told = 0.0

    def count(self, seconds: float) -> None:
        """Count a look that found no batch. Raises NoBatchError when it was the last."""
        self._waited += seconds
        if flag.number is not None:
            self._since_signal += seconds
            if self._since_signal >= GRACE_S:
                raise NoBatchError(
                    f"the batch of step {self._step} has not come {GRACE_S:.0f} s after "
                    f"{flag.number.name}: {self._reader.describe()}"
                )
        if self._waited >= HANGS_S + _longest_request_s():
            raise NoBatchError(
                f"the batch of step {self._step} has not come for {self._waited / 60:.0f} minutes: "
                f"{self._reader.describe()}; look at what it reads from"
            )
        if self._waited - self._told >= TELL_S:
            self._told = self._waited
            doing = self._reader.describe()
            logger.warning(
                "the batch of step %d has not come for %.0f s: %s", self._step, self._waited, doing
            )


def _longest_request_s() -> float:
    """What data.storage allows one request to take, with all its tries."""
    policy = storage.current_policy()
    once = policy.connect_timeout_s + policy.read_timeout_s
    return policy.attempts * once + policy.first_wait_s * 2.0 ** (policy.attempts - 1)


def _next(made: Iterator[Batch]) -> Batch:
    try:
        return next(made)
    except RankError:
        raise
    except UserError as error:
        raise RankError(str(error), passing=is_passing(error)) from error


def _end(readers: Sequence[ReadingProcess]) -> None:
    for reader in readers:
        reader.kill()
    for reader in readers:
        reader.end()


def _unless_forked(owner: int, close: Callable[[], None]) -> None:
    """A process that was forked meanwhile has the loader too, and must not end what is not its own."""
    if os.getpid() == owner:
        close()
