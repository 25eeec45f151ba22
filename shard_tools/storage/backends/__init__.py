"""Kinds of storage, and which of them a URL belongs to."""

from shard_tools.storage.backends.choose import lacks_obstore, local_path, place_at
from shard_tools.storage.backends.contract import Place, Upload

__all__ = ["Place", "Upload", "lacks_obstore", "local_path", "place_at"]
