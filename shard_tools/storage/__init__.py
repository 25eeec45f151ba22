"""The one door to bytes on any URL: ranged reads, retries, atomic publishing."""

from shard_tools.storage.backends import forks_are_faster, lacks_obstore, ready_forks
from shard_tools.storage.door import (
    DOWNLOAD_PART,
    connections,
    exists,
    fetch,
    join,
    kind,
    list_names,
    local_path,
    modified,
    publish_bytes,
    publish_file,
    read_bytes,
    read_many,
    read_range,
    remove,
    remove_drafts,
    size,
    upload,
)
from shard_tools.storage.errors import LostUploadError, MissingError, ReplacedError, ShortError, StorageError
from shard_tools.storage.etags import opened
from shard_tools.storage.folder import Folder
from shard_tools.storage.forks import forkable, keep_forkable
from shard_tools.storage.policy import StoragePolicy, configure, current_policy, hurried

__all__ = [
    "DOWNLOAD_PART",
    "Folder",
    "LostUploadError",
    "MissingError",
    "ReplacedError",
    "ShortError",
    "StorageError",
    "StoragePolicy",
    "configure",
    "connections",
    "current_policy",
    "exists",
    "fetch",
    "forkable",
    "forks_are_faster",
    "hurried",
    "join",
    "keep_forkable",
    "kind",
    "lacks_obstore",
    "list_names",
    "local_path",
    "modified",
    "opened",
    "publish_bytes",
    "publish_file",
    "read_bytes",
    "read_many",
    "read_range",
    "ready_forks",
    "remove",
    "remove_drafts",
    "size",
    "upload",
]
