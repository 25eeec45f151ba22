"""One shard read back: its index, every checksum, every utterance."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from shard_tools import audio, storage
from shard_tools.arrays import Int16Array
from shard_tools.audio.flac_frames import HEAD_BYTES, FrameTables, decode_piece, find_frames
from shard_tools.dataset import index as index_file
from shard_tools.dataset.catalogue import checked_index
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.dataset.speakers import SpeakerRule, json_object, speaker_of
from shard_tools.dataset.tar import Checksums, checksums
from shard_tools.dataset.tar_members import shown
from shard_tools.dataset.tar_samples import Sample, TarSamples, read_member, read_samples
from shard_tools.errors import UserError
from shard_tools.workers import Report

# A piece of so many FLAC frames is decoded at a time, about what a crop of two seconds needs.
_FRAMES_AT_ONCE = 8


@dataclass(frozen=True)
class ShardTask:
    """The shard of `entry` in the dataset at `url`, one of so many `shards`.

    rule: where the speaker stands; ours: whether make-shards pack wrote it, for elsewhere "label" or "frames"
    in a sample's JSON may mean something else.
    """

    url: str
    entry: ShardEntry
    speakers: Sequence[str]
    shards: int
    ours: bool
    rule: SpeakerRule


@dataclass(frozen=True)
class ShardFound:
    """What became of looking at a shard.

    problems: one line each; missing, other: which of its two files are not there, and which are not what the
    manifest's SHA-256 is of, or cannot be read; index: where it could be read, be it the right one or not.
    """

    problems: Sequence[str]
    missing: Sequence[str]
    other: Sequence[str]
    index: ShardIndex | None


def check_shard(task: ShardTask, report: Report) -> ShardFound:
    """What is wrong with one shard and its index. `report` gets the bytes of the shard as they are read."""
    entry = task.entry
    problems: list[str] = []
    missing: list[str] = []
    right: set[str] = set()
    index: ShardIndex | None = None
    index_url = storage.join(task.url, entry.index)
    try:
        data = storage.read_bytes(index_url)
        if hashlib.sha256(data).hexdigest() == entry.index_sha256:
            right.add(entry.index)
        try:
            index = checked_index(entry, index_url, data, task.shards)
        except UserError as error:
            problems.append(str(error))
            index = index_file.from_bytes(data, index_url)
    except UserError as error:
        if isinstance(error, storage.MissingError):
            missing.append(entry.index)
        if str(error) not in problems:
            problems.append(str(error))
    try:
        with local_copy(storage.join(task.url, entry.url)) as path:
            found = checksums(path, report)
            if found.sha256 == entry.sha256:
                right.add(entry.url)
            problems += _check_bytes(found, entry, index)
            problems += _check_samples(path, task, index)
    except UserError as error:
        if isinstance(error, storage.MissingError):
            missing.append(entry.url)
        problems.append(str(error))
    other = [name for name in (entry.url, entry.index) if name not in right and name not in missing]
    return ShardFound(problems, missing, other, index)


@contextmanager
def local_copy(url: str) -> Iterator[str]:
    """A path with the shard's bytes: its own on a disk, else a temporary copy."""
    path = storage.local_path(url)
    if path is not None:
        storage.size(url)  # MissingError when it is not there
        if not os.path.isfile(path):  # a named pipe would wait for ever
            raise UserError(f"{url}: is no file; a shard is one")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="voxshard-") as folder:
        copy = os.path.join(folder, "shard.tar")
        storage.fetch(url, copy)
        yield copy


def _check_bytes(found: Checksums, entry: ShardEntry, index: ShardIndex | None) -> list[str]:
    problems = []
    if found.size != entry.filesize:
        problems.append(f"{entry.url}: {found.size} bytes, the manifest says {entry.filesize}")
    if found.sha256 != entry.sha256:
        problems.append(f"{entry.url}: SHA-256 {found.sha256}, the manifest says {entry.sha256}")
    if index is None:
        return problems
    common = min(len(found.block_crc32), len(index.block_crc32))
    differ = np.flatnonzero(found.block_crc32[:common] != index.block_crc32[:common])
    for run_of_blocks in np.split(differ, np.flatnonzero(np.diff(differ) > 1) + 1) if len(differ) else []:
        first = int(run_of_blocks[0]) * index.block_size
        end = min((int(run_of_blocks[-1]) + 1) * index.block_size, found.size)
        inside = np.flatnonzero((index.offset < end) & (index.offset + index.size > first)).tolist()
        keys = ", ".join(index.key(row) for row in inside[:3]) + (", …" if len(inside) > 3 else "")
        what = f"audio of {keys}" if inside else "no audio in them"
        problems.append(f"{entry.url}: bytes {first} to {end} do not have their CRC-32 ({what})")
    return problems


