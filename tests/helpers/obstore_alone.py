"""obstore's memory and local stores as storage of ours: what they write does not go through fsspec."""

from __future__ import annotations

import os
from pathlib import Path

import obstore
from obstore.store import LocalStore, MemoryStore

from shard_tools.storage.backends.obstore import ObstorePlace
from shard_tools.storage.backends.obstore_clients import Client, client_of


def client_at(folder: Path | None) -> Client:
    """A client of a store in `folder`, or in memory."""
    return Client(MemoryStore() if folder is None else LocalStore(folder), None)


class Writing:
    """The verbs of `contract.Place` that ObstorePlace leaves to fsspec."""

    def __init__(self, place: ObstorePlace) -> None:
        found = client_of(place.url)
        assert found is not None
        self._store, self._key = found[0].store, found[1]

    def write(self, data: bytes) -> None:
        obstore.put(self._store, self._key, data)

    def take(self, local_file: str) -> None:
        obstore.put(self._store, self._key, Path(local_file))
        os.unlink(local_file)

    def remove(self) -> None:
        obstore.delete(self._store, self._key)

    def upload(self) -> None:
        return None

    def remove_drafts(self, _: object) -> list[str]:
        return []
