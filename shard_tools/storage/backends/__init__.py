"""Kinds of storage, and which of them a URL belongs to."""

from shard_tools.storage.backends.choose import local_path, place_at
from shard_tools.storage.backends.contract import Place, Upload

__all__ = ["Place", "Upload", "local_path", "place_at"]
