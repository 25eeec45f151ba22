"""Doing slow work on the next few items of a stream at once, in threads, and giving the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import TypeVar

from shard_tools.threads import Threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    depth: int,
    *,
    threads: int | None = None,
    first_alone: bool = False,
) -> Iterator[Result]:
    """work(item) of each item, in order; up to `depth` beyond the one that is waited for are begun.

    threads: that work, depth + 1 unless given; first_alone: begin no other before the first has been used,
    which is so sooner. With depth 0 nothing runs ahead, and no thread is made.
    `work` must not mind threads. The results that are held at a time are at most depth + 1. An error of
    `items` or of `work` is raised at its place, after the results of all items before it.
    """
    if depth == 0:
        yield from map(work, items)
        return
    under_way: deque[Future[Result]] = deque()
    failure: Exception | None = None
    source = iter(items)
    if first_alone:
        yield from map(work, islice(source, 1))
    with Threads(threads or depth + 1, "ahead") as pool:
        try:
            while True:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as error:  # of the item after those under way
                    failure = error
                    break
                under_way.append(pool.submit(work, item))
                if len(under_way) > depth:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
    if failure is not None:
        raise failure
