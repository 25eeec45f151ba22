"""Which remote noise and rooms a run has copied to each node, and into which folder (augment.copy)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from shard_tools.cache.copies import NodeCopies
from shard_tools.cache.node_folder import in_memory, make_own, usual_folder
from shard_tools.cache.shard import CachedShard, CacheError
from train.augment.sections import CopyConfig
from train.config.sections import DataConfig

logger = logging.getLogger("train")

# The folder keeps what earlier jobs had brought as long as all is no more than this times what one may bring.
_KEPT = 2


def open_copies(
    config: CopyConfig, data: DataConfig, wanted: Sequence[Sequence[CachedShard]], *, eager: bool
) -> NodeCopies | None:
    """Copies of the shards of remote datasets, or None where none are to be had; the log says why.

    wanted: the shards of each dataset; eager: see NodeCopies.
    """
    room = int(config.max_gib * 2**30)
    if not wanted or not room:
        return None
    chosen, passed_over = _that_fit(wanted, room)
    if passed_over:
        logger.info(
            "noise and rooms: shards of %.4g GiB are read from where they lie: augment.copy.max_gib is %g",
            passed_over / 2**30, config.max_gib,
        )  # fmt: skip
    if not chosen:
        return None
    folder = _folder(config, data)
    if folder is None:
        return None
    copies = NodeCopies(folder, chosen, room=_KEPT * room, spare=_unfilled(data), eager=eager)
    try:
        copies.prepare()
    except CacheError as error:
        logger.warning(
            "noise and rooms are read from where they lie: %s (augment.copy.max_gib 0 brings none)", error
        )
        return None
    return copies


def _that_fit(wanted: Sequence[Sequence[CachedShard]], room: int) -> tuple[list[CachedShard], int]:
    """The shards of the smallest datasets, as many as fit; and the bytes of the others."""
    chosen: dict[str, CachedShard] = {}
    left: dict[str, int] = {}
    for shards in sorted(wanted, key=lambda shards: sum(shard.size for shard in shards)):
        more = {shard.sha256: shard for shard in shards if shard.sha256 not in chosen}
        if sum(shard.size for shard in (chosen | more).values()) <= room:
            chosen |= more
        else:
            left |= {sha256: shard.size for sha256, shard in more.items()}
    return list(chosen.values()), sum(left.values())


def _folder(config: CopyConfig, data: DataConfig) -> str | None:
    """Where copies go; None for nowhere, which the log says."""
    if config.folder is not None:
        return config.folder
    if data.cache.folder is None and in_memory(folder := usual_folder()):
        logger.info(
            "noise and rooms are read from where they lie: %s lies in memory; augment.copy.folder says where"
            " a disk of the node is", folder,
        )  # fmt: skip
        return None
    try:
        return folder_on_node(data)
    except CacheError as error:
        logger.warning("noise and rooms are read from where they lie: %s; give augment.copy.folder", error)
        return None


def folder_on_node(data: DataConfig) -> str:
    """Where a run keeps on a node what its processes share. Raises CacheError where it cannot be made."""
    if data.cache.folder is not None:
        return os.path.join(data.cache.folder, "copies")
    folder = usual_folder()
    make_own(folder)
    return os.path.join(folder, "copies")


def _unfilled(data: DataConfig) -> int:
    """Bytes that the cache of the training shards may still take of its disk."""
    if data.access != "cached" or data.cache.folder is None:
        return 0
    taken = 0
    try:
        with os.scandir(data.cache.folder) as entries:
            taken = sum(entry.stat().st_size for entry in entries if entry.is_file())
    except OSError:
        pass  # it is not there yet, or changes just now
    return max(int(data.cache.capacity * 2**30) - taken, 0)
