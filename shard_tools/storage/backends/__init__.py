"""Kinds of storage, and which of them a URL belongs to."""

from shard_tools.storage.backends.choose import (
    forks_are_faster,
    lacks_obstore,
    local_path,
    place_at,
    ready_forks,
)
from shard_tools.storage.backends.contract import Place, Upload

__all__ = [
    "Place",
    "Upload",
    "forks_are_faster",
    "lacks_obstore",
    "local_path",
    "place_at",
    "ready_forks",
]
