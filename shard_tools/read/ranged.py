"""Byte ranges of shards on remote storage: few requests, many at a time, each answer checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.read.source import RangeError, Unheeding

# Ranges that lie no further apart are fetched by one request. In a tar of WAVs the headers and the JSON
# between two utterances take about 2 KiB, so whole neighbours join; and next to a crop of two seconds
# (64 KB) a gap is less than 5 %, so that what is fetched stays close to what is read.
GAP = 3072
# No joining beyond this: what requests under way hold in memory is this times the connections.
LONGEST = 8 * 2**20


@dataclass
class Span:
    """Bytes [start, end) of a shard, for the ranges at `positions` of a request."""

    shard: int
    start: int
    end: int
    positions: list[int] = field(default_factory=list)


def spans(shards: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> list[Span]:
    """The fewest spans that hold all ranges which are not empty, joined only across gaps of up to GAP."""
    made: list[Span] = []
    for position in sorted(range(len(lengths)), key=lambda p: (shards[p], offsets[p])):
        shard, start, end = shards[position], offsets[position], offsets[position] + lengths[position]
        if start == end:
            continue
        last = made[-1] if made else None
        near = last is not None and last.shard == shard and start - last.end <= GAP
        if last is None or not near or (end > last.end and end - last.start > LONGEST):
            made.append(last := Span(shard, start, end))
        last.end = max(last.end, end)
        last.positions.append(position)
    return made


class RangedSource(Unheeding):
    """Shards on storage that is asked over a network; see `ByteSource`. Picklable, and fork-safe.

    requests, fetched_bytes: answers that this object got, and the bytes in them.
    """

    at_once = False

    def __init__(self, urls: Sequence[str], sizes: Sequence[int]) -> None:
        """sizes: bytes of each shard, as the manifest says."""
        self._urls = urls
        self._sizes = sizes
        self.requests = 0
        self.fetched_bytes = 0

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer from `offsets[i]` of shard `shards[i]`; RangeError when the storage fails."""

        def fetch(span: Span) -> None:
            data = memoryview(
                storage.read_range(self._urls[span.shard], span.start, span.end, self._sizes[span.shard])
            )
            for position in span.positions:
                first = offsets[position] - span.start
                buffers[position][:] = data[first : first + len(buffers[position])]

        made = spans(shards, offsets, [len(buffer) for buffer in buffers])
        if len(made) == 1:
            self._settle(made[0], _outcome(fetch, made[0]), offsets, buffers)
            return
        threads = _threads()
        futures = [threads.submit(fetch, span) for span in made]
        try:
            for span, future in zip(made, futures, strict=True):
                self._settle(span, future.exception(), offsets, buffers)
        finally:
            # Nothing may write into the buffers after this returns.
            for future in futures:
                future.cancel()
            wait(futures)

    def _settle(
        self,
        span: Span,
        error: BaseException | None,
        offsets: Sequence[int],
        buffers: Sequence[memoryview],
    ) -> None:
        """Count a span that came; raise RangeError at one that did not, and any other error as it is."""
        if error is None:
            self.requests += 1
            self.fetched_bytes += span.end - span.start
            return
        if not isinstance(error, UserError):
            raise error
        guilty = span.positions
        if isinstance(error, storage.ShortError):
            guilty = [p for p in guilty if offsets[p] + len(buffers[p]) > error.size] or guilty
        url = self._urls[span.shard]
        raise RangeError(guilty[0], str(error).removeprefix(f"{url}: ")) from error


def _outcome(fetch: Callable[[Span], None], span: Span) -> BaseException | None:
    try:
        fetch(span)
    except Exception as error:
        return error
    return None


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _threads() -> ThreadPoolExecutor:
    """This process's threads, as many as requests may be under way; kept until it ends.

    By process, because threads do not survive a fork.
    """
    key = os.getpid(), storage.current_policy().connections
    if key not in _pools:
        _pools.clear()
        _pools[key] = ThreadPoolExecutor(key[1], thread_name_prefix="ranges")
    return _pools[key]
