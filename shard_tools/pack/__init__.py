"""Making shards: plan, claims and parts, checked sources, writing, merging; indexing others' tars."""

from shard_tools.pack.foreign import IndexSummary, index_tars
from shard_tools.pack.merging import MergeSummary, merge
from shard_tools.pack.packing import PackOptions, PackSummary, pack

__all__ = ["IndexSummary", "MergeSummary", "PackOptions", "PackSummary", "index_tars", "merge", "pack"]
