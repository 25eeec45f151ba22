"""Which version of each shard this process reads: the entity tag of its first answer (RFC 9110, 8.8.3).

A shard that is replaced while a run reads it would give crops of other audio under the old labels, and those
who check no sums would never know.
"""

from __future__ import annotations

from shard_tools.storage.errors import ReplacedError

_known: dict[str, str] = {}


def known(url: str) -> str | None:
    """What later requests for the object at `url` should name in If-Match."""
    return _known.get(url)


def require(url: str, found: str | None) -> None:
    """Raise ReplacedError where an answer has another tag than the first one had.

    Weak tags are passed over: they are equal for objects of other bytes, and match no If-Match.
    """
    if found and not found.startswith("W/") and _known.setdefault(url, found) != found:
        raise replaced(url)


def replaced(url: str) -> ReplacedError:
    return ReplacedError(
        f"{url}: was replaced while it was being read: its ETag is no longer {known(url)}; put back what was"
        " there, or start again from what its folder holds now"
    )


def forget() -> None:
    """All of them."""
    _known.clear()
