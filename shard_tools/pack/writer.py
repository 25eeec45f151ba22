"""Making one shard from its source files: check them, write the tar and its index, publish both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

from shard_tools import audio, storage
from shard_tools.audio.convert import convert
from shard_tools.audio.flac_frames import FrameTable, find_frames
from shard_tools.audio.plain_wav import HEAD_BYTES, plain_wav
from shard_tools.dataset import index as index_file
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.dataset.tar import TarBuilder, Writable
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack.corpus import Corpus
from shard_tools.storage import Folder
from shard_tools.storage.backends import Upload
from shard_tools.storage.errors import explain
from shard_tools.workers import Report

Format = Literal["keep", "wav", "flac"]

_JSON = json.JSONEncoder(ensure_ascii=False)
_MOST_THREADS = 4
_TRIES = 3  # to send a shard that others break off
_POLL_S = 0.2
_LARGE_FILE = 1 << 16  # bytes, of the mean: two seconds of audio


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One utterance to pack: its file below ROOT, and the file's size and mtime when it was checked.

    turn, total, next_shard: its place among its speaker's utterances, see layout.Places.
    """

    speaker: str
    label: int
    turn: int
    total: int
    next_shard: int
    path: str
    key: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make shard `number` of the dataset at `site`; plan: see pack_claim.

    promised: what a manifest that stays says of it; another shard than that is not published.
    """

    number: int
    site: Folder
    scratch: str
    corpus: Corpus
    format: Format
    convert: bool
    sources: Sequence[SourceFile]
    plan: str
    promised: ShardEntry | None = None

    @property
    def tar_name(self) -> str:
        return shard_names(self.number)[0]

    @property
    def index_name(self) -> str:
        return shard_names(self.number)[1]

    def inputs(self) -> str:
        """Hex digest of all that decides the shard's bytes, with the files' sizes in place of their contents.

        Modification times stay out of it: a copy of the corpus must give the same shards.
        """
        rows = [
            [s.speaker, s.label, s.turn, s.total, s.next_shard, s.path, s.key, s.size] for s in self.sources
        ]
        document = json.dumps([index_file.VERSION, self.format, self.convert, rows])
        return hashlib.sha256(document.encode()).hexdigest()


@dataclass(frozen=True)
class ShardResult:
    """entry is None when `problems` (one line each) kept the shard from being made.

    clipped: by path, how many samples converting cut off at full scale, where it did.
    """

    entry: ShardEntry | None
    problems: list[str]
    clipped: dict[str, int]


def shard_names(number: int) -> tuple[str, str]:
    """Names of a shard's tar and of its index."""
    return f"shard-{number:06d}.tar", f"shard-{number:06d}.index.npz"


def write_shard(task: ShardTask, report: Report) -> ShardResult:
    """Make and publish a shard, then its index. `report` gets the bytes of each source when it is done with.

    Every source is looked at even after one was refused, so that all problems are known at once.
    The tar is sent while it is made where the kind of storage can do that; else it is made in the scratch
    folder first.
    """
    for attempt in range(1, _TRIES + 1):
        upload = task.site.upload(task.tar_name)
        if upload is None:
            return _write_by_scratch(task, report)
        try:
            return _write_by_upload(task, upload, report if attempt == 1 else lambda _: report(0))
        except MemoryError as error:
            raise UserError(
                f"{task.site.at(task.tar_name)}: this machine has no memory left to send it;"
                " run again, with fewer --workers"
            ) from error
        except storage.LostUploadError:
            # A pack that begins takes what is under way here for what a killed one has left.
            if attempt == _TRIES:
                raise
        finally:
            upload.abandon()
    raise AssertionError


def _write_by_upload(task: ShardTask, upload: Upload, report: Report) -> ShardResult:
    size = sum(source.size for source in task.sources)
    if task.format == "keep" and not task.convert and size > upload.most:
        raise UserError(
            f"{task.site.at(task.tar_name)}: {size / 1e9:.0f} GB are more than the {upload.most / 1e9:.0f} GB"
            " that can be sent while they are made; give fewer --utterances-per-shard"
        )
    result, index_data = _made(task, upload, report, upload.stop)
    if result.entry is not None:
        pack_claim.require(task.site, task.plan)
        _publish(upload, report)
        task.site.publish(task.index_name, index_data)
    return result


def _publish(upload: Upload, report: Report) -> None:
    """Publish it in another thread, so that `report`, or Ctrl-C, can stop this one while it waits."""
    with ThreadPoolExecutor(1, thread_name_prefix="publish") as thread:
        try:
            published = thread.submit(upload.publish)
            while not wait([published], _POLL_S).done:
                report(0)
        except BaseException:
            upload.stop()
            raise
    published.result()


def _write_by_scratch(task: ShardTask, report: Report) -> ShardResult:
    temporary = os.path.join(task.scratch, task.tar_name)
    try:
        with open(temporary, "wb", buffering=0) as file:
            result, index_data = _made(task, file, report)
        if result.entry is None:
            return result
        pack_claim.require(task.site, task.plan)
        task.site.take(temporary, task.tar_name)
    except OSError as error:
        raise storage.StorageError(explain(error, temporary)) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    task.site.publish(task.index_name, index_data)
    return result


def _made(
    task: ShardTask, file: Writable, report: Report, stop: Callable[[], object] = lambda: None
) -> tuple[ShardResult, bytes]:
    """Write the tar to `file`: (what it is, or why it must not be published; its index); see `_build`."""
    index, problems, clipped = _build(task, file, report, stop)
    if index is None:
        return ShardResult(None, problems, clipped), b""
    index_data = index_file.to_bytes(index)
    entry = entry_of(task.tar_name, task.index_name, index, index_data)
    if task.promised is not None and entry != task.promised:
        problem = (
            f"{task.site.at(task.tar_name)}: made again it is not what the manifest promises: a file of it"
            " has changed since; make-shards verify --repair tells which"
        )
        return ShardResult(None, [problem], clipped), b""
    return ShardResult(entry, [], clipped), index_data


def suits_threads(tasks: Sequence[ShardTask], workers: int) -> bool:
    """Whether `workers` threads make these shards sooner than as many processes, which start slowly.

    Reading, summing, hashing and writing leave the interpreter to others. What is done in Python for each
    file does not, nor does an encoder, which hands its bytes to Python: with these, with small files, or with
    many workers, that decides.
    """
    files = sum(len(task.sources) for task in tasks)
    size = sum(source.size for task in tasks for source in task.sources)
    return (
        workers <= _MOST_THREADS
        and size >= _LARGE_FILE * files
        and not any(task.convert or task.format != "keep" for task in tasks)
    )


def rebuild(task: ShardTask, report: Report) -> tuple[index_file.ShardIndex | None, list[str]]:
    """The index that the shard would have if it were made now, or None and the problems. Nothing is kept."""
    with open(os.devnull, "wb", buffering=0) as nothing:
        return _build(task, nothing, report)[:2]


def _build(
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
