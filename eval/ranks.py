"""What the ranks of an evaluation share: rows of embeddings, and the first mistake that one of them finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.errors import UserError

_ROWS_BYTES = 32 << 20  # of one rank in one collective, so that a full GPU has room for it

Result = TypeVar("Result")


def rank_and_world() -> tuple[int, int]:
    """(0, 1) where torch.distributed is not initialised."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def together(work: Callable[[], Result]) -> Result:
    """`work()` on every rank, which all must ask for; a UserError on one of them is raised on all.

    Without this the others would wait for the one that failed, in the next collective, until it times out.
    """
    rank, world = rank_and_world()
    if world == 1:
        return work()
    result: list[Result] = []
    own: UserError | None = None
    try:
        result.append(work())
    except UserError as error:
        own = error
    texts: list[str | None] = [None] * world
    dist.all_gather_object(texts, None if own is None else str(own))
    first = next((number for number, text in enumerate(texts) if text is not None), None)
    if first is None:
        return result[0]
    if own is not None and first == rank:
        raise own
    raise UserError(str(texts[first])) from None


def require_same(names: Sequence[str]) -> None:
    """Raise UserError, on every rank, where `names` differ: of a folder that grows."""
    _, world = rank_and_world()
    if world == 1:
        return
    own = (len(names), hashlib.sha256("\0".join(names).encode()).digest())
    every: list[tuple[int, bytes] | None] = [None] * world
    dist.all_gather_object(every, own)
    if any(each != every[0] for each in every):
        found = ", ".join(f"{each[0]:,}" for each in every if each is not None)
        raise UserError(
            f"the ranks do not see the same utterances ({found} of them): let all nodes read one "
            "list or folder, which must not change meanwhile"
        )


def gather_rows(
    part: Float32Array, rows: Sequence[Int64Array], total: int, device: torch.device
) -> Float32Array:
    """All `total` rows on every rank, float32 (total, …), where `part` is this rank's of them.

    rows: which each rank has, by rank, each of them int64.
    """
    _, world = rank_and_world()
    out = np.empty((total, *part.shape[1:]), np.float32)
    if world == 1:
        out[rows[0]] = part
        return out
    longest = max(len(each) for each in rows)
    padded = np.zeros((longest, *part.shape[1:]), np.float32)
    padded[: len(part)] = part
    block = max(1, _ROWS_BYTES // max(1, padded[:1].nbytes))
    for first in range(0, longest, block):
        mine = torch.from_numpy(padded[first : first + block]).to(_through(device))
        parts = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(parts, mine)
        for theirs, places in zip(parts, rows, strict=True):
            some = places[first : first + block]
            out[some] = theirs.cpu().numpy()[: len(some)]
    return out


def from_first(array: Float32Array | None, device: torch.device) -> Float32Array:
    """Rank 0's array, float32 of any shape, on every rank."""
    _, world = rank_and_world()
    if world == 1:
        assert array is not None
        return array
    box = [None if array is None else array.shape]
    dist.broadcast_object_list(box, src=0)
    shape = box[0]
    assert shape is not None
    flat = np.empty(shape, np.float32).reshape(-1) if array is None else array.reshape(-1)
    for first in range(0, len(flat), _ROWS_BYTES // 4):
        block = torch.from_numpy(np.ascontiguousarray(flat[first : first + _ROWS_BYTES // 4]))
        block = block.to(_through(device))
        dist.broadcast(block, src=0)
        if array is None:
            flat[first : first + len(block)] = block.cpu().numpy()
    return flat.reshape(shape)


def _through(device: torch.device) -> torch.device:
    """NCCL moves only what is on a GPU; Gloo is given what is already in main memory."""
    return torch.device("cpu") if "gloo" in str(dist.get_backend()) else device
