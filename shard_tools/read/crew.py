"""Doing many requests by as many threads as the slowness of their answers asks for.

Requests cost CPU, and answers cost waiting. A store that is near answers about as soon as the processor has
made the next requests, and more threads than a few would only be switched between; one that takes 30 ms needs
hundreds of requests under way. How long an answer takes is told by the quickest: the others wait for the
processor too, and the first of all for connections to be made.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from shard_tools.threads import LISTEN_S, PATIENCE_S, Threads

FEW = 16  # threads that are called for a store that answers at once
EACH_S = 1e-4  # of the processor's time for a request, about: so many more for each of these in an answer
LOOK_S = 0.002  # between two looks at whether more are to be called
CONNECT_S = 0.1  # that the first answers of all may take besides, for which connections are made

Item = TypeVar("Item")


class Crew:
    """The threads of a process, up to `most`, which are made as they are needed; several may use it at once.

    answer_s: how long the store takes to answer, as far as is known.
    """

    def __init__(self, most: int) -> None:
        self.answer_s = 0.0
        self._most = most
        self._threads = Threads(most, "ranges")
        self._latest: deque[float] = deque(maxlen=8)
        self._busy = 0
        self._counting = threading.Lock()

    def do(self, items: Sequence[Item], work: Callable[[Item], object]) -> tuple[int, BaseException] | None:
        """work(item) for each of `items`, begun in their order; nothing is under way afterwards.

        Returns the first that failed, by that order: its position and its error. Nothing is begun after one
        has failed, so that it does not depend on the threads. After an interrupt alone something may still be
        under way, which is waited for no longer than a moment.
        """
        errand = _Errand(items, work)
        began = time.perf_counter()
        try:
            while True:
                quickest = errand.quickest
                if not self.answer_s and errand.done <= FEW:  # none yet that waited for no connection
                    quickest = max(0.0, time.perf_counter() - began - CONNECT_S)
                elif quickest is None:
                    quickest = self.answer_s
                self._call(errand, FEW + int(quickest / EACH_S))
                if errand.wait(LOOK_S if errand.waiting else LISTEN_S):
                    break
        except BaseException:  # an interrupt, whose sender waits
            errand.give_up()
            try:
                errand.wait(PATIENCE_S)
            finally:
                self._leave(errand)
            raise
        if errand.quickest is not None:
            self._latest.append(errand.quickest)
            self.answer_s = min(self._latest)  # a processor that is taken away makes all answers of one slow
        return errand.failure

    def _call(self, errand: _Errand[Item], wanted: int) -> None:
        """Set more threads to work on it, until `wanted` are busy in all."""
        with self._counting:
            number = min(min(wanted, self._most) - self._busy, len(errand.waiting))
            if not errand.helped:
                number = max(number, 1)
            number = max(number, 0)
            self._busy += number
            errand.helpers += number
        called = 0
        try:
            while called < number:
                self._threads.submit(self._help, errand)
                called += 1
                errand.helped = True
        except RuntimeError:  # another's interrupt has just ended these threads
            called += 1
            self._help(errand)
        finally:  # an interrupt too, after which a notebook goes on with the same threads
            self._count_off(errand, number - called)

    def _help(self, errand: _Errand[Item]) -> None:
        try:
            errand.work_off()
        finally:
            self._count_off(errand, 1)

    def _count_off(self, errand: _Errand[Item], number: int) -> None:
        with self._counting:
            if not errand.abandoned:
                self._busy -= number
                errand.helpers -= number

    def _leave(self, errand: _Errand[Item]) -> None:
        """Count its helpers off, and let who comes next have other threads than those in the midst of it.

        An interrupt may have come between a helper's call and its counting: the errand's own sum holds.
        """
        with self._counting:
            self._busy -= errand.helpers
            errand.abandoned = True
            if errand.over:
                return
            before, self._threads = self._threads, Threads(self._most, "ranges")
        before.shutdown(wait=False)


class _Errand(Generic[Item]):
    """helped: whether any thread has been called; done: items; quickest: seconds that one took, at least;
    helpers: threads that are called and not back; abandoned: whether these are waited for no more."""

    def __init__(self, items: Sequence[Item], work: Callable[[Item], object]) -> None:
        self.waiting = deque(enumerate(items))
        # Held until it is over. An Event could be left locked by an interrupt of who waits for it.
        self._under_way = threading.Lock()
        self._under_way.acquire()
        self.helped = False
        self.helpers = 0
        self.abandoned = False
        self.done = 0
        self.quickest: float | None = None
        self._work = work
        self._left = len(items)  # not done, nor given up
        self._counting = threading.Lock()
        self._failures: list[tuple[int, BaseException]] = []

    @property
    def failure(self) -> tuple[int, BaseException] | None:
        return min(self._failures, key=lambda each: each[0]) if self._failures else None

    @property
    def over(self) -> bool:
        """Whether nothing is waiting or under way."""
        return self._left == 0

    def wait(self, seconds: float) -> bool:
        """Until it is over, which one may wait for; whether it is so after `seconds`."""
        return self.over or self._under_way.acquire(timeout=seconds)

    def work_off(self) -> None:
        """Do what nobody else does, until there is no more."""
        waiting, work, clock = self.waiting, self._work, time.perf_counter
        while True:
            try:
                position, item = waiting.popleft()
            except IndexError:
                return
            began = clock()
            try:
                work(item)
            except BaseException as error:
                self._failures.append((position, error))
                self.give_up()
            took = clock() - began
            with self._counting:
                if self.quickest is None or took < self.quickest:
                    self.quickest = took
                self.done += 1
                self._left -= 1
                if self._left == 0:
                    self._under_way.release()

    def give_up(self) -> None:
        """Begin nothing more."""
        while True:
            try:
                self.waiting.popleft()
            except IndexError:
                return
            with self._counting:
                self._left -= 1
                if self._left == 0:
                    self._under_way.release()
