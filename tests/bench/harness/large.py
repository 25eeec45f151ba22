"""A set of VoxCeleb2's size to open: a manifest and its indexes, whose shards are holes in the file system.

What a crop of them holds is silence; it is fetched as any other is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np

from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.index_columns import ShardIndex

SPEAKERS = 5994
FRAMES = 8 * 16000
MEMBER = 258_048  # bytes of the tar for an utterance: its header, its WAV, its JSON with another header
HEADER, WAV_HEADER = 512, 44
VERSION = 1


def make_large(folder: Path, shards: int, each: int) -> Path:
    """The set below `folder`, of so many shards of so many utterances of 8 s, made now unless it is there."""
    target = folder / f"large-{VERSION}-{index_file.VERSION}-{shards}-{each}"
    if not (target / manifest_file.NAME).exists():
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        speakers = tuple(f"id{number:05d}" for number in range(min(SPEAKERS, shards * each // 2)))
        entries = tuple(_shard(target, number, shards, each, len(speakers)) for number in range(shards))
        manifest = manifest_file.Manifest(speakers, entries, 16000, "0" * 64, {})
        (target / manifest_file.NAME).write_bytes(manifest_file.to_bytes(manifest))
    return target


def _shard(folder: Path, number: int, shards: int, each: int, speakers: int) -> manifest_file.ShardEntry:
    rows = np.arange(each) + number * each
    label = (rows % speakers).astype(np.int32)
    total = shards * each // speakers + (label < shards * each % speakers)
    begin = np.arange(each, dtype=np.int64) * MEMBER + HEADER
    size = each * MEMBER
    keys, ends = index_file.pack_keys(
        [f"id{speaker:05d}/video/{row:08d}" for speaker, row in zip(label, rows, strict=True)]
    )
    index = ShardIndex(
        key_bytes=keys,
        key_ends=ends,
        label=label,
        turn=(rows // speakers).astype(np.int32),
        total=total.astype(np.int32),
        next_shard=np.full(each, (number + 1) % shards, np.int32),
        frames=np.full(each, FRAMES, np.int64),
        codec=np.zeros(each, np.uint8),
        offset=begin,
        size=np.full(each, WAV_HEADER + 2 * FRAMES, np.int64),
        pcm_offset=begin + WAV_HEADER,
        flac_block=np.zeros(each, np.int32),
        flac_offset=np.empty(0, np.uint32),
        block_crc32=np.zeros(-(-size // index_file.BLOCK_SIZE), np.uint32),
        block_size=index_file.BLOCK_SIZE,
        shard_size=size,
        shard_sha256="0" * 64,
        inputs="0" * 64,
    )
    data = index_file.to_bytes(index)
    name = f"shard-{number:06d}"
    (folder / f"{name}.idx.npz").write_bytes(data)
    with (folder / f"{name}.tar").open("wb") as file:
        os.truncate(file.fileno(), size)
    return manifest_file.ShardEntry(
        url=f"{name}.tar",
        nsamples=each,
        filesize=size,
        sha256="0" * 64,
        frames=each * FRAMES,
        index=f"{name}.idx.npz",
        index_sha256=hashlib.sha256(data).hexdigest(),
    )
