"""The one door to bytes at any URL: a path, file://, s3://, memory://, and what else fsspec opens.

Reads are retried, and what is published is whole or absent. Each kind of storage has its backend.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Literal, TypeVar

from shard_tools.storage.backends import Place, Upload, local_path, place_at
from shard_tools.storage.errors import MissingError, Verdict
from shard_tools.storage.policy import current_policy
from shard_tools.storage.retries import guarded
from shard_tools.threads import Threads, interruptibly

DOWNLOAD_PART = 16 * 2**20
_TRIES_TO_CLEAR = 3

Result = TypeVar("Result")


def join(url: str, *names: str) -> str:
    """`url/name/name…`, whatever the kind of URL; a trailing slash of `url` does not matter."""
    folder = url if url.endswith("://") else url.rstrip("/") + "/"
    return folder + "/".join(names)


def kind(path: str) -> Literal["file", "folder", "other"] | None:
    """What lies at `path` on this machine; "other" is a device or a pipe, None is nothing.

    Raises StorageError where the system cannot say: no permission, a disk out of reach.
    """
    try:
        mode = guarded(path, lambda: os.stat(path).st_mode)
    except MissingError:
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def exists(url: str) -> bool:
    """Whether there is a file, object or folder at `url`."""
    try:
        _ask(url, lambda place: place.check())
    except MissingError:
        return False
    return True


def size(url: str) -> int:
    """Bytes of the file or object at `url`. Raises MissingError when there is none."""
    return _ask(url, lambda place: place.size())


def modified(url: str) -> float:
    """When the file or object at `url` was last written, in seconds since 1970; S3 gives whole seconds."""
    return _ask(url, lambda place: place.modified())


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes [start, end) of the object at `url`, or all of it; shorter when the object ends before `end`."""
    return _ask(url, lambda place: place.read(start, end))


def read_range(url: str, start: int, end: int, size: int) -> bytes | memoryview:
    """Exactly bytes [start, end), not empty, of the object at `url`, which should have `size` bytes.

    Raises ShortError when it has fewer than `end`, StorageError when it has another size
    or when the store still fails, or answers with other bytes, after all attempts, and ReplacedError when
    it is no longer the object that this process read a range of before, as far as the store tells.
    """
    return _ask(url, lambda place: place.read_exactly(start, end, size))


def connections(url: str) -> int:
    """Requests for ranges of objects like the one at `url` that may be under way at once in this process."""
    return current_policy().at_once(place_at(url).at_once)


def read_many(urls: Sequence[str]) -> list[bytes]:
    """The bytes of many small objects, read concurrently, in the order of `urls`."""
    if len(urls) < 2 or local_path(urls[0]) is not None:
        return [read_bytes(url) for url in urls]
    with Threads(min(current_policy().at_once(), len(urls)), "small objects") as threads:
        return list(threads.map(read_bytes, urls))


def fetch(url: str, local_file: str) -> None:
    """Copy the object at `url` to a local file, a part at a time."""
    total = size(url)
    with open(local_file, "wb") as file:
        for start in range(0, total, DOWNLOAD_PART):
            file.write(read_bytes(url, start, min(start + DOWNLOAD_PART, total)))


def list_names(url: str) -> list[str]:
    """Base names directly under a folder or prefix, sorted; [] when there is no such folder.

    A bucket that does not exist is a StorageError, not an empty list.
    """
    try:
        return sorted(_ask(url, lambda place: place.names()))
    except MissingError as error:
        if error.bucket:
            raise
        return []


def publish_bytes(url: str, data: bytes) -> None:
    """Put `data` at `url`, whole or not at all; what was there is replaced."""
    _ask(url, lambda place: place.write(data))


def publish_file(local_file: str, url: str) -> None:
    """Put a local file at `url`, whole or not at all; the local file is gone afterwards."""
    place = place_at(url)
    guarded(url, lambda: place.take(local_file), place.judge, retry=not place.moves)


def upload(url: str) -> Upload | None:
    """An object that is sent to `url` while it is made; None where only whole files can be put.

    Whoever takes one publishes or abandons it. Raises StorageError, as its verbs do.
    """
    place = place_at(url)
    return guarded(url, place.upload, place.judge)


def remove(url: str) -> None:
    """Remove the file or object at `url`; it is fine when there is none."""
    with contextlib.suppress(MissingError):
        _ask(url, lambda place: place.remove())


def remove_drafts(url: str, ours: Callable[[str], bool]) -> list[str]:
    """Remove what killed writers left under temporary names in the folder `url`; returns these names.

    ours: whether a file of this name, as it would have been published, is of those to clear up after.
    Only where nobody else writes such files at the moment. Raises StorageError where the storage refuses, or
    fails a few times: what is left costs space alone, so that callers may go on.
    """
    place = place_at(url)

    def judge(error: BaseException) -> Verdict:
        verdict = place.judge(error)
        return replace(verdict, tries=min(verdict.tries or _TRIES_TO_CLEAR, _TRIES_TO_CLEAR))

    try:
        return guarded(url, lambda: place.remove_drafts(ours), judge)
    except MissingError:
        return []


def _ask(url: str, verb: Callable[[Place], Result]) -> Result:
    """`verb` of what lies at `url`, with retries; whatever fails in the end is a StorageError.

    A retry may be by another client: of one whose credentials have expired a new one has been made.
    """
    place = place_at(url)
    places = chain([place], iter(partial(place_at, url), None))

    def ask() -> Result:
        return verb(next(places))

    return guarded(url, ask if place.lets_signals_in else partial(interruptibly, ask), place.judge)
