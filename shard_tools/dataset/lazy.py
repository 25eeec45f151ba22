"""Sequences whose items are made when they are asked for: a dataset's names without a million strings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int64Array
from shard_tools.dataset.manifest import ShardEntry, lies_below
from shard_tools.errors import UserError

Item = TypeVar("Item")
Made = TypeVar("Made")

_AT_ONCE = 4096  # names that are decoded together


class Columns(Protocol):
    """Who has the columns of a manifest, see manifest_table."""

    def column(self, name: str) -> npt.NDArray[Any]: ...


class Lazy(Sequence[Item], Generic[Item]):
    """A sequence by its length and its item at a place. Slices are tuples; it equals what has equal items."""

    @abstractmethod
    def at(self, place: int) -> Item:
        """The item at a place within the length."""

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return tuple(self.at(each) for each in range(*place.indices(len(self))))
        own = int(place)
        own += len(self) if own < 0 else 0
        if not 0 <= own < len(self):
            raise IndexError(place)
        return self.at(own)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: what is equal to a tuple would need its hash


class Names(Lazy[str]):
    """The names of speakers, shards or indexes."""

    def __init__(self, columns: Columns, kind: str) -> None:
        self._columns = columns
        self._kind = kind

    def __len__(self) -> int:
        return len(self._columns.column(f"{self._kind}_ends"))

    def at(self, place: int) -> str:
        return self._text(place, place + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            yield from self._text(first, min(first + _AT_ONCE, len(self)))

    def some(self, places: Int64Array) -> list[str]:
        """Those at these places."""
        ends = self._columns.column(f"{self._kind}_ends")
        text = self._columns.column(f"{self._kind}_names").data
        starts = np.where(places > 0, ends[places - 1], 0).tolist()
        return [str(text[a : b - 1], "utf-8") for a, b in zip(starts, ends[places].tolist(), strict=True)]

    def _text(self, first: int, last: int) -> list[str]:
        ends = self._columns.column(f"{self._kind}_ends")
        begin = int(ends[first - 1]) if first else 0
        text = self._columns.column(f"{self._kind}_names")[begin : int(ends[last - 1])].tobytes()
        return text.decode().split("\n")[: last - first]


class Numbers(Lazy[int]):
    """A column of int64, as ints; numpy takes it as it is."""

    def __init__(self, columns: Columns, name: str) -> None:
        self._columns = columns
        self._name = name

    def __len__(self) -> int:
        return len(self._columns.column(self._name))

    def at(self, place: int) -> int:
        return int(self._columns.column(self._name)[place])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._columns.column(self._name), dtype)


class Digests(Lazy[str]):
    """A column of SHA-256, as hex."""

    def __init__(self, columns: Columns, name: str) -> None:
        self._columns = columns
        self._name = name

    def __len__(self) -> int:
        return len(self._columns.column(self._name)) // 32

    def at(self, place: int) -> str:
        return self._columns.column(self._name)[32 * place : 32 * (place + 1)].tobytes().hex()


class Entries(Lazy[ShardEntry]):
    """The shards. UserError for one whose files would lie elsewhere than below the manifest's folder."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._names = Names(columns, "shard"), Names(columns, "index")
        self._digests = Digests(columns, "sha256"), Digests(columns, "index_sha256")

    def __len__(self) -> int:
        return len(self._names[0])

    def at(self, place: int) -> ShardEntry:
        count, size, frames = (
            int(self._columns.column(name)[place]) for name in ("nsamples", "filesize", "frames")
        )
        url, index = (names.at(place) for names in self._names)
        own, of_index = (digests.at(place) for digests in self._digests)
        for name in (url, index):
            require_below(name)
        return ShardEntry(url, count, size, own, frames, index, of_index)


class Mapped(Lazy[Made], Generic[Item, Made]):
    """`make` of each item of another sequence."""

    def __init__(self, items: Sequence[Item], make: Callable[[Item], Made]) -> None:
        self._items = items
        self._make = make

    def __len__(self) -> int:
        return len(self._items)

    def at(self, place: int) -> Made:
        return self._make(self._items[place])

    def __iter__(self) -> Iterator[Made]:
        return map(self._make, self._items)


class Picked(Lazy[str]):
    """The names at some places of others."""

    def __init__(self, names: Sequence[str], places: Int64Array) -> None:
        self._names = names
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: int) -> str:
        return self._names[int(self._places[place])]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            places = self._places[first : first + _AT_ONCE]
            if isinstance(self._names, Names):
                yield from self._names.some(places)
            else:
                yield from (self._names[place] for place in places.tolist())


class Chained(Lazy[Item]):
    """The items of several sequences, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Item]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def at(self, place: int) -> Item:
        number = int(np.searchsorted(self._ends, place, side="right"))
        return self._parts[number][place - int(self._ends[number - 1] if number else 0)]

    def __iter__(self) -> Iterator[Item]:
        for part in self._parts:
            yield from part


def require_below(name: str) -> str:
    """`name`, where it is that of a file below the manifest's folder; else UserError."""
    if not lies_below(name):
        raise UserError(f"{name[:120]!r} is no name of a file below the manifest's folder; pack again")
    return name
