"""Indexing WebDataset tars that someone else made, as they are.

A sample is KEY.wav or KEY.flac, with KEY.json beside it or without. Its speaker
is the JSON's "speaker", or else the first folder of the key.
"""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from shard_tools import audio, layout, storage
from shard_tools import index as index_file
from shard_tools import manifest as manifest_file
from shard_tools.errors import UserError
from shard_tools.flac_frames import FrameTable, find_frames
from shard_tools.keys import key_problem, split_member
from shard_tools.listing import ProblemsError
from shard_tools.manifest import Manifest
from shard_tools.pack import PackSummary
from shard_tools.shard_writer import entry_of
from shard_tools.tar import Member, checksums, members
from shard_tools.verify import local_copy
from shard_tools.walk import EXTENSIONS
from shard_tools.workers import Report, run

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class _Task:
    url: str
    tar_name: str


@dataclass(frozen=True)
class _Scan:
    """What one tar holds: an index that does not know who its speakers are, and the speaker of each row."""

    index: index_file.ShardIndex | None
    speakers: Sequence[str]
    problems: Sequence[str]


def index_tars(url: str, *, workers: int = 1, overwrite: bool = False, progress: bool = False) -> PackSummary:
    """Write an index beside each .tar directly below `url`, then manifest.json; the tars stay as they are.

    Raises UserError when a manifest is there already (unless `overwrite`) or no tar is, and
    ProblemsError that names every sample that cannot be indexed; nothing is written then.
    """
    began = time.monotonic()
    names = storage.list_names(url)
    manifest_url = storage.join(url, manifest_file.NAME)
    if manifest_file.NAME in names and not overwrite:
        raise UserError(f"{manifest_url}: is there already; --overwrite replaces it and the indexes")
    tars = [name for name in names if name.endswith(".tar")]
    compressed = [name for name in names if name.endswith(_COMPRESSED)]
    problems = [f"{name}: a compressed tar cannot be read in part; unpack it" for name in compressed]
    if not tars and not problems:
        raise UserError(f"{url}: no .tar directly below it; check the URL")
    scans = _scan_all(url, tars, workers, progress)
    for name in tars:
        problems.extend(scans[name].problems)
    problems.extend(_clashes(tars, scans))
    if problems:
        raise ProblemsError(problems, "nothing was written")

    speakers = sorted({speaker for scan in scans.values() for speaker in scan.speakers})
    label_of = {speaker: label for label, speaker in enumerate(speakers)}
    if manifest_file.NAME in names:
        storage.remove(manifest_url)
    labels = [np.array([label_of[s] for s in scans[name].speakers], np.int32) for name in tars]
    shard = np.repeat(np.arange(len(tars)), [len(part) for part in labels])
    places = layout.places(np.concatenate(labels), shard)
    ends = np.cumsum([len(part) for part in labels]).tolist()
    entries = []
    for number, name in enumerate(tars):
        scan, rows = scans[name], slice(ends[number] - len(labels[number]), ends[number])
        assert scan.index is not None
        index = replace(
            scan.index,
            label=labels[number],
            turn=places.turn[rows],
            total=places.total[rows],
            next_shard=places.next_shard[rows],
        )
        data = index_file.to_bytes(index)
        index_name = f"{name.removesuffix('.tar')}.index.npz"
        storage.publish_bytes(storage.join(url, index_name), data)
        entries.append(entry_of(name, index_name, index, data))
    manifest = Manifest(tuple(speakers), tuple(entries), audio.SAMPLE_RATE, "", {"indexed": True})
    storage.publish_bytes(manifest_url, manifest_file.to_bytes(manifest))
    return PackSummary(manifest, 0, time.monotonic() - began)


def _scan_all(url: str, tars: list[str], workers: int, progress: bool) -> dict[str, _Scan]:
    scans = {}
    tasks = [_Task(url, name) for name in tars]
    with tqdm(unit="B", unit_scale=True, desc="indexing", disable=None if progress else True) as bar:
        for task, scan in run(_scan, tasks, workers=workers, progress=bar.update):
            scans[task.tar_name] = scan
    return scans


