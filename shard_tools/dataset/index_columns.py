"""What an index holds, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array, UInt32Array
from shard_tools.audio.flac_frames import FrameTables

WAV, FLAC = 0, 1  # values of the codec column


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
    key_ends: Int64Array
    label: Int32Array
    turn: Int32Array
    total: Int32Array
    next_shard: Int32Array
    frames: Int64Array
    codec: npt.NDArray[np.uint8]
    offset: Int64Array
    size: Int64Array
    pcm_offset: Int64Array
    flac_block: Int32Array
    flac_offset: UInt32Array
    block_crc32: UInt32Array
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
