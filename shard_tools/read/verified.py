"""Reading only what has the CRC-32 that the index says: ranges widened to blocks, and each block checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shard_tools.arrays import UInt32Array
from shard_tools.checksum import crc32
from shard_tools.dataset.index import BLOCK_SIZE
from shard_tools.read.source import Filler, RangeError

logger = logging.getLogger(__name__)

# A store or a network that garbles one answer in thirty does not do so four times running.
REREADS = 3

BlockCrcs = Callable[[int], UInt32Array]


@dataclass(slots=True)
class _Range:
    """Blocks [first, last) of a shard as the three pieces that they are read into."""

    position: int
    shard: int
    first: int
    last: int
    offset: int
    head: memoryview
    body: memoryview
    tail: memoryview


class VerifiedSource:
    """A byte source that checks what another one delivers. Memory: two blocks a range besides the buffers.

    mismatches: ranges that held a wrong block at first; they are read again, REREADS times at most.
    """

    def __init__(self, source: Filler, sizes: Sequence[int], block_crcs: BlockCrcs) -> None:
        """sizes: bytes of each shard; block_crcs: gives the CRC-32 of each block of a shard."""
        self._source = source
        self._sizes = sizes
        self._block_crcs = block_crcs
        self.mismatches = 0

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer from `offsets[i]` of shard `shards[i]`.

        Raises RangeError when the source does, and when a block has another CRC-32 every time.
        """
        ranges = [
            self._widen(position, shard, offset, buffer)
            for position, (shard, offset, buffer) in enumerate(zip(shards, offsets, buffers, strict=True))
        ]
        for attempt in range(1 + REREADS):
            self._read(ranges)
            wrong = [(range_, words) for range_ in ranges if (words := self._check(range_)) is not None]
            if not wrong:
                return
            if attempt == 0:
                self.mismatches += len(wrong)
            if attempt == REREADS:
                range_, words = wrong[0]
                raise RangeError(range_.position, f"{words}, also when read {REREADS} times more")
            for range_, words in wrong:
                logger.warning("shard %d: %s; reading it once more", range_.shard, words)
            ranges = [range_ for range_, _ in wrong]

    def _widen(self, position: int, shard: int, offset: int, buffer: memoryview) -> _Range:
        size, end = self._sizes[shard], offset + len(buffer)
        if end > size:
            raise RangeError(position, f"the index reaches to byte {end} of a shard of {size}; pack again")
        first = offset - offset % BLOCK_SIZE
        last = min(end + -end % BLOCK_SIZE, size)
        head, tail = memoryview(bytearray(offset - first)), memoryview(bytearray(last - end))
        return _Range(position, shard, first, last, offset, head, buffer, tail)

    def _read(self, ranges: Sequence[_Range]) -> None:
        """Head, body and tail are ranges of their own, so that nothing is copied; they touch."""
        pieces = [
            (range_.position, range_.shard, offset, buffer)
            for range_ in ranges
            for offset, buffer in (
                (range_.first, range_.head),
                (range_.offset, range_.body),
                (range_.offset + len(range_.body), range_.tail),
            )
            if len(buffer)
        ]
        if not pieces:
            return
        positions, shards, offsets, buffers = zip(*pieces, strict=True)
        try:
            self._source.fill(shards, offsets, buffers)
        except RangeError as error:
            raise RangeError(positions[error.position], error.reason) from error

    def _check(self, range_: _Range) -> str | None:
        """The first block that is wrong, in words."""
        body = range_.body
        block = range_.first // BLOCK_SIZE
        blocks = -(-(range_.last - range_.first) // BLOCK_SIZE)
        expected_crcs = self._block_crcs(range_.shard)[block : block + blocks].tolist()
        crc = crc32(range_.head)
        begin, end = 0, BLOCK_SIZE - len(range_.head)
        for number, expected in enumerate(expected_crcs, 1):
            crc = crc32(body[begin:end], crc)
            if number == blocks:
                crc = crc32(range_.tail, crc)
            if crc != expected:
                start = range_.first + (number - 1) * BLOCK_SIZE
                stop = min(start + BLOCK_SIZE, range_.last)
                return f"bytes {start} to {stop} have CRC-32 {crc:08x}, the index says {expected:08x}"
            begin, end, crc = end, end + BLOCK_SIZE, 0
        return None
