"""The index of one shard: where each utterance lies in the tar, and checksums of fixed blocks of it.

On disk it is a .npz (a zip of .npy members) without pickle and without clock
times, so that the same shard has the same index to the byte.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.errors import UserError
from shard_tools.flac_frames import FrameTable, FrameTables, table_lengths

VERSION = 2
BLOCK_SIZE = 8192
WAV, FLAC = 0, 1  # values of the codec column

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
_PER_UTTERANCE = (
    *("key_ends", "label", "turn", "total", "next_shard"),
    *("frames", "codec", "offset", "size", "pcm_offset", "flac_block"),
)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What one shard holds; row i is the i-th utterance in the tar.

    key_bytes: uint8, the keys' UTF-8 one after the other; key_ends: int64 (n,), where each ends in key_bytes;
    label: int32 (n,), index into the manifest's speakers; turn, total, next_shard: int32 (n,), its place
    among its speaker's utterances in all shards, see layout.Places; frames: int64 (n,), PCM sample frames;
    codec: uint8 (n,), WAV or FLAC; offset, size: int64 (n,), bytes of the audio member's data in the tar;
    pcm_offset: int64 (n,), offset in the tar of the first PCM frame, -1 for FLAC;
    flac_block: int32 (n,), samples in each frame of a FLAC stream, 0 where its frames are not in flac_offset;
    flac_offset: uint32, where in its file each frame begins, utterance after utterance;
    block_crc32: uint32, zlib.crc32 of each `block_size` bytes of the shard (the last may be shorter);
    shard_size: bytes; shard_sha256: hex; inputs: hex digest of what the shard was made from.
    """

    key_bytes: npt.NDArray[np.uint8]
    key_ends: npt.NDArray[np.int64]
    label: npt.NDArray[np.int32]
    turn: npt.NDArray[np.int32]
    total: npt.NDArray[np.int32]
    next_shard: npt.NDArray[np.int32]
    frames: npt.NDArray[np.int64]
    codec: npt.NDArray[np.uint8]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    pcm_offset: npt.NDArray[np.int64]
    flac_block: npt.NDArray[np.int32]
    flac_offset: npt.NDArray[np.uint32]
    block_crc32: npt.NDArray[np.uint32]
    block_size: int
    shard_size: int
    shard_sha256: str
    inputs: str

    def __len__(self) -> int:
        return len(self.label)

    def key(self, row: int) -> str:
        start = int(self.key_ends[row - 1]) if row else 0
        return self.key_bytes[start : int(self.key_ends[row])].tobytes().decode()

    def keys(self) -> list[str]:
        return [self.key(row) for row in range(len(self))]

    def frame_tables(self) -> FrameTables:
        return FrameTables.of(self.flac_block, self.flac_offset, self.frames)


def pack_keys(keys: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Keys as (key_bytes, key_ends)."""
    encoded = [key.encode() for key in keys]
    ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def pack_tables(
    tables: Sequence[FrameTable | None],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
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
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def from_bytes(data: bytes, name: str) -> ShardIndex:
    """Read an index file. `name` is for messages. UserError when it is damaged or of another version."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            version = int(archive["version"])
            if version != VERSION:
                raise UserError(
                    f"{name}: index version {version}; this program reads version {VERSION}; {_REMEDY}"
                )
            values: dict[str, Any] = {
                column: archive[column].astype(dtype, copy=False) for column, dtype in _DTYPES.items()
            }
            values |= {scalar: int(archive[scalar]) for scalar in _SCALARS}
            values |= {digest: archive[digest].tobytes().hex() for digest in _DIGESTS}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{name}: not a shard index, or a damaged one ({error}); {_REMEDY}") from error
    index = ShardIndex(**values)
    rows = {len(getattr(index, field.name)) for field in fields(index) if field.name in _PER_UTTERANCE}
    ends = index.key_ends
    if len(rows) != 1 or (len(ends) and int(ends[-1]) != len(index.key_bytes)):
        raise UserError(f"{name}: a damaged shard index (its columns differ in length); {_REMEDY}")
    if int(table_lengths(index.flac_block, index.frames).sum()) != len(index.flac_offset):
        raise UserError(f"{name}: a damaged shard index (its FLAC frames do not add up); {_REMEDY}")
    return index
