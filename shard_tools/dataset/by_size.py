"""A set opened as its size asks for: small ones whole, large ones an index at a time."""

from __future__ import annotations

from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.near import Near
from shard_tools.dataset.shardwise import ShardwiseCatalogue, begin_manifest, is_whole, open_shardwise


def open_by_size(
    url: str, *, whole: int, held: int, near: Near | None = None, begun: bytes | None = None
) -> Catalogue | ShardwiseCatalogue:
    """All columns of a set of up to `whole` utterances; of a larger one those of `held` shards at a time.

    The manifest is read once, unless it is as large as a table is made for. near, begun: see open_shardwise.
    """
    begun = begin_manifest(url) if begun is None else begun
    large = open_shardwise(url, held=held, near=near, begun=begun)
    if len(large) > whole:
        return large
    return open_catalogue(url, manifest=begun if is_whole(begun) else None)
