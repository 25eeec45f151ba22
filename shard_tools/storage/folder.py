"""A folder of storage as a value: what works at one URL is handed this, and names files in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shard_tools.storage import door


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies directly below `url`, a path or a prefix, which need not exist yet.

    The verbs are those of the door (`shard_tools.storage`), with its errors. It holds no connection: it
    may be pickled and used by other processes.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def at(self, name: str) -> str:
        """The URL of the file `name`."""
        return door.join(self.url, name)

    def names(self) -> list[str]:
        """Base names of what is here, sorted; [] when there is no such folder."""
        return door.list_names(self.url)

    def exists(self, name: str) -> bool:
        return door.exists(self.at(name))

    def size(self, name: str) -> int:
        """In bytes."""
        return door.size(self.at(name))

    def modified(self, name: str) -> float:
        """When it was last written, in seconds since 1970."""
        return door.modified(self.at(name))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes [start, end) of a file, or all of it."""
        return door.read_bytes(self.at(name), start, end)

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """The bytes of many small files, read concurrently, in the order of `names`."""
        return door.read_many([self.at(name) for name in names])

    def publish(self, name: str, data: bytes) -> None:
        """Put `data` there, whole or not at all; what was there is replaced."""
        door.publish_bytes(self.at(name), data)

    def take(self, local_file: str, name: str) -> None:
        """Put a local file there, likewise; it is gone afterwards."""
        door.publish_file(local_file, self.at(name))

    def upload(self, name: str) -> door.Upload | None:
        """A file that is sent there while it is made; None where the kind of storage has no such thing."""
        return door.upload(self.at(name))

    def remove(self, name: str) -> None:
        """It is fine when there is none."""
        door.remove(self.at(name))

    def remove_drafts(self, ours: Callable[[str], bool]) -> list[str]:
        """Remove what killed writers left of files whose names are `ours`; returns its names."""
        return door.remove_drafts(self.url, ours)
