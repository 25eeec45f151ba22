"""Utterances that training leaves out (data.exclude): found in the datasets, and taken from what is planned.

An epoch is planned over what is left as if there were no more. Numbers of utterances, labels and the
manifest's digest stay those of the whole dataset, so that checkpoints fit with and without a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int64Array
from shard_tools.dataset.catalogue import Catalogue
from shard_tools.dataset.key_list import check_all_found, read_keys, some
from shard_tools.dataset.shardwise import ShardwiseCatalogue
from shard_tools.dataset.table import UtteranceTable
from shard_tools.errors import UserError
from train.plan import WindowUtterances

_LABEL = 32  # bits below a label in the key of a turn
_HOPS = 16  # shards that are looked into for a speaker's other utterances


def find_excluded(
    tables: Sequence[Catalogue | ShardwiseCatalogue], lists: str | Sequence[str | None] | None
) -> list[Int64Array]:
    """Of each dataset the utterances that `lists` name, ascending; int64.

    lists: of all datasets together, or one of each. By windows the indexes of all shards are read once.

    Raises UserError for keys that no dataset has, or several in a list for all of them.
    """
    none = np.empty(0, np.int64)
    if lists is None:
        return [none for _ in tables]
    if isinstance(lists, str):
        return _of_all(tables, lists)
    found = []
    for table, url in zip(tables, lists, strict=True):
        if url is None:
            found.append(none)
            continue
        keys = read_keys(url)
        rows = table.find_all(set(keys))
        check_all_found(f"data.exclude {url}", keys, rows, table.url)
        found.append(_ascending(rows.values()))
    return found


def _of_all(tables: Sequence[Catalogue | ShardwiseCatalogue], url: str) -> list[Int64Array]:
    keys = read_keys(url)
    wanted = set(keys)
    each = [table.find_all(wanted) for table in tables]
    owners: dict[str, int] = {}
    for rows in each:
        for key in rows:
            owners[key] = owners.get(key, 0) + 1
    check_all_found(f"data.exclude {url}", keys, owners, ", ".join(table.url for table in tables))
    twice = [key for key in keys if owners[key] > 1]
    if twice:
        raise UserError(
            f"data.exclude {url}: several datasets have {len(twice)} of its keys: {some(twice)}; give a list "
            f"of {len(tables)} files, one of each dataset, or null for one that is used whole"
        )
    return [_ascending(rows.values()) for rows in each]


def _ascending(rows: Collection[int]) -> Int64Array:
    return np.sort(np.fromiter(rows, np.int64, len(rows)))


def digest_of(excluded: Int64Array) -> str:
    """What a checkpoint keeps of the utterances that are left out: SHA-256 in hex, "" for none."""
    return hashlib.sha256(excluded.astype("<i8").tobytes()).hexdigest() if len(excluded) else ""


def left_of(count: int, excluded: Int64Array) -> Int64Array | None:
    """The utterances of 0 … count - 1 that are left, ascending, or None where nothing is left out."""
    return np.delete(np.arange(count, dtype=np.int64), excluded) if len(excluded) else None


def emptied(catalogue: Catalogue, excluded: Int64Array) -> tuple[str, ...]:
    """The speakers of whom all utterances are excluded."""
    gone = np.bincount(catalogue.label[excluded], minlength=len(catalogue.speakers))
    had = np.bincount(catalogue.label, minlength=len(catalogue.speakers))
    return tuple(catalogue.speakers[label] for label in np.flatnonzero((gone == had) & (had > 0)))


@dataclass(frozen=True, eq=False)
class Sieve:
    """Takes excluded utterances out of windows, and counts their speakers' others anew.

    rows: int64, ascending, of the catalogue; turns: int64, label << 32 | turn of each, ascending;
    emptied: the speakers of whom nothing is left.
    """

    rows: Int64Array
    turns: Int64Array
    emptied: tuple[str, ...] = ()

    @classmethod
    def of(cls, catalogue: ShardwiseCatalogue, rows: Int64Array) -> Sieve:
        """Reads the indexes of the shards that hold them, no more at a time than the catalogue keeps."""
        if not len(rows):
            return cls(rows, rows)
        block = catalogue.shards_of(rows) // catalogue.held
        parts = np.split(rows, np.flatnonzero(np.diff(block)) + 1)
        columns = [(catalogue.label[part], catalogue.turn[part], catalogue.total[part]) for part in parts]
        label, turn, total = (np.concatenate(each) for each in zip(*columns, strict=True))
        gone = np.bincount(label, minlength=len(catalogue.speakers))
        empty = np.unique(label[gone[label] == total])
        return cls(rows, np.sort(_turn_keys(label, turn)), tuple(catalogue.speakers[own] for own in empty))

    def left(self, rows: Int64Array) -> Int64Array:
        """Those of `rows` that are not excluded, in their order."""
        return rows[~np.isin(rows, self.rows)] if len(self.rows) else rows

    def recounted(self, found: WindowUtterances, label: npt.NDArray[Any]) -> WindowUtterances:
        """`found` with each one's turn and total among what its speaker has left.

        label: of the catalogue, whatever the speed.
        """
        if not len(self.rows):
            return found
        first = np.searchsorted(self.turns, _turn_keys(label, np.zeros_like(found.turn)))
        end = np.searchsorted(self.turns, _turn_keys(label + 1, np.zeros_like(found.turn)))
        before = np.searchsorted(self.turns, _turn_keys(label, found.turn)) - first
        return replace(found, turn=found.turn - before, total=found.total - (end - first))


def _turn_keys(label: npt.NDArray[Any], turn: npt.NDArray[Any]) -> Int64Array:
    return (label.astype(np.int64) << _LABEL) | turn.astype(np.int64)


def others_left(table: UtteranceTable, u: int, *, elsewhere: bool, excluded: Int64Array) -> Int64Array:
    """As UtteranceTable.others, without what is excluded: where a shard has no more, of a later one."""
    if not len(excluded):
        return table.others(u, elsewhere=elsewhere)
    at = u
    for _ in range(_HOPS):
        others = table.others(at, elsewhere=elsewhere)
        left = others[~np.isin(others, excluded)]
        left = left[left != u]
        if len(left) or (elsewhere and not len(others)):
            return left
        at = int(others[0]) if elsewhere else at
        elsewhere = True
    return np.empty(0, np.int64)
