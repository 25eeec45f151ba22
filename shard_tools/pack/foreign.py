"""Indexing WebDataset tars that someone else made, as they are.

A sample is KEY.wav or KEY.flac; whose it is, a rule of `speakers` says.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from shard_tools import audio, storage
from shard_tools.audio.flac_frames import FrameTable, find_frames
from shard_tools.dataset import index as index_file
from shard_tools.dataset import layout, manifest_table
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.manifest import Manifest
from shard_tools.dataset.shard_check import local_copy
from shard_tools.dataset.speakers import USUAL, SpeakerRule, speaker_of
from shard_tools.dataset.tar import checksums
from shard_tools.dataset.tar_members import shown
from shard_tools.dataset.tar_samples import Sample, read_member, read_samples
from shard_tools.errors import UserError
from shard_tools.pack.building import entry_of
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.tarred import COMPRESSED
from shard_tools.storage import Folder
from shard_tools.workers import Report, run


@dataclass(frozen=True)
class IndexSummary:
    """What was indexed.

    speakers_from: how many speakers of utterances stood where, in words; passed_over: by kind, how many
    members are no audio and were not asked for, and the first one's name.
    """

    manifest: Manifest
    seconds: float
    speakers_from: Mapping[str, int]
    passed_over: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class _Task:
    site: Folder
    tar_name: str
    rule: SpeakerRule


@dataclass(frozen=True)
class _Scan:
    """What one tar holds: an index that does not know who its speakers are, and the speaker of each row."""

    index: index_file.ShardIndex | None
    speakers: Sequence[str]
    problems: Sequence[str]
    speakers_from: dict[str, int] = field(default_factory=dict)
    passed_over: dict[str, tuple[int, str]] = field(default_factory=dict)
    other_audio: int = 0


def index_tars(
    url: str, *, rule: SpeakerRule = USUAL, workers: int = 1, overwrite: bool = False, progress: bool = False
) -> IndexSummary:
    """Write an index beside each .tar directly below `url`, then manifest.json; the tars stay as they are.

    rule: where the speaker of a sample stands; the manifest keeps it, for `verify`.
    Raises UserError when a manifest is there already (unless `overwrite`) or no tar is, and
    ProblemsError that names every sample that cannot be indexed; nothing is written then.
    """
    began = time.monotonic()
    site = Folder(url)
    names = site.names()
    if manifest_file.NAME in names and not overwrite:
        raise UserError(
            f"{site.at(manifest_file.NAME)}: is there already; --overwrite replaces it and the indexes"
        )
    tars, problems = _tars(names)
    if not tars and not problems:
        raise UserError(f"{site}: no .tar directly below it; check the URL")
    scans = _scan_all(site, tars, rule, workers, progress)
    for name in tars:
        problems.extend(scans[name].problems)
    problems.extend(_clashes(tars, scans))
    if problems:
        other_audio = any(scan.other_audio for scan in scans.values())
        raise ProblemsError(problems, "nothing was written" + (_repacking(url, rule) if other_audio else ""))

    speakers = sorted({speaker for scan in scans.values() for speaker in scan.speakers})
    label_of = {speaker: label for label, speaker in enumerate(speakers)}
    if manifest_file.NAME in names:
        site.remove(manifest_file.NAME)
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
        index_name = f"{_stem(name)}.index.npz"
        site.publish(index_name, data)
        entries.append(entry_of(name, index_name, index, data))
    options = {"indexed": True, "speaker_from": str(rule)}
    manifest = Manifest(tuple(speakers), tuple(entries), audio.SAMPLE_RATE, "", options)
    for name in filter(manifest_table.is_table, names):  # of what was indexed before
        site.remove(name)
    manifest_table.publish(site, manifest)
    in_order = [scans[name] for name in tars]
    return IndexSummary(manifest, time.monotonic() - began, *_totals(in_order))


def _tars(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tars among the names in a folder, hidden ones apart, and what is wrong with other names."""
    tars: dict[str, str] = {}
    problems = []
    for name in names:
        if name.startswith(".") or not name.lower().endswith((".tar", *COMPRESSED)):
            continue
        if not name.isprintable():
            problems.append(f"{shown(name)}: its name cannot be printed or is not UTF-8; rename it")
        elif name.lower().endswith(COMPRESSED):
            problems.append(f"{name}: a compressed tar cannot be read in part; unpack it")
        elif tars.setdefault(_stem(name), name) != name:
            problems.append(f"{name}: {tars[_stem(name)]} would have the same index; rename one")
    return list(tars.values()), problems


