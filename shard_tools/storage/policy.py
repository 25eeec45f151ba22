"""How patiently storage is asked: tries, waits, time-outs, and how many requests may be under way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from shard_tools.errors import UserError


@dataclass(frozen=True)
class StoragePolicy:
    """One for a whole process; children that are forked from it inherit it.

    attempts: tries of one request, waiting about first_wait_s, twice that, … between them: by default
    half a minute in all, which a throttling store or a restarting gateway needs;
    connect_timeout_s: for a connection to be made; read_timeout_s: without a single byte, in an answer
    as before it; connections: requests of one process that are under way at once, at most; None for as many
    as the client does well with.

    Raises UserError for a value that is not positive.
    """

    attempts: int = 8
    first_wait_s: float = 0.25
    connect_timeout_s: float = 10
    read_timeout_s: float = 60
    connections: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UserError(f"storage policy: {field.name} is {value}; give a number above 0")

    def at_once(self, usual: int = 32) -> int:
        """Requests that may be under way at once, `usual` unless it was said."""
        return usual if self.connections is None else self.connections


_policy = StoragePolicy()


def configure(policy: StoragePolicy) -> None:
    """Ask storage by this policy from now on, in this process and in those it forks later."""
    global _policy
    _policy = policy


def current_policy() -> StoragePolicy:
    """The policy in force."""
    return _policy


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Inside, this process asks twice at most and waits 5 s for a byte: someone waits for its end."""
    before = current_policy()
    configure(
        replace(
            before,
            attempts=min(before.attempts, 2),
            connect_timeout_s=min(before.connect_timeout_s, 5),
            read_timeout_s=min(before.read_timeout_s, 5),
        )
    )
    try:
        yield
    finally:
        configure(before)
