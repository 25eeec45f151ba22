"""Threads for what waits for a store: who waits for them can be interrupted, and then waits for no answer.

Threads of concurrent.futures are waited for when their pool ends and once more when the interpreter does, and
a request of a client that is not written in Python lets no signal through: a Ctrl-C would do nothing until
the time-out of a store that is silent. These are daemons, which an interrupt leaves behind with what they
wait for.

Nor does the main thread wait for them without an end: a signal that comes after Python has last looked
for one and before the kernel is asked to wait ends no wait, and would be heard of when that is over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

PATIENCE_S = 0.5  # for an answer that is about to come, after an interrupt
LISTEN_S = 0.5  # that a signal which came at a bad moment goes unheard

Result = TypeVar("Result")


def patiently(over: Callable[[float], bool]) -> None:
    """Until over(seconds), which waits so long at most, is true: however long that is, signals are heard."""
    while not over(LISTEN_S):
        pass


def joined(thread: threading.Thread) -> None:
    """thread.join(), during which signals are heard."""

    def ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    patiently(ended)


def awaited(future: Future[Result]) -> Result:
    """future.result(), during which signals are heard."""
    try:
        _until_done(future)
        return future.result()
    finally:
        del future  # the error's traceback has this frame


def _until_done(future: Future[Any]) -> None:
    if not future.done():
        # One that was cancelled is done, though `wait` may not be told of it.
        patiently(lambda seconds: bool(wait([future], seconds).done) or future.done())


class _Awaited(Future[Result]):
    def result(self, timeout: float | None = None) -> Result:
        try:
            if timeout is None:
                _until_done(self)
            return super().result(timeout)
        finally:
            del self  # as above


class Threads(Executor):
    """Up to `most` threads, made as they are needed; they end with `shutdown`, or with the process.

    At the end of a `with` all that was given to them is waited for. After an error nothing more is begun;
    after what is none, as an interrupt or the end of a generator, what is under way is left behind soon.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # tasks that wait or are under way
        self._ended = False
        self._lock = threading.Lock()  # of all of these

    def submit(self, work: Callable[..., Result], /, *args: Any, **named: Any) -> Future[Result]:
        """As an Executor. Raises RuntimeError after the end.

        Where no more threads can be had, those that are there do it, and who asks where there is none.
        """
        future: Future[Result] = _Awaited()
        task = partial(work, *args, **named)
        with self._lock:
            if self._ended:
                raise RuntimeError("these threads have ended")
            if len(self._threads) < min(self._unfinished + 1, self._most):
                self._begin()
            self._unfinished += 1
            if self._threads:
                self._tasks.put((future, task))
                return future
        self._do(future, task)
        failure = future.exception()
        if failure is not None and not isinstance(failure, Exception):  # an interrupt of who asks
            raise failure
        return future

    def _begin(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        with contextlib.suppress(RuntimeError):  # this process, or its user, has as many as may be
            thread.start()
            self._threads.append(thread)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._end(cancel_futures)
        if wait:
            for thread in self._threads:
                joined(thread)

    def leave(self) -> None:
        """End, begin nothing more, and wait but a moment for what is under way."""
        self._end(cancel=True)
        until = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self.shutdown(cancel_futures=kind is not None)
        else:
            self.leave()

    def _end(self, cancel: bool) -> None:
        with self._lock:
            self._ended = True
            while cancel:
                try:
                    task = self._tasks.get_nowait()
                except Empty:
                    break
                if task is not None:
                    task[0].cancel()
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._do(*task)
            del task  # nothing is kept while the next is waited for
        self._tasks.put(None)  # for another, be it one that an interrupt kept from being noted down

    def _do(self, future: Future[Any], work: Callable[[], Any]) -> None:
        error, result = None, None
        begun = future.set_running_or_notify_cancel()
        if begun:
            try:
                result = work()
            except BaseException as raised:
                error = raised
        with self._lock:
            self._unfinished -= 1
        if begun and error is not None:
            future.set_exception(error)
        elif begun:
            future.set_result(result)
        del future, work, error, result  # the error's traceback has this frame


_beside: Threads | None = None  # the one thread that the main thread waits for


def interruptibly(work: Callable[[], Result]) -> Result:
    """work(), which in the main thread can be interrupted: it runs in another one, and is left there."""
    global _beside
    if threading.current_thread() is not threading.main_thread():
        return work()
    thread = _beside = _beside or Threads(1, "request")
    future: Future[Result] | None = None
    try:
        future = thread.submit(work)
        return future.result()
    finally:
        if future is None or not future.done():
            _beside = None
            thread.shutdown(wait=False)


def _in_child() -> None:
    global _beside
    _beside = None  # no thread survives a fork


os.register_at_fork(after_in_child=_in_child)
