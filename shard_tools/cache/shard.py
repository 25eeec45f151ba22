"""A shard as a cache is asked for it, and how a whole one is told from any other file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from shard_tools.errors import UserError


class CacheError(UserError):
    """The cache cannot give a shard; the text says which, why, and what to change."""


class ShardError(CacheError):
    """What storage gives for a shard is not what the manifest says: another shard may still be had."""


@dataclass(frozen=True)
class CachedShard:
    """A shard as its manifest describes it: absolute url, bytes, SHA-256 in lower-case hex."""

    url: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise CacheError(f"{self.url}: {self.sha256!r} is not a SHA-256 in lower-case hex; pack again")


def seal(shard: CachedShard) -> int:
    """The time of modification, in ns, of a whole shard: any later write to the file breaks it.

    Whole seconds, which every file system keeps.
    """
    return int(shard.sha256[:7], 16) * 10**9


def is_sound(found: os.stat_result, shard: CachedShard) -> bool:
    return found.st_size == shard.size and found.st_mtime_ns == seal(shard)
