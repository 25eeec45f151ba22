"""What went wrong with storage, as its users see it, and what an error of the system's own means.

What a store's own errors mean, its backend knows (`backends/`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import Literal

from shard_tools.errors import UserError

Missing = Literal["object", "bucket"]

_PASSING_ERRNOS = frozenset({errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET})


class StorageError(UserError):
    """Bytes could not be read or written; the text names the URL and says what to check.

    passing: whether the same may well succeed a little later, as with a store that is overloaded.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class MissingError(StorageError):
    """There is nothing at the URL; `bucket` is true when not even the bucket exists."""

    def __init__(self, text: str, *, bucket: bool = False) -> None:
        super().__init__(text)
        self.bucket = bucket


class ShortError(StorageError):
    """An object ends before what was to be read of it does; `size` is where it ends, as far as is known."""

    def __init__(self, text: str, *, size: int = 0) -> None:
        super().__init__(text)
        self.size = size


class ReplacedError(StorageError):
    """An object is no longer the one that this process has read of before."""


class LostUploadError(StorageError):
    """An upload was broken off by someone else before it was complete; what was sent of it is gone."""


class WrongAnswerError(ConnectionError):
    """A store answered with, or got, other bytes than it should have; asked again, it may do better.

    remedy: what it means that it never does.
    """

    def __init__(
        self, text: str, remedy: str = "whatever answers there cannot serve parts of objects"
    ) -> None:
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True)
class Verdict:
    """What an error means.

    advice: one line for the user, without the URL; missing: whether there is no object, or not even its
    bucket; passing: whether the same request may well succeed a little later; tries: how many requests
    it is worth at most, where that is not as many as the policy allows (1: the client has tried again
    by itself).
    """

    advice: str
    missing: Missing | None = None
    passing: bool = False
    tries: int | None = None


def judge_system(error: BaseException) -> Verdict:
    """What an error means that the operating system, or Python itself, has raised."""
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        missing: Missing | None = "object" if isinstance(error, NotADirectoryError) else None
        return Verdict("a file is where a folder should be; give another place", missing=missing)
    if isinstance(error, FileNotFoundError):
        return Verdict("does not exist", missing="object")
    if isinstance(error, PermissionError):
        return Verdict("permission denied; check the owner and mode of the file and its folder")
    if isinstance(error, IsADirectoryError):
        return Verdict("is a folder, not a file")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return Verdict(f"no space left on the disk{where}; free some, or choose another place")
    return Verdict(brief(error), passing=_passes(error))


def explain(error: BaseException, path: str) -> str:
    """One line: the path, what the system found there, and what to check."""
    return f"{path}: {judge_system(error).advice}"


def is_passing(error: BaseException) -> bool:
    """Whether what failed may well succeed a little later: an error of storage, or what it brought about."""
    return any(link.passing if isinstance(link, StorageError) else _passes(link) for link in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: clients translate each other's errors and keep them as `__cause__`."""
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        link = link.__cause__


def brief(error: BaseException) -> str:
    """The error's own words on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split()).partition("?")[0]  # without the query of a URL
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__


def _passes(error: BaseException) -> bool:
    return any(
        isinstance(link, (TimeoutError, ConnectionError, IncompleteRead))
        or (isinstance(link, OSError) and link.errno in _PASSING_ERRNOS)
        for link in chain(error)
    )
