"""What a cache's folder answers to a process that wants a shard."""

from __future__ import annotations

from dataclasses import dataclass

from shard_tools.cache.locks import LockFile


@dataclass(frozen=True)
class Present:
    """The shard lies there, whole; `file` holds it."""

    file: LockFile


@dataclass(frozen=True)
class Claim:
    """The shard is the caller's to download into `file`, which must be published or abandoned."""

    file: LockFile


@dataclass(frozen=True)
class Busy:
    """Someone else is downloading it; `progress` changes as long as that gets on."""

    progress: tuple[int, int]


@dataclass(frozen=True)
class Full:
    """There is no room. Bytes: held by jobs, reserved by downloads, free on the disk.

    disk: the disk is what is too small, not the capacity; hopeless: nothing is held
    or under way whose end could make room.
    """

    held: int
    arriving: int
    free: int
    disk: bool
    hopeless: bool


@dataclass(frozen=True)
class Later:
    """There was no room a moment ago, and nothing was let go of since."""
