"""Packing audio files into shards: same list and options, same bytes, however many workers and interruptions.

Shards that an interrupted run made from the same inputs are kept (`pack_state`
has the rules); the manifest comes last.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from shard_tools import audio, layout, pack_state, storage
from shard_tools import index as index_file
from shard_tools.check_sources import check_sources
from shard_tools.errors import UserError
from shard_tools.listing import Listing, ProblemsError, read_listing
from shard_tools.manifest import Manifest, ShardEntry
from shard_tools.scratch import scratch_folder
from shard_tools.shard_writer import Format, ShardTask, Source, entry_of, write_shard
from shard_tools.workers import run


@dataclass(frozen=True)
class PackOptions:
    """What decides the shards besides the list.

    format: "keep" the files' bytes, or re-encode as "wav" or "flac";
    convert: make what is not 16 kHz, mono, 16-bit so, instead of refusing it;
    utterances_per_shard: about so many; group: up to so many of a speaker stay together;
    seed: of the shuffle.
    """

    format: Format = "keep"
    convert: bool = False
    utterances_per_shard: int = 1000
    group: int = 4
    seed: int = 0


@dataclass(frozen=True)
class PackSummary:
    """What a pack made; `reused` shards were there already, from an earlier run."""

    manifest: Manifest
    reused: int
    seconds: float


def pack(
    root: str,
    url: str,
    *,
    list_url: str | None = None,
    options: PackOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> PackSummary:
    """Pack audio below folder `root` into shards at `url`; manifest.json is published last.

    list_url: file of "speaker relative/path.wav" lines; without it every .wav and .flac below `root`, the
    first folder being the speaker. workers: processes that make shards. overwrite: whether other shards
    that are complete at `url` may be replaced. progress: show bars on stderr when that is a terminal.

    Raises UserError, with no manifest left behind that speaks of missing or changed shards.
    """
    options = options or PackOptions()
    began = time.monotonic()
    names = set(
        storage.list_names(url)
    )  # also the first word with the store: a wrong bucket shows before any work
    listing = read_listing(root, list_url)
    sources = check_sources(root, listing.paths, convert=options.convert, workers=workers, progress=progress)
    if url.startswith("memory:"):
        workers = 1  # another process's memory is not ours
    with scratch_folder(url, names) as scratch:
        tasks = _tasks(root, url, scratch, listing, sources, options)
        speakers = sorted(set(listing.speakers))
        inputs = _digest([task.inputs() for task in tasks], speakers, options)
        reused = _reusable(tasks, names)
        pack_state.begin(url, names, inputs, tasks, reused, overwrite=overwrite)
        entries = dict(reused)
        todo = [task for task in tasks if task.number not in reused]
        for number, entry in _make(todo, workers, progress):
            entries[number] = entry
        manifest = Manifest(
            speakers=tuple(speakers),
            shards=tuple(entries[number] for number in range(len(tasks))),
            sample_rate=audio.SAMPLE_RATE,
            inputs=inputs,
            options=asdict(options),
        )
        pack_state.complete(url, names, manifest)
    return PackSummary(manifest, len(reused), time.monotonic() - began)


def _tasks(
    root: str,
    url: str,
    scratch: str,
    listing: Listing,
    checked: list[tuple[int, int]],
    options: PackOptions,
) -> list[ShardTask]:
    label_of = {speaker: label for label, speaker in enumerate(sorted(set(listing.speakers)))}
    labels = np.array([label_of[speaker] for speaker in listing.speakers], np.int64)
    shards = layout.shard_rows(
        labels, utterances_per_shard=options.utterances_per_shard, group=options.group, seed=options.seed
    )
    in_order = np.concatenate(shards)
    places = layout.places(labels[in_order], np.repeat(np.arange(len(shards)), [len(s) for s in shards]))
    turn, total, next_shard = (column.tolist() for column in (places.turn, places.total, places.next_shard))
    tasks, first = [], 0
    for number, rows in enumerate(shards):
        sources = tuple(
            Source(
                listing.speakers[row],
                int(labels[row]),
                turn[place],
                total[place],
                next_shard[place],
                listing.paths[row],
                listing.keys[row],
                *checked[row],
            )
            for place, row in enumerate(rows.tolist(), first)
        )
        first += len(rows)
        tasks.append(ShardTask(number, url, scratch, root, options.format, options.convert, sources))
    return tasks


def _digest(parts: list[str], speakers: list[str], options: PackOptions) -> str:
    return hashlib.sha256(json.dumps([parts, speakers, asdict(options)]).encode()).hexdigest()


def _reusable(tasks: list[ShardTask], names: set[str]) -> dict[int, ShardEntry]:
    """Entries of the shards that an earlier run made from the same inputs and that are whole.

    Like make: a shard older than one of its files is not reused.
    """

    def look(task: ShardTask) -> ShardEntry | None:
        index_url = storage.join(task.url, task.index_name)
        try:
            data = storage.read_bytes(index_url)
            index = index_file.from_bytes(data, index_url)
            made = storage.modified(index_url)
            shard_size = storage.size(storage.join(task.url, task.tar_name))
        except UserError:
            return None
        if made == int(made):  # the store keeps whole seconds
            made += 1
        newest = max(source.mtime_ns for source in task.sources) / 1e9
        same = index.inputs == task.inputs() and index.shard_size == shard_size and newest < made
        return entry_of(task.tar_name, task.index_name, index, data) if same else None

    there = [task for task in tasks if {task.tar_name, task.index_name} <= names]
    with ThreadPoolExecutor(storage.policy().connections) as threads:
        found = threads.map(look, there)
        return {task.number: entry for task, entry in zip(there, found, strict=True) if entry is not None}


def _make(tasks: list[ShardTask], workers: int, progress: bool) -> Iterator[tuple[int, ShardEntry]]:
    """Make shards and yield (number, entry) of each; afterwards raise ProblemsError if files were refused."""
    problems: list[str] = []
    total = sum(source.size for task in tasks for source in task.sources)
    with tqdm(
        total=total,
        unit="B",
        unit_scale=True,
        desc="packing",
        disable=None if progress else True,
        smoothing=0.1,
    ) as bar:
        for task, result in run(write_shard, tasks, workers=workers, progress=bar.update):
            problems.extend(result.problems)
            if result.entry is not None:
                yield task.number, result.entry
    if problems:
        raise ProblemsError(
            sorted(problems),
            "no manifest was written; mend or unlist the files and run again (whole shards are kept)",
        )
