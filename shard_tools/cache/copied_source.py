"""Reading shards from this node's copies of them where those are there, and else from where they lie."""

from __future__ import annotations

import os
from collections.abc import Sequence

from shard_tools.cache.copies import NodeCopies
from shard_tools.read.source import ByteSource, RangeError, Unheeding


class CopiedSource(Unheeding):
    """Shard i is the copy of digests[i] in `copies`, or, as long as there is none, shard i of `direct`.

    The bytes are the same: a copy has the SHA-256 of the manifest. One that cannot be read is given up.

    copied_bytes: that were read from copies.
    """

    def __init__(self, direct: ByteSource, copies: NodeCopies, digests: Sequence[str]) -> None:
        self.direct = direct
        self.copies = copies
        self.copied_bytes = 0
        self._digests = digests

    @property
    def at_once(self) -> bool:
        """Once all is here nothing is waited for."""
        return self.copies.complete

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """As ByteSource. Raises RangeError as `direct` does."""
        left = [
            position
            for position, shard in enumerate(shards)
            if not self._from_copy(self._digests[shard], offsets[position], buffers[position])
        ]
        if not left:
            return
        try:
            self.direct.fill(
                [shards[position] for position in left],
                [offsets[position] for position in left],
                [buffers[position] for position in left],
            )
        except RangeError as error:
            raise RangeError(left[error.position], error.reason) from error

    def _from_copy(self, digest: str, offset: int, buffer: memoryview) -> bool:
        if digest not in self.copies.shards:
            return False
        with self.copies.opened(digest) as file:
            if file is None:
                return False
            try:
                whole = os.preadv(file, (buffer,), offset) == len(buffer)
            except OSError:
                whole = False
            if not whole:
                self.copies.give_up(digest)
                return False
        self.copied_bytes += len(buffer)
        return True
