"""Making shards: plan, claims and parts, checked sources, writing, merging; indexing others' tars."""
