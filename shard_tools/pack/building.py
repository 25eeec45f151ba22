"""The bytes of one shard: its source files checked, its tar written, its index computed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from shard_tools import audio
from shard_tools.audio.convert import convert
from shard_tools.audio.flac_frames import FrameTable, find_frames
from shard_tools.audio.plain_wav import HEAD_BYTES, plain_wav
from shard_tools.dataset import index as index_file
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.dataset.tar import TarBuilder, Writable
from shard_tools.errors import UserError
from shard_tools.pack.task import ShardTask, SourceFile
from shard_tools.workers import Report

_JSON = json.JSONEncoder(ensure_ascii=False)


def build(
    task: ShardTask, file: Writable, report: Report, stop: Callable[[], object] = lambda: None
) -> tuple[index_file.ShardIndex | None, list[str], dict[str, int]]:
    """Write the tar to `file`: (index, None with problems; problems; samples clipped by path).

    stop: ends a `write` to it that takes long, see TarBuilder.
    """
    problems: list[str] = []
    clipped: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, int]] = []
    tables: list[FrameTable | None] = []
    with TarBuilder(file, meanwhile=lambda: report(0), stop=stop) as tar:
        for source in task.sources:
            try:
                data, info, beyond = _member(task, source)
            except UserError as error:
                problems.append(str(error))
                report(source.size)
                continue
            if beyond:
                clipped[source.path] = beyond
            if not problems:
                offset = tar.add(f"{source.key}.{info.codec}", data)
                described = describe(source.speaker, source.label, source.path, info.frames)
                tar.add(f"{source.key}.json", described)
                codec = index_file.FLAC if info.codec == "flac" else index_file.WAV
                pcm = -1 if info.pcm_offset is None else offset + info.pcm_offset
                rows.append((source.label, info.frames, codec, offset, len(data), pcm))
                tables.append(find_frames(data) if info.codec == "flac" else None)
            report(source.size)
        tar.finish()
    return None if problems else _index(task, tar, rows, tables), problems, clipped


def rebuild(task: ShardTask, report: Report) -> tuple[index_file.ShardIndex | None, list[str]]:
    """The index that the shard would have if it were made now, or None and the problems. Nothing is kept."""
    with open(os.devnull, "wb", buffering=0) as nothing:
        return build(task, nothing, report)[:2]


def describe(speaker: str, label: int, path: str, frames: int) -> bytes:
    """The sample's KEY.json."""
    fields = {
        "speaker": speaker,
        "label": label,
        "path": path,
        "frames": frames,
        "sample_rate": audio.SAMPLE_RATE,
    }
    return _JSON.encode(fields).encode()


def entry_of(tar_name: str, index_name: str, index: index_file.ShardIndex, index_data: bytes) -> ShardEntry:
    """The manifest's entry for a shard with this index."""
    return ShardEntry(
        url=tar_name,
        nsamples=len(index),
        filesize=index.shard_size,
        sha256=index.shard_sha256,
        frames=int(index.frames.sum()),
        index=index_name,
        index_sha256=hashlib.sha256(index_data).hexdigest(),
    )


def _member(task: ShardTask, source: SourceFile) -> tuple[bytes, audio.AudioInfo, int]:
    """A sample's audio member, what its header says, and how many of its samples were clipped.

    UserError names the file and what was found.
    """
    name = os.path.join(task.corpus.root, source.path)
    try:
        with task.corpus.open(source.path) as found:
            changed = (found.size, found.mtime_ns) != (source.size, source.mtime_ns)
            data = b"" if changed else _read(found.file, source.size + 1)
        if changed or len(data) != source.size:
            raise UserError(f"{name}: changed while it was being packed; run again when it is at rest")
        codec: audio.Codec = "flac" if source.path.lower().endswith(".flac") else "wav"
        if task.format != "keep":
            codec = task.format
        plain = plain_wav(data[:HEAD_BYTES], len(data))
        if plain is not None and codec == "wav" and (task.format == "keep" or plain.pcm_offset == 44):
            return data, plain, 0
        clipped = 0
        try:
            samples = audio.decode(data, name)  # what its header hides shows only here
        except audio.FormatError:
            if not task.convert:
                raise
            converted = convert(data, name)
            data, clipped = audio.encode(converted.samples, codec), converted.clipped
        else:
            if task.format != "keep":
                data = audio.encode(samples, codec)
        return data, audio.probe(data, name), clipped
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise UserError(f"{name}: {source.size} bytes are more than this machine has memory for") from error


def _read(file: BinaryIO, most: int) -> bytes:
    """All of a file, or `most` bytes of it; a file without a buffer may give less than it was asked for."""
    data = file.read(most)
    while 0 < len(data) < most and (more := file.read(most - len(data))):
        data += more
    return data


def _index(
    task: ShardTask,
    tar: TarBuilder,
    rows: list[tuple[int, int, int, int, int, int]],
    tables: list[FrameTable | None],
) -> index_file.ShardIndex:
    table = np.array(rows, np.int64).reshape(len(rows), 6)
    key_bytes, key_ends = index_file.pack_keys([source.key for source in task.sources])
    label, frames, codec, offset, size, pcm_offset = table.T
    flac_block, flac_offset = index_file.pack_tables(tables)
    places = np.array([(s.turn, s.total, s.next_shard) for s in task.sources], np.int32)
    turn, total, next_shard = places.reshape(len(rows), 3).T
    return index_file.ShardIndex(
        key_bytes=key_bytes,
        key_ends=key_ends,
        label=label.astype(np.int32),
        turn=turn,
        total=total,
        next_shard=next_shard,
        frames=frames,
        codec=codec.astype(np.uint8),
        offset=offset,
        size=size,
        pcm_offset=pcm_offset,
        flac_block=flac_block,
        flac_offset=flac_offset,
        block_crc32=tar.block_crc32,
        block_size=index_file.BLOCK_SIZE,
        shard_size=tar.size,
        shard_sha256=tar.sha256,
        inputs=task.inputs(),
    )
