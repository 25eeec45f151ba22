"""Which kind of storage a URL belongs to."""

from __future__ import annotations

from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from shard_tools.storage.backends.contract import Place
from shard_tools.storage.backends.fsspec import FsspecPlace
from shard_tools.storage.backends.local import LocalPlace


def place_at(url: str) -> Place:
    """What `url` names, with its verbs; nothing is asked for yet."""
    path = local_path(url)
    return FsspecPlace(url) if path is None else LocalPlace(path)


def local_path(url: str) -> str | None:
    """The path in this machine's file system when `url` is one, else None.

    "::" chains fsspec's filesystems where the first part names one of them; else it is part of a name.
    """
    scheme, separator, _ = url.partition("://")
    if separator:
        return str(LocalFileSystem._strip_protocol(url)) if scheme in ("file", "local") else None
    first, chained, _ = url.partition("::")
    return None if chained and first in known_implementations else url
