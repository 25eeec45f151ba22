"""Several datasets as one: utterances, shards and speakers of the first, then of the second, and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int64Array, UInt32Array
from shard_tools.audio.flac_frames import Piece
from shard_tools.dataset.joined_speakers import JoinedSpeakers
from shard_tools.dataset.lazy import Chained
from shard_tools.dataset.table import Column, UtteranceTable


class JoinedTable:
    """An UtteranceTable of several. Others of an utterance's speaker are those of its own dataset."""

    def __init__(self, tables: Sequence[UtteranceTable], speakers: JoinedSpeakers) -> None:
        self.tables = tuple(tables)
        self.url = ", ".join(table.url for table in tables)
        self.digest = hashlib.sha256("\n".join(table.digest for table in tables).encode()).hexdigest()
        self.speakers = speakers.names
        self.grown_from: dict[str, int] = {}  # what is added to one moves the others' labels
        self.hours = sum(table.hours for table in tables)
        self.folders = tuple(folder for table in tables for folder in table.folders)
        self.shard_urls = Chained([table.shard_urls for table in tables])
        self.shard_sizes = Chained([table.shard_sizes for table in tables])
        self.shard_sha256 = Chained([table.shard_sha256 for table in tables])
        self.has_block_crcs = all(table.has_block_crcs for table in tables)
        # The number of each dataset's first utterance and shard, and the end.
        self.first = np.cumsum([0, *(len(table) for table in tables)], dtype=np.int64)
        self.first_shard = np.cumsum([0, *(len(table.shard_urls) for table in tables)], dtype=np.int64)
        shards = [
            first + np.arange(len(each.shard_urls))
            for first, each in zip(self.first_shard, tables, strict=False)
        ]
        self.shard: Column[np.int32] = _JoinedColumn(self, "shard", np.int32, shards)
        self.label: Column[np.int32] = _JoinedColumn(self, "label", np.int32, speakers.labels)
        self.frames: Column[np.int64] = _JoinedColumn(self, "frames", np.int64)
        self.codec: Column[np.uint8] = _JoinedColumn(self, "codec", np.uint8)
        self.offset: Column[np.int64] = _JoinedColumn(self, "offset", np.int64)
        self.size: Column[np.int64] = _JoinedColumn(self, "size", np.int64)
        self.pcm_offset: Column[np.int64] = _JoinedColumn(self, "pcm_offset", np.int64)
        self.flac = _JoinedPieces(self)

    def __len__(self) -> int:
        return int(self.first[-1])

    def key(self, u: int) -> str:
        """The key of utterance `u` in its own dataset."""
        number, own = self.locate(u)
        return self.tables[number].key(own)

    def block_crcs(self, shard: int) -> UInt32Array:
        """As the dataset's own."""
        number = int(np.searchsorted(self.first_shard, shard, side="right")) - 1
        return self.tables[number].block_crcs(shard - int(self.first_shard[number]))

    def others(self, u: int, *, elsewhere: bool) -> Int64Array:
        """Other utterances that the dataset of `u` has of its speaker; see UtteranceTable."""
        number, own = self.locate(u)
        return self.tables[number].others(own, elsewhere=elsewhere) + self.first[number]

    def locate(self, u: int) -> tuple[int, int]:
        """The dataset of utterance `u`, and its number there."""
        number = int(np.searchsorted(self.first, u, side="right")) - 1
        return number, u - int(self.first[number])


class _JoinedColumn:
    """A column of a JoinedTable; meaning: for each dataset, what each of its values is among all."""

    def __init__(
        self,
        joined: JoinedTable,
        name: str,
        kind: type[np.generic],
        meaning: Sequence[npt.NDArray[np.integer]] | None = None,
    ) -> None:
        self._joined = joined
        self._name = name
        self._kind = kind
        self._meaning = meaning

    def __getitem__(self, rows: Any) -> Any:
        wanted = np.asarray(rows, np.int64)
        flat = wanted.reshape(-1)
        of = np.searchsorted(self._joined.first, flat, side="right") - 1
        found: npt.NDArray[Any] = np.empty(len(flat), self._kind)
        for number in np.unique(of).tolist():
            own = np.flatnonzero(of == number)
            column = getattr(self._joined.tables[number], self._name)
            values = column[flat[own] - self._joined.first[number]]
            found[own] = values if self._meaning is None else self._meaning[number][values]
        return found.reshape(wanted.shape) if wanted.ndim else found[0]


class _JoinedPieces:
    """The FLAC tables of a JoinedTable."""

    def __init__(self, joined: JoinedTable) -> None:
        self._joined = joined

    def piece(self, u: int, start: int, count: int, *, samples: int, size: int) -> Piece | None:
        """See FrameTables.piece; None where the dataset has no tables at all, too."""
        number, own = self._joined.locate(u)
        tables = self._joined.tables[number].flac
        return None if tables is None else tables.piece(own, start, count, samples=samples, size=size)
