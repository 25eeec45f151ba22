"""What a reader, a plan and a cache need to know of a dataset: one protocol, whatever is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int64Array, UInt32Array
from shard_tools.audio.flac_frames import Piece

Number_co = TypeVar("Number_co", bound=np.generic, covariant=True)


class Column(Protocol[Number_co]):
    """A number of each utterance: indexed by int64 (B,), or by an int."""

    @overload
    def __getitem__(self, rows: Int64Array) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, rows: int) -> Number_co: ...


class PieceTable(Protocol):
    """Where the blocks of FLAC streams lie."""

    def piece(self, u: int, start: int, count: int, *, samples: int, size: int) -> Piece | None:
        """See FrameTables.piece."""


class UtteranceTable(Protocol):
    """The utterances of a dataset, numbered in shard order and within a shard in the tar's order.

    Catalogue has all of it in memory; ShardwiseCatalogue reads the indexes of shards as they are asked for,
    so that any column may raise what storage raises. See Catalogue for what the columns hold.
    """

    @property
    def url(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def speakers(self) -> Sequence[str]: ...
    @property
    def grown_from(self) -> Mapping[str, int]:
        """See Manifest.grown_from."""

    @property
    def hours(self) -> float: ...
    @property
    def folders(self) -> tuple[str, ...]:
        """Where its shards lie: the folder of each dataset."""

    @property
    def shard_urls(self) -> Sequence[str]: ...
    @property
    def shard_sizes(self) -> Sequence[int]: ...
    @property
    def shard_sha256(self) -> Sequence[str]: ...
    @property
    def shard(self) -> Column[np.int32]: ...
    @property
    def label(self) -> Column[np.int32]: ...
    @property
    def frames(self) -> Column[np.int64]: ...
    @property
    def codec(self) -> Column[np.uint8]: ...
    @property
    def offset(self) -> Column[np.int64]: ...
    @property
    def size(self) -> Column[np.int64]: ...
    @property
    def pcm_offset(self) -> Column[np.int64]: ...
    @property
    def flac(self) -> PieceTable | None: ...
    @property
    def has_block_crcs(self) -> bool: ...

    def __len__(self) -> int: ...

    def key(self, u: int) -> str: ...

    def block_crcs(self, shard: int) -> UInt32Array: ...

    def others(self, u: int, *, elsewhere: bool) -> Int64Array:
        """Other utterances of the speaker of `u`, empty where there are none.

        Of all, or those that cost least to reach: then elsewhere asks for another shard's.
        """
