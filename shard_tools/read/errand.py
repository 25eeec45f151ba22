"""Doing many requests by as many threads as the slowness of their answers asks for.

A store that is near answers sooner than a thread is woken, and a few threads are enough; one that takes 30 ms
needs hundreds of requests under way. So a few begin, and while nothing comes more are called.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

FIRST = 16  # threads
PATIENCE_S = 0.002  # without an answer, before as many threads more are called

Item = TypeVar("Item")


class Errand(Generic[Item]):
    """do(item) for each of `items`, begun in their order, until one fails.

    failure: the first that did, by that order, and its position. Nothing is begun after one has failed, so
    that it does not depend on the threads.
    """

    def __init__(self, items: Sequence[Item], do: Callable[[Item], object]) -> None:
        self._do = do
        self._waiting = deque(enumerate(items))
        self._left = len(items)  # not done, nor given up
        self._counting = threading.Lock()
        self._ended = threading.Event()
        self._failures: list[tuple[int, BaseException]] = []

    @property
    def failure(self) -> tuple[int, BaseException] | None:
        return min(self._failures, key=lambda each: each[0]) if self._failures else None

    def run(self, threads: ThreadPoolExecutor, most: int) -> None:
        """Do it all in at most `most` of `threads`; nothing is under way when this returns, or raises."""
        most = min(most, self._left)
        called = 0
        try:
            while True:
                wanted = min(max(FIRST, 2 * called), most)
                called += self._call(threads, wanted - called)
                left = self._left
                while not self._ended.wait(PATIENCE_S if called < most else None):
                    if self._left == left:
                        break
                    left = self._left
                else:
                    return
                if called < wanted:  # no more threads are to be had
                    most = called
        finally:
            self._give_up()
            self._ended.wait()

    def _call(self, threads: ThreadPoolExecutor, number: int) -> int:
        """How many threads have been called; where no more are to be had, this one helps."""
        for called in range(number):
            try:
                threads.submit(self._help)
            except RuntimeError:
                self._help()
                return called
        return number

    def _help(self) -> None:
        waiting, do = self._waiting, self._do
        while True:
            try:
                position, item = waiting.popleft()
            except IndexError:
                return
            try:
                do(item)
            except BaseException as error:
                self._failures.append((position, error))
                self._give_up()
            self._count(1)

    def _give_up(self) -> None:
        """Begin nothing more."""
        given_up = 0
        while True:
            try:
                self._waiting.popleft()
            except IndexError:
                break
            given_up += 1
        if given_up:
            self._count(given_up)

    def _count(self, number: int) -> None:
        with self._counting:
            self._left -= number
            if self._left == 0:
                self._ended.set()
