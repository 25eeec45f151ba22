"""The speakers of several datasets as one label space.

Of a million names none is kept: they are told apart by their hashes, and those that have the same are
compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.dataset.lazy import Chained, Picked
from shard_tools.errors import UserError

SameSpeakers = Literal["refuse", "joined", "apart"]
_FEW = 3  # names in a message
_AT_ONCE = 1 << 16  # names that are looked for together


@dataclass(frozen=True, eq=False)
class JoinedSpeakers:
    """names: label order; a name may stand there twice where speakers are kept apart; labels: for each
    dataset int32 (its speakers,), the joined label of each of its own.
    """

    names: Sequence[str]
    labels: tuple[Int32Array, ...]


def join_speakers(
    urls: Sequence[str], speakers: Sequence[Sequence[str]], same: SameSpeakers
) -> JoinedSpeakers:
    """The first dataset's speakers in their order, then the second's that are not there yet, and so on.

    same: whether a name that several datasets have is one speaker ("joined"), one of each ("apart") or
    a mistake ("refuse"), for which UserError is raised. No dataset has a name twice.
    """
    total = 0
    labels: list[Int32Array] = []
    names: list[Sequence[str]] = []
    before: list[_Hashed] = []
    for number, own in enumerate(speakers):
        found = np.full(len(own), -1, np.int32)
        if same != "apart":
            hashed = _Hashed(own)
            of = np.full(len(own), -1, np.int32)  # the first dataset that has the name
            for earlier, other in enumerate(before):
                for first in range(0, len(own), _AT_ONCE):
                    left = first + np.flatnonzero(found[first : first + _AT_ONCE] < 0)
                    rows, places = other.common(hashed, left)
                    found[rows], of[rows] = labels[earlier][places], earlier
            if same == "refuse" and len(twice := np.flatnonzero(of >= 0)):
                earlier = int(of[twice[0]])
                raise _clash(urls[earlier], urls[number], Picked(own, np.flatnonzero(of == earlier)))
            before.append(hashed)
        new = np.flatnonzero(found < 0)
        found[new] = np.arange(total, total + len(new))
        total += len(new)
        names.append(own if len(new) == len(own) else Picked(own, new))
        labels.append(found)
    return JoinedSpeakers(Chained(names), tuple(labels))


class _Hashed:
    """The names of a dataset, to be looked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        # Python's own, of 64 bits and another one in each process: nobody can make names that share one.
        self.hashes = np.fromiter(map(hash, names), np.int64, len(names))
        self._order = np.argsort(self.hashes)
        self._unique = bool(np.all(np.diff(self.hashes[self._order])))

    def common(self, other: _Hashed, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Those of the other's `rows` whose names are here, and their places here."""
        wanted = other.hashes[rows]
        place = np.searchsorted(self.hashes, wanted, sorter=self._order)
        hit = np.flatnonzero(place < len(self._order))
        here = self._order[place[hit]]
        same = self.hashes[here] == wanted[hit]
        hit, here = rows[hit[same]], here[same]
        equal = _equal(Picked(self._names, here), Picked(other._names, hit))
        return (hit, here) if self._unique and equal.all() else self._slowly(other, rows)

    def _slowly(self, other: _Hashed, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """As `common`, where two names have the same hash, which one run in ten million may see."""
        places = {name: place for place, name in enumerate(self._names)}
        both = [
            (row, places[name])
            for row, name in zip(rows.tolist(), Picked(other._names, rows), strict=True)
            if name in places
        ]
        found = np.array(both, np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]


def _equal(names: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.fromiter((a == b for a, b in zip(names, others, strict=True)), np.bool_, len(names))


def _clash(first: str, second: str, both: Sequence[str]) -> UserError:
    more = f" and {len(both) - _FEW} more" if len(both) > _FEW else ""
    return UserError(
        f"{first} and {second} both have speakers named {', '.join(islice(both, _FEW))}{more}: "
        "set data.same_speakers to joined if they are the same people, or to apart if they are not"
    )
