"""Counting what is asked of storage, on any kind of it."""

from __future__ import annotations

import functools
from collections import Counter

import pytest

from shard_tools.storage.backends.fsspec import FsspecPlace
from shard_tools.storage.backends.local import LocalPlace

_VERBS = ("check", "size", "modified", "read", "read_exactly", "names")


def count_requests(patch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file or object has been asked for from now on, by its name."""
    counts: Counter[str] = Counter()
    for place in (LocalPlace, FsspecPlace):
        for verb in _VERBS:
            patch.setattr(place, verb, _counted(getattr(place, verb), counts))
    return counts


def _counted(verb, counts):
    @functools.wraps(verb)
    def ask(place, *arguments):
        where = getattr(place, "url", None) or place.path
        counts[where.rpartition("/")[2]] += 1
        return verb(place, *arguments)

    return ask
