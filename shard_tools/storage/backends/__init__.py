"""Kinds of storage, and which of them a URL belongs to."""

from shard_tools.storage.backends.choose import local_path, place_at
from shard_tools.storage.backends.contract import Place

__all__ = ["Place", "local_path", "place_at"]
