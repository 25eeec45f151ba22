"""Which kind of storage a URL belongs to.

fsspec, which loads for 0.2 s, is imported only for what is no plain path: every worker that starts asks here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from shard_tools.storage.backends.contract import Place
from shard_tools.storage.backends.local import LocalPlace
from shard_tools.storage.forks import forkable, may_use

OBSTORE_SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az"})


def place_at(url: str) -> Place:
    """What `url` names, with its verbs; nothing is asked for yet."""
    path = local_path(url)
    if path is not None:
        return LocalPlace(path)
    if url.partition("://")[0] in OBSTORE_SCHEMES and may_use():
        from shard_tools.storage.backends.obstore import place_of

        place = place_of(url)
        if place is not None:
            return place
    from shard_tools.storage.backends.fsspec import FsspecPlace

    return FsspecPlace(url)


def lacks_obstore(url: str) -> bool:
    """Whether `url` is one that obstore would read faster, if it were installed."""
    return url.partition("://")[0] in OBSTORE_SCHEMES and importlib.util.find_spec("obstore") is None


def forks_are_faster(url: str) -> bool:
    """Whether a child that is forked from this process reads `url` faster than this process is to."""
    if may_use() or not forkable() or url.partition("://")[0] not in OBSTORE_SCHEMES:
        return False
    return not lacks_obstore(url)


def ready_forks(urls: Iterable[str]) -> None:
    """Load and find out here what forked children need to read `urls`, once for all of them.

    What cannot be found is not: they say so.
    """
    faster = [url for url in urls if forks_are_faster(url)]
    if faster:
        from shard_tools.storage.backends import obstore_clients

        obstore_clients.make_ready(faster)


def local_path(url: str) -> str | None:
    """The path in this machine's file system when `url` is one, else None.

    "::" chains fsspec's filesystems where the first part names one of them; else it is part of a name.
    """
    scheme, separator, _ = url.partition("://")
    if separator:
        return _path_of(url) if scheme in ("file", "local") else None
    first, chained, _ = url.partition("::")
    return None if chained and _is_known(first) else url


def _path_of(url: str) -> str:
    from fsspec.implementations.local import LocalFileSystem

    return str(LocalFileSystem._strip_protocol(url))


def _is_known(scheme: str) -> bool:
    from fsspec.registry import known_implementations

    return scheme in known_implementations
