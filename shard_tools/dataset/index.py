"""The index of one shard: where each utterance lies in the tar, and checksums of fixed blocks of it.

On disk it is a .npz (a zip of .npy members) without pickle and without clock
times, so that the same shard has the same index to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array, UInt32Array
from shard_tools.audio.flac_frames import FrameTable
from shard_tools.dataset.index_check import problem_of
from shard_tools.dataset.index_columns import FLAC, WAV, ShardIndex
from shard_tools.dataset.stored_npz import array_of, bodies, write_members
from shard_tools.errors import UserError

__all__ = [
    "BLOCK_SIZE",
    "FLAC",
    "VERSION",
    "WAV",
    "ShardIndex",
    "from_bytes",
    "pack_keys",
    "pack_tables",
    "to_bytes",
]

VERSION = 2
BLOCK_SIZE = 8192

_DTYPES: dict[str, Any] = {
    "key_bytes": np.uint8,
    "key_ends": np.int64,
    "label": np.int32,
    "turn": np.int32,
    "total": np.int32,
    "next_shard": np.int32,
    "frames": np.int64,
    "codec": np.uint8,
    "offset": np.int64,
    "size": np.int64,
    "pcm_offset": np.int64,
    "flac_block": np.int32,
    "flac_offset": np.uint32,
    "block_crc32": np.uint32,
}
_REMEDY = "pack or index the shards again"
_SCALARS = ("block_size", "shard_size")
_DIGESTS = ("shard_sha256", "inputs")


def pack_keys(keys: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Int64Array]:
    """Keys as (key_bytes, key_ends)."""
    encoded = [key.encode() for key in keys]
    ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def pack_tables(
    tables: Sequence[FrameTable | None],
) -> tuple[Int32Array, UInt32Array]:
    """Tables of FLAC frames as (flac_block, flac_offset); None for what has none."""
    block = np.array([table.block if table else 0 for table in tables], np.int32)
    offsets = [table.offset for table in tables if table]
    return block, np.concatenate(offsets) if offsets else np.empty(0, np.uint32)


def to_bytes(index: ShardIndex) -> bytes:
    """The index file; the same index gives the same bytes."""
    members: dict[str, npt.NDArray[Any]] = {"version": np.array(VERSION, np.int64)}
    for name, dtype in _DTYPES.items():
        members[name] = np.asarray(getattr(index, name), dtype)
    for name in _SCALARS:
        members[name] = np.array(getattr(index, name), np.int64)
    for name in _DIGESTS:
        members[name] = np.frombuffer(bytes.fromhex(getattr(index, name)), np.uint8)
    return write_members(members)


def from_bytes(data: bytes, name: str) -> ShardIndex:
    """Read an index file. `name` is for messages.

    UserError when it is damaged, of another version, or says what cannot be (see index_check).
    """
    try:
        values = _values(_members(data))
    except UserError as error:
        raise UserError(f"{name}: {error}; {_REMEDY}") from None
    except Exception as error:  # zip and npy files can be damaged in more ways than their readers document
        raise UserError(
            f"{name}: not a shard index, or a damaged one ({type(error).__name__}: {str(error)[:100]});"
            f" {_REMEDY}"
        ) from error
    index = ShardIndex(**values)
    problem = problem_of(index)
    if problem is not None:
        raise UserError(f"{name}: a damaged shard index ({problem}); {_REMEDY}")
    return index


def _members(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the file. Nothing is allocated that it does not hold: no member is compressed."""
    try:
        found = bodies(data)
        wanted = [name for name in found if name in _DTYPES or name in (*_SCALARS, *_DIGESTS, "version")]
        # Copies: a column that is let go of is not to be kept by the others.
        return {name: np.array(_checked(array_of(found[name], name), name)) for name in wanted}
    except UserError as error:
        raise UserError(f"a damaged shard index ({error})") from None


def _checked(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    wanted = np.dtype(_DTYPES.get(name, np.uint8 if name in _DIGESTS else np.int64))
    dimensions = 0 if name in _SCALARS or name == "version" else 1
    if array.dtype != wanted or array.ndim != dimensions:
        raise UserError(
            f"{name} is {array.dtype} of shape {str(array.shape)[:40]}, not {wanted} in"
            f" {dimensions} dimensions"
        )
    return array


def _values(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    if "version" in arrays and int(arrays["version"]) != VERSION:
        raise UserError(f"index version {int(arrays['version'])}; this program reads version {VERSION}")
    missing = [name for name in ("version", *_DTYPES, *_SCALARS, *_DIGESTS) if name not in arrays]
    if missing:
        raise UserError(f"a damaged shard index (it lacks {missing[0]})")
    values: dict[str, Any] = {name: arrays[name] for name in _DTYPES}
    values |= {name: int(arrays[name]) for name in _SCALARS}
    values |= {name: arrays[name].tobytes().hex() for name in _DIGESTS}
    return values
