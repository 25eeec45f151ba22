"""Byte ranges of shards on remote storage: few requests, many at a time, each answer checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.read.crew import Crew
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
        """Fill each buffer from `offsets[i]` of shard `shards[i]`; RangeError when the storage fails.

        Raises ReplacedError for a shard that is no longer what this process has read of it.
        """
        urls, sizes = self._urls, self._sizes

        def fetch(span: Span) -> None:
            shard, start = span.shard, span.start
            data = memoryview(storage.read_range(urls[shard], start, span.end, sizes[shard]))
            for position in span.positions:
                first, buffer = offsets[position] - start, buffers[position]
                buffer[:] = data[first : first + len(buffer)]
            came.append(len(data))

        came: list[int] = []
        made = spans(shards, offsets, [len(buffer) for buffer in buffers])
        try:
            if len(made) > 1:
                failure = _crew(storage.connections(urls[made[0].shard])).do(made, fetch)
                if failure is not None:
                    self._fail(made[failure[0]], failure[1], offsets, buffers)
            elif made:
                try:
                    fetch(made[0])
                except UserError as error:
                    self._fail(made[0], error, offsets, buffers)
        finally:
            self.requests += len(came)
            self.fetched_bytes += sum(came)

    def _fail(
        self, span: Span, error: BaseException, offsets: Sequence[int], buffers: Sequence[memoryview]
    ) -> NoReturn:
        """Raise RangeError for a span that storage did not give, and any other error as it is."""
        if not isinstance(error, UserError) or isinstance(error, storage.ReplacedError):
            raise error
        guilty = span.positions
        if isinstance(error, storage.ShortError):
            guilty = [p for p in guilty if offsets[p] + len(buffers[p]) > error.size] or guilty
        url = self._urls[span.shard]
        raise RangeError(guilty[0], str(error).removeprefix(f"{url}: ")) from error


_crews: dict[tuple[int, int], Crew] = {}


def _crew(most: int) -> Crew:
    """This process's threads, as many as requests may be under way; kept until it ends.

    By process, because threads do not survive a fork.
    """
    key = os.getpid(), most
    found = _crews.get(key)
    return _crews.setdefault(key, Crew(most)) if found is None else found  # other threads may ask just now
