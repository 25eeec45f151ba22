"""Which version of each shard this process reads: the entity tag of its first answer (RFC 9110, 8.8.3).

A shard that is replaced while a run reads it would give crops of other audio under the old labels, and those
who check no sums would never know.
"""

from __future__ import annotations

from shard_tools.storage.errors import ReplacedError

_known: dict[str, str] = {}
_versions: dict[str, str] = {}  # of folders, as whoever opened them last has named them


def known(url: str) -> str | None:
    """What later requests for the object at `url` should name in If-Match."""
    return _known.get(url)


def require(url: str, found: str | None) -> None:
    """Raise ReplacedError where an answer has another tag than the first one had.

    Weak tags are passed over: they are equal for objects of other bytes, and match no If-Match.
    """
    if found and not found.startswith("W/") and _known.setdefault(url, found) != found:
        raise replaced(url)


def opened(folder: str, version: str) -> None:
    """Told that what lies below the URL `folder` is opened, and which version of it.

    Where that is another than was opened before, as in a notebook that packs anew, the objects may be others.
    """
    if _versions.setdefault(folder, version) != version:
        _versions[folder] = version
        for url in [each for each in list(_known) if each.startswith(f"{folder.rstrip('/')}/")]:
            _known.pop(url, None)


def replaced(url: str) -> ReplacedError:
    return ReplacedError(
        f"{url}: was replaced while it was being read: its ETag is no longer {known(url)}; put back what was"
        " there, or start again from what its folder holds now"
    )


def forget() -> None:
    """All of them."""
    _known.clear()
    _versions.clear()