def _check_samples(path: str, task: ShardTask, index: ShardIndex | None) -> list[str]:
    entry = task.entry
    tar = read_samples(path)
    problems = list(tar.problems)
    if index is None:
        return [f"{entry.url}: {problem}" for problem in problems]
    tables = index.frame_tables()
    left = dict(tar.samples)
    indexed = 0
    with open(path, "rb") as file:
        for row, key in enumerate(index.keys()):
            sample = left.pop(key, None)
            if sample is None:
                problems.append(f"{shown(key)} is in the index but not in the tar")
                continue
            indexed += 1
            problems += _check_sample(file.fileno(), tar, sample, task, index, row, tables)
    problems += [f"{sample.title} is in the tar but not in the index" for sample in left.values()]
    if indexed != entry.nsamples:
        problems.append(f"{indexed} utterances found, the manifest says {entry.nsamples}")
    return [f"{entry.url}: {problem}" for problem in problems]


def _check_sample(
    file: int,
    tar: TarSamples,
    sample: Sample,
    task: ShardTask,
    index: ShardIndex,
    row: int,
    tables: FrameTables,
) -> list[str]:
    """What is wrong with one utterance: with where it lies, its audio, or whose it is."""
    member, name, problems = sample.audio, sample.title, []
    if (member.offset, member.size) != (index.offset[row], index.size[row]):
        problems.append(
            f"{name} is {member.size} bytes at {member.offset} in the tar,"
            f" {index.size[row]} at {index.offset[row]} in the index"
        )
    try:
        problems += _check_audio(read_member(file, member), name, index, row, tables)
    except UserError as error:
        problems.append(str(error))
    label = int(index.label[row])
    if not 0 <= label < len(task.speakers):
        return [*problems, f"{name} has label {label}; there are {len(task.speakers)} speakers"]
    expected = {"label": label, "frames": int(index.frames[row])} if task.ours else {}
    return problems + _check_json(file, tar, sample, task, task.speakers[label], expected)


def _check_audio(data: bytes, name: str, index: ShardIndex, row: int, tables: FrameTables) -> list[str]:
    try:
        info = audio.probe(data, name)
        samples = audio.decode(data, name)
    except UserError as error:
        return [str(error)]
    problems = []
    if len(samples) != index.frames[row]:
        problems.append(f"{name}: {len(samples)} frames, the index says {index.frames[row]}")
    elif info.codec == "flac" and not _tables_hold(data, samples, tables, row):
        problems.append(f"{name}: its FLAC frames are not where the index says")
    pcm_offset = -1 if info.pcm_offset is None else int(index.offset[row]) + info.pcm_offset
    if pcm_offset != index.pcm_offset[row]:
        problems.append(f"{name}: PCM begins at byte {pcm_offset}, the index says {index.pcm_offset[row]}")
    return problems


def _tables_hold(data: bytes, samples: Int16Array, tables: FrameTables, row: int) -> bool:
    """Whether a FLAC file has the frames that the index says, and pieces of it decode to `samples`."""
    found = find_frames(data)
    if found is None or found.block != tables.block[row]:
        return found is None and int(tables.block[row]) == 0
    first = int(tables.first[row])
    if not np.array_equal(found.offset, tables.offset[first : first + len(found.offset)]):
        return False
    step = _FRAMES_AT_ONCE * found.block
    for start in range(0, len(samples), step):
        expected = samples[start : start + step]
        piece = tables.piece(row, start, len(expected), samples=len(samples), size=len(data))
        assert piece is not None
        file = bytearray(HEAD_BYTES) + data[piece.start : piece.end]
        try:
            if not np.array_equal(decode_piece(file, piece, start, len(expected), ""), expected):
                return False
        except audio.AudioError:
            return False
    return True


def _check_json(
    file: int, tar: TarSamples, sample: Sample, task: ShardTask, speaker: str, expected: dict[str, int]
) -> list[str]:
    """Whose the sample is, by the dataset's rule, and those fields of its JSON that are there."""
    try:
        found, place = speaker_of(sample, tar, task.rule, lambda member: read_member(file, member))
        document = (json_object(sample, tar, lambda m: read_member(file, m)) or {}) if expected else {}
    except UserError as error:
        return [str(error)]
    problems = [
        f"{sample.key}.json: {field} is {document[field]!r}, the index says {value!r}"
        for field, value in expected.items()
        if field in document and document[field] != value
    ]
    if found != speaker:
        problems.append(f"{sample.key}: speaker is {found!r} ({place}), the index says {speaker!r}")
    return problems
