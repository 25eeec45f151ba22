"""Columns of a ShardwiseCatalogue: indexed as arrays, gathered from the indexes of the shards asked for."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array

Number = TypeVar("Number", bound=np.generic)


class Gathering(Protocol):
    """What a catalogue does for its columns."""

    def gather(self, name: str, rows: Int64Array) -> npt.NDArray[Any]:
        """The column `name` at some rows, (B,)."""

    def shards_of(self, rows: Int64Array) -> Int64Array:
        """The shard of each row."""


class GatheredColumn(Generic[Number]):
    """A column by its name."""

    def __init__(self, catalogue: Gathering, name: str) -> None:
        self._catalogue = catalogue
        self._name = name

    @overload
    def __getitem__(self, rows: Int64Array) -> npt.NDArray[Number]: ...
    @overload
    def __getitem__(self, rows: int) -> Number: ...
    def __getitem__(self, rows: Any) -> Any:
        wanted = np.asarray(rows, np.int64)
        found = self._catalogue.gather(self._name, wanted.reshape(-1))
        return found.reshape(wanted.shape) if wanted.ndim else found[0]


class ShardColumn:
    """The column `shard`, for which no index is needed."""

    def __init__(self, catalogue: Gathering) -> None:
        self._catalogue = catalogue

    @overload
    def __getitem__(self, rows: Int64Array) -> Int32Array: ...
    @overload
    def __getitem__(self, rows: int) -> np.int32: ...
    def __getitem__(self, rows: Any) -> Any:
        return self._catalogue.shards_of(np.asarray(rows, np.int64)).astype(np.int32)