def _stem(tar_name: str) -> str:
    return tar_name[: -len(".tar")]


def _totals(scans: Sequence[_Scan]) -> tuple[dict[str, int], dict[str, tuple[int, str]]]:
    speakers_from: dict[str, int] = {}
    passed_over: dict[str, tuple[int, str]] = {}
    for scan in scans:
        for place, count in scan.speakers_from.items():
            speakers_from[place] = speakers_from.get(place, 0) + count
        for kind, (count, first) in scan.passed_over.items():
            before, earliest = passed_over.get(kind, (0, first))
            passed_over[kind] = before + count, earliest
    return speakers_from, passed_over


def _repacking(url: str, rule: SpeakerRule) -> str:
    """Which command makes shards of tars that hold audio of other kinds."""
    path = storage.local_path(url)
    command = shlex.join(["make-shards", "pack", path or "FOLDER"]) + " OUT --convert"
    if rule.kind == "name":
        command += f" --speaker {shlex.quote(rule.value)}"
    elif rule != USUAL:
        command += " --list LIST (of 'speaker path' lines)"
    return f", and {command} makes shards of all of it" + ("" if path else " once it lies in a FOLDER here")


def _scan_all(
    site: Folder, tars: list[str], rule: SpeakerRule, workers: int, progress: bool
) -> dict[str, _Scan]:
    scans = {}
    tasks = [_Task(site, name, rule) for name in tars]
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
        with local_copy(task.site.at(name)) as path:
            return _scan_file(path, name, task.rule, report)
    except UserError as error:
        return _Scan(None, (), [str(error)])


def _scan_file(path: str, tar_name: str, rule: SpeakerRule, report: Report) -> _Scan:
    tar = read_samples(path)
    problems = [f"{tar_name}: {problem}" for problem in tar.problems]
    if not tar.whole:
        return _Scan(None, (), problems, other_audio=tar.other_audio)
    keys: list[str] = []
    speakers: list[str] = []
    speakers_from: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int]] = []
    tables: list[FrameTable | None] = []
    with open(path, "rb") as file:
        for key, sample in tar.samples.items():
            try:
                data, info = _audio(file.fileno(), sample)
                speaker, place = speaker_of(
                    sample, tar, rule, lambda member: read_member(file.fileno(), member)
                )
            except UserError as error:
                problems.append(f"{tar_name}: {error}")
                continue
            member = sample.audio
            pcm_offset = -1 if info.pcm_offset is None else member.offset + info.pcm_offset
            codec = index_file.FLAC if info.codec == "flac" else index_file.WAV
            rows.append((info.frames, codec, member.offset, member.size, pcm_offset))
            tables.append(find_frames(data) if info.codec == "flac" else None)
            keys.append(key)
            speakers.append(speaker)
            speakers_from[place] = speakers_from.get(place, 0) + 1
    if not tar.samples and not problems:
        problems.append(f"{tar_name}: holds no sample: no KEY.wav and no KEY.flac")
    passed_over: dict[str, tuple[int, str]] = {}
    for kind, name in tar.passed_over():
        count, first = passed_over.get(kind, (0, f"{tar_name}: {name}"))
        passed_over[kind] = count + 1, first
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
    return _Scan(index, speakers, problems, speakers_from, passed_over, tar.other_audio)


def _audio(file: int, sample: Sample) -> tuple[bytes, audio.AudioInfo]:
    """A sample's audio member, and what its header says; UserError for what is unfit."""
    name = sample.title
    data = read_member(file, sample.audio)
    try:
        info = audio.probe(data, name)
        audio.decode(data, name)  # what is cut short or of another kind is found now, not in training
    except MemoryError as error:
        raise UserError(f"{name}: no memory to decode its {len(data)} bytes") from error
    if info.codec != sample.name.extension:
        raise UserError(f"{name}: is {info.codec.upper()} inside; rename it")
    return data, info
