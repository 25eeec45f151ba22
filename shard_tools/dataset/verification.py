"""Reading back everything that a manifest promises: every checksum, every utterance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from shard_tools import storage
from shard_tools.dataset import layout, manifest_table
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import read_manifest
from shard_tools.dataset.manifest import Manifest
from shard_tools.dataset.shard_check import ShardFound, ShardTask, check_shard
from shard_tools.dataset.speakers import SpeakerRule, parse_rule
from shard_tools.errors import UserError
from shard_tools.workers import run

_PACKED = SpeakerRule("json", "speaker")  # where make-shards pack writes it


@dataclass(frozen=True)
class VerifySummary:
    """problems: one line each, in shard order; nothing is wrong when there are none.

    shards: what was found of each shard, in the manifest's order, their indexes without checksums of blocks.
    """

    manifest: Manifest
    problems: list[str]
    shards: Sequence[ShardFound] = field(default=(), repr=False)


def verify(url: str, *, workers: int = 1, progress: bool = False) -> VerifySummary:
    """Check the dataset at `url`, and go on after whatever is wrong.

    Checked are the SHA-256 of indexes and shards, the CRC-32 of blocks, and that every
    utterance lies where its index says, decodes, agrees with its JSON, and is counted among
    its speaker's; and that the manifest's table, where there is one, says what the manifest says.

    Raises UserError only when there is no readable manifest to check against.
    """
    manifest_url = storage.join(url, manifest_file.NAME)
    data = read_manifest(manifest_url)
    manifest = manifest_file.from_bytes(data, manifest_url)
    found = look_at(url, manifest, range(len(manifest.shards)), workers, progress)
    summary = conclude(manifest, [found[number] for number in range(len(manifest.shards))])
    return with_table(summary, url, hashlib.sha256(data).hexdigest())


def with_table(summary: VerifySummary, url: str, digest: str) -> VerifySummary:
    """The summary with what is wrong with the manifest's table, if any. digest: of the manifest."""
    problem = manifest_table.problem(url, summary.manifest, digest)
    return summary if problem is None else replace(summary, problems=[*summary.problems, problem])


def look_at(
    url: str, manifest: Manifest, numbers: Sequence[int], workers: int, progress: bool
) -> dict[int, ShardFound]:
    """Check those shards of the dataset at `url`, each by itself; by their numbers."""
    ours = not is_indexed(manifest)
    rule = _PACKED if ours else _rule(manifest, storage.join(url, manifest_file.NAME))
    shards = len(manifest.shards)
    number_of = {manifest.shards[number].url: number for number in numbers}
    tasks = [
        ShardTask(url, manifest.shards[number], manifest.speakers, shards, ours, rule) for number in numbers
    ]
    found: dict[int, ShardFound] = {}
    total = sum(task.entry.filesize for task in tasks)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="verifying", disable=None if progress else True
    ) as bar:
        for task, result in run(check_shard, tasks, workers=workers, progress=bar.update):
            if result.index is not None:  # a million utterances' checksums are not kept
                result = replace(
                    result, index=replace(result.index, block_crc32=result.index.block_crc32[:0])
                )
            found[number_of[task.entry.url]] = result
    return found


def conclude(manifest: Manifest, shards: Sequence[ShardFound]) -> VerifySummary:
    """What is wrong with the dataset, from what was found of each shard: those, and shards together."""
    shard_of_key: dict[str, str] = {}
    clashes: list[str] = []
    for entry, found in zip(manifest.shards, shards, strict=True):
        for key in found.index.keys() if found.index is not None else ():
            other = shard_of_key.setdefault(key, entry.url)
            if other != entry.url:
                clashes.append(f"{entry.url}: key {key!r} is also in {other}")
    problems = [problem for found in shards for problem in found.problems] + sorted(clashes)
    return VerifySummary(manifest, problems or _misplaced(manifest, shards), shards)


def is_indexed(manifest: Manifest) -> bool:
    """Whether the shards are tars that others made, which make-shards index described."""
    return bool(manifest.options.get("indexed"))


def _rule(manifest: Manifest, name: str) -> SpeakerRule:
    """By which rule `make-shards index` found the speakers."""
    try:
        return parse_rule(str(manifest.options.get("speaker_from", "usual")))
    except ValueError as error:
        raise UserError(f"{name}: options.speaker_from: {error}; index the shards again") from error


def _misplaced(manifest: Manifest, shards: Sequence[ShardFound]) -> list[str]:
    """Indexes that are wrong about places among a speaker's utterances; all else about them is right."""
    inside = [found.index for found in shards if found.index is not None]  # all, where nothing is wrong
    labels = np.concatenate([np.empty(0, np.int32), *(index.label for index in inside)])
    places = layout.places(labels, np.repeat(np.arange(len(inside)), [len(index) for index in inside]))
    problems, first = [], 0
    for entry, index in zip(manifest.shards, inside, strict=True):
        rows = slice(first, first := first + len(index))
        wrong = np.flatnonzero(
            (index.turn != places.turn[rows])
            | (index.total != places.total[rows])
            | (index.next_shard != places.next_shard[rows])
        )
        if len(wrong):
            problems.append(
                f"{entry.url}: its index is wrong about the place of {len(wrong)} utterances among their"
                f" speakers' ({index.key(int(wrong[0]))} first); index the shards again"
            )
    return problems