def _clashes(tars: list[str], scans: dict[str, _Scan]) -> list[str]:
    tar_of_key: dict[str, str] = {}
    problems = []
    for name in tars:
        index = scans[name].index
        for key in index.keys() if index is not None else ():
            other = tar_of_key.setdefault(key, name)
            if other != name:
                problems.append(f"{name}: key {key!r} is also in {other}; keys must be unique")
    return problems


def _scan(task: _Task, report: Report) -> _Scan:
    name = task.tar_name
    try:
        with local_copy(storage.join(task.url, name)) as path:
            return _scan_file(path, name, report)
    except UserError as error:
        return _Scan(None, (), [str(error)])


def _scan_file(path: str, tar_name: str, report: Report) -> _Scan:
    samples: dict[str, dict[str, Member]] = {}
    problems: list[str] = []
    try:
        for member in members(path):
            key, extension = split_member(member.name)
            if samples.setdefault(key, {}).setdefault(extension, member) is not member:
                problems.append(f"{tar_name}: {member.name} is in it more than once")
    except (tarfile.TarError, OSError) as error:
        return _Scan(None, (), [f"{tar_name}: not a tar, or cut short: {error}"])
    keys: list[str] = []
    speakers: list[str] = []
    rows: list[tuple[int, int, int, int, int]] = []
    tables: list[FrameTable | None] = []
    with open(path, "rb") as file:
        for key, found in samples.items():
            try:
                member, info, table, speaker = _sample(file.fileno(), key, found)
            except UserError as error:
                problems.append(f"{tar_name}: {error}")
                continue
            pcm_offset = -1 if info.pcm_offset is None else member.offset + info.pcm_offset
            codec = index_file.FLAC if info.codec == "flac" else index_file.WAV
            rows.append((info.frames, codec, member.offset, member.size, pcm_offset))
            tables.append(table)
            keys.append(key)
            speakers.append(speaker)
    if not samples:
        problems.append(f"{tar_name}: holds no sample")
    sums = checksums(path, report)
    key_bytes, key_ends = index_file.pack_keys(keys)
    frames, codecs, offset, size, pcm = np.array(rows, np.int64).reshape(len(rows), 5).T
    flac_block, flac_offset = index_file.pack_tables(tables)
    unknown = np.zeros(len(rows), np.int32)
    index = index_file.ShardIndex(
        key_bytes=key_bytes,
        key_ends=key_ends,
        label=unknown,
        turn=unknown,
        total=unknown,
        next_shard=unknown,
        frames=frames,
        codec=codecs.astype(np.uint8),
        offset=offset,
        size=size,
        pcm_offset=pcm,
        flac_block=flac_block,
        flac_offset=flac_offset,
        block_crc32=sums.block_crc32,
        block_size=index_file.BLOCK_SIZE,
        shard_size=sums.size,
        shard_sha256=sums.sha256,
        inputs="",
    )
    return _Scan(index, speakers, problems)


def _sample(
    file: int, key: str, found: dict[str, Member]
) -> tuple[Member, audio.AudioInfo, FrameTable | None, str]:
    """One sample's audio member, its header, its FLAC frames and the speaker; UserError for what is unfit."""
    extensions = sorted(found)
    present = [extension for extension in extensions if f".{extension}" in EXTENSIONS]
    if len(present) != 1:
        held = ", ".join(f".{extension}" for extension in extensions)
        raise UserError(f"{key}: needs one .wav or one .flac, has {held}")
    reason = key_problem(key)
    if reason is not None:
        raise UserError(f"{key!r}: {reason}")
    member = found[present[0]]
    data = os.pread(file, member.size, member.offset)
    info = audio.probe(data, member.name)
    audio.decode(data, member.name)  # what is cut short or of another kind is found now, not in training
    if info.codec != present[0]:
        raise UserError(f"{member.name}: is {info.codec.upper()} inside; rename it")
    speaker: object = None
    if "json" in found:
        try:
            document = json.loads(os.pread(file, found["json"].size, found["json"].offset))
        except ValueError as error:
            raise UserError(f"{key}.json: not JSON ({error})") from error
        speaker = document.get("speaker") if isinstance(document, dict) else None
    if speaker is None:
        folder, slash, _ = key.partition("/")
        if not slash:
            raise UserError(f'{key}: no speaker: neither "speaker" in its JSON nor a folder in its key')
        speaker = folder
    table = find_frames(data) if info.codec == "flac" else None
    return member, info, table, str(speaker)
