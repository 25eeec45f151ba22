"""What a kind of storage must do to take part; `tests/shard_tools/storage/backends` holds each one to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shard_tools.storage.errors import Verdict


class Upload(Protocol):
    """An object that is sent while it is made. It cannot be seen before `publish` has returned.

    Other than a place's, these verbs try again by themselves, and raise StorageError.
    """

    @property
    def most(self) -> int:
        """Bytes that it can hold."""

    def write(self, data: bytes | memoryview) -> int:
        """Take all of `data`; returns its length."""

    def flush(self) -> None:
        """Nothing: that a file has it."""

    def publish(self) -> None:
        """Put the whole there; what was there is replaced. LostUploadError where another has aborted it."""

    def stop(self) -> None:
        """Make the verbs that other threads are in, and later ones, raise at once; `abandon` must follow."""

    def abandon(self) -> None:
        """Leave nothing of it, unless it is published; it may be done twice. Does not wait for long."""


class Place(Protocol):
    """A file, an object or a folder of one kind of storage, which need not exist.

    Each verb makes one attempt and raises what its client raises; `judge` says what such an error means.
    Trying again is done outside, by that verdict. A place is made anew for every call and holds no
    connection: processes are forked between calls.
    """

    def judge(self, error: BaseException) -> Verdict:
        """What an error means that one of the verbs has raised."""

    def check(self) -> None:
        """Raise what means "missing" unless there is a file, object or folder here."""

    def size(self) -> int:
        """Bytes of the file or object."""

    def modified(self) -> float:
        """When it was last written, in seconds since 1970."""

    def read(self, start: int | None, end: int | None) -> bytes:
        """Bytes [start, end), or from the beginning or to the end; fewer where it ends before `end`."""

    def read_exactly(self, start: int, end: int, size: int) -> bytes | memoryview:
        """Bytes [start, end), not empty, of what should have `size` bytes.

        Raises ShortError where it has fewer than `end`, StorageError where the store says that it has
        another size, ReplacedError where it says that this is not the object of an earlier answer to this
        process, WrongAnswerError where other bytes came.
        """

    def names(self) -> list[str]:
        """Base names directly under the folder, in any order, and never one of an earlier listing."""

    def write(self, data: bytes) -> None:
        """Put `data` here, whole or not at all; what was here is replaced, folders are made."""

    def take(self, local_file: str) -> None:
        """Put a local file here, likewise; it is gone afterwards. Not repeated where `moves` is true."""

    def upload(self) -> Upload | None:
        """Begin one; None where only whole files can be put. Nothing is asked for yet."""

    def remove(self) -> None:
        """Remove the file or object. Where there is none: nothing, or an error that means "missing"."""

    def remove_drafts(self, ours: Callable[[str], bool]) -> list[str]:
        """Remove what killed writers left in this folder of files whose names are `ours`; their names."""

    @property
    def moves(self) -> bool:
        """Whether `take` may have taken the file away before it fails, so that a second try finds none."""

    @property
    def at_once(self) -> int:
        """Requests that one process should have under way at once, unless it is told."""

    @property
    def lets_signals_in(self) -> bool:
        """Whether a verb that waits for an answer in the main thread lets a signal's handler run."""
