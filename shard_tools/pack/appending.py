"""Adding a list to a set that is there: its tars and labels stay, new shards and speakers come after them.

An index says of each utterance how many its speaker has, and where the next are. Where that changes an old
shard gets another index beside its own, under another name: until the new manifest is published the old one
speaks of nothing that has changed, and who has read that goes on reading.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shard_tools.arrays import Int32Array
from shard_tools.dataset import index as index_file
from shard_tools.dataset import layout
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import checked_index, outside_speakers
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.manifest import Appended, Manifest, ShardEntry
from shard_tools.dataset.manifest_table import is_table
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack import state as pack_state
from shard_tools.pack.intake import Intake, Wanted, choose, claim_of, read_wanted
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.packing import PackSummary, make
from shard_tools.pack.plan import Before, PackOptions, PackPlan, dataset_inputs
from shard_tools.pack.reports import is_report, publish_report
from shard_tools.pack.reuse import find_reusable
from shard_tools.pack.scratch import scratch_folder
from shard_tools.pack.selection import Held
from shard_tools.records import convert
from shard_tools.storage import Folder

_INDEXES_AT_ONCE = 64
_INDEX = re.compile(r"shard-(\d{6,})\.index(?:-(\d+))?\.npz")
_INHERITED = ("format", "utterances_per_shard", "group", "seed")


@dataclass(frozen=True)
class AppendSummary(PackSummary):
    """added: utterances of the list; new_speakers: how many the set did not have; again: whether all of it
    had been added before."""

    added: int
    new_speakers: int
    again: bool


@dataclass(frozen=True, eq=False)
class _Set:
    """The set at a URL as it was before the list; now: as it is.

    turn, total, next_shard: int32 (M,), as the indexes say. added: the record of this list where it has been
    added before. digest: SHA-256 (hex) of the manifest's file as it is now.
    """

    now: Manifest
    digest: str
    before: Before
    places: layout.Places
    added: Appended | None

    @property
    def entries(self) -> tuple[ShardEntry, ...]:
        return self.now.shards[: self.before.shards]


@dataclass(frozen=True, eq=False)
class _Columns:
    """Of all utterances of a set, int32 (M,) each; known: those of a list's keys that are in it, with their
    shards and labels."""

    labels: Int32Array
    shard: Int32Array
    places: layout.Places
    known: dict[str, tuple[int, int]]

    def held(self, speakers: Sequence[str]) -> Held:
        counts = np.bincount(self.labels, minlength=len(speakers)).tolist()
        keys = {key: speakers[label] for key, (_, label) in self.known.items()}
        return Held(dict(zip(speakers, counts, strict=True)), keys)


def append(
    url: str,
    wanted: Wanted,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> AppendSummary:
    """Add what is wanted to the set at `url`, and publish a manifest of both.

    New speakers have labels after the old ones, in order among themselves. The same list added again is
    found to be there; shards of it that went missing are put back. A run that was killed goes on where it
    was. overwrite: whether to replace an append of another list that was begun.

    Raises UserError when there is no set that was packed, and ProblemsError naming utterances whose keys it
    has already. What the old manifest speaks of is never changed.
    """
    began = time.monotonic()
    site = Folder(url)
    now, digest = _manifest(site)
    corpus, listing = read_wanted(wanted)
    columns = _columns(site, now, listing.keys)
    held = columns.held(now.speakers)
    intake = choose(wanted, corpus, listing, workers=workers, progress=progress, held=held)
    there, plan = _planned(now, digest, columns, intake)
    claim = claim_of(plan, wanted, parts=1)
    files = intake.files(plan, plan.numbers, workers, progress)
    names = site.names()
    with scratch_folder(site, names) as scratch:
        tasks = plan.tasks(plan.numbers, files, site, scratch)
        own = dataset_inputs([task.inputs() for task in tasks], plan.speakers, claim.options)
        inputs = hashlib.sha256(json.dumps([there.before.digest, own]).encode()).hexdigest()
        reuse = find_reusable(site, tasks, names, inputs, workers, progress)
        if there.added is not None and (now.inputs != inputs or reuse.changed):
            changed = next(iter(reuse.changed.values()), "a file")
            raise UserError(
                f"{site.at(manifest_file.NAME)}: this list has been added already, but {changed} has changed"
                " since; an appended shard is not replaced: pack both lists anew at another URL"
            )
        if there.added is not None:
            tasks = [replace(task, promised=now.shards[task.number]) for task in tasks]
        with pack_claim.given_up_on_failure(site, plan.digest):
            pack_state.begin_append(
                site, names, now, digest, tasks, reuse.entries, claim, overwrite=overwrite
            )
            entries = dict(reuse.entries)
            for number, entry in make(tasks, reuse.entries, workers, progress):
                entries[number] = entry
            pack_claim.require(site, plan.digest)
            manifest = Manifest(
                speakers=plan.speakers,
                shards=(*_reindexed(site, there, plan), *(entries[number] for number in plan.numbers)),
                sample_rate=now.sample_rate,
                inputs=inputs,
                options=now.options,
                appended=now.appended if there.added is not None else (*now.appended, _record(there, plan)),
            )
            reports = publish_report(site, intake.report, len(manifest.appended))
            _publish(site, there, manifest, plan, reports)
    return AppendSummary(
        manifest,
        len(reuse.entries),
        time.monotonic() - began,
        intake.report,
        site.at(reports[-1]) if reports else None,
        added=len(plan.listing),
        new_speakers=len(plan.speakers) - len(there.before.speakers),
        again=there.added is not None,
    )


def options_of(url: str, given: Mapping[str, Any]) -> PackOptions:
    """How a list is packed that is added to the set at `url`: as is `given`, and else as the set was.

    Whether files are converted is the list's own matter. Raises UserError when there is no set that can be
    added to.
    """
    site = Folder(url)
    kept = {name: value for name, value in _manifest(site)[0].options.items() if name in _INHERITED}
    remedy = "give --format, --utterances-per-shard, --group and --seed"
    return convert({**kept, **given}, PackOptions, f"{site.at(manifest_file.NAME)}: options", remedy)


def differences(summary: AppendSummary) -> Iterator[str]:
    """In which options the list was packed otherwise than the set, a line each."""
    of_set, of_list = summary.manifest.options, summary.manifest.appended[-1].options
    for name in sorted({*of_set, *of_list} - {"convert"}):
        if of_set.get(name) != of_list.get(name):
            before, here = of_set.get(name, "not given"), of_list.get(name, "not given")
            yield f"--{name.replace('_', '-')}: {before} for the set, {here} for what was added"


def _manifest(site: Folder) -> tuple[Manifest, str]:
    """(the manifest, the SHA-256 of its file)."""
    if manifest_file.NAME not in site.names():
        raise UserError(f"{site}: no dataset is here to append to; pack the first list without --append")
    data = site.read(manifest_file.NAME)
    manifest = manifest_file.from_bytes(data, site.at(manifest_file.NAME))
    if manifest.options.get("indexed"):
        raise UserError(
            f"{site}: its tars were made by others, and make-shards index read them by other rules; pack the"
            " list to another URL, and give data.url both when training"
        )
    return manifest, hashlib.sha256(data).hexdigest()


def _record(there: _Set, plan: PackPlan) -> Appended:
    before = there.before
    return Appended(len(before.speakers), before.shards, before.digest, plan.digest, plan.recorded)


def _planned(now: Manifest, digest: str, columns: _Columns, intake: Intake) -> tuple[_Set, PackPlan]:
    """The set before the list, and the plan of the list: where it is what was added last, that very plan."""
    labels, shard, places = columns.labels, columns.shard, columns.places
    if now.appended:
        last = now.appended[-1]
        old = shard < last.shards
        speakers = now.speakers[: last.speakers]
        before = Before(last.manifest, speakers, last.shards, labels[old], shard[old])
        plan = intake.plan(before)
        if plan.digest == last.plan:
            old_places = layout.Places(places.turn[old], places.total[old], places.next_shard[old])
            return _Set(now, digest, before, old_places, last), plan
    clashes = [
        f"{path}: {now.shards[columns.known[key][0]].url} has an utterance of the key {key!r} already"
        for path, key in zip(intake.listing.paths, intake.listing.keys, strict=True)
        if key in columns.known
    ]
    if clashes:
        raise ProblemsError(
            clashes,
            "nothing was appended; unlist what is there already, or rename it",
        )
    before = Before(digest, now.speakers, len(now.shards), labels, shard)
    return _Set(now, digest, before, places, None), intake.plan(before)


def _columns(site: Folder, manifest: Manifest, keys: Sequence[str]) -> _Columns:
    """keys: of the list."""
    wanted = set(keys)
    known: dict[str, tuple[int, int]] = {}
    parts: list[tuple[Int32Array, ...]] = []
    for number, index in _indexes(site, manifest):
        shard = np.full(len(index), number, np.int32)
        parts.append((index.label, shard, index.turn, index.total, index.next_shard))
        own = zip(index.keys(), index.label.tolist(), strict=True)
        known |= {key: (number, label) for key, label in own if key in wanted}
    labels, shards, turn, total, following = (np.concatenate(column) for column in zip(*parts, strict=True))
    outside_speakers(labels, manifest.speakers, site.at(manifest_file.NAME))
    return _Columns(labels, shards, layout.Places(turn, total, following), known)


def _indexes(site: Folder, manifest: Manifest) -> Iterator[tuple[int, ShardIndex]]:
    entries = manifest.shards
    for first in range(0, len(entries), _INDEXES_AT_ONCE):
        some = entries[first : first + _INDEXES_AT_ONCE]
        found = site.read_many([entry.index for entry in some])
        for number, (entry, data) in enumerate(zip(some, found, strict=True), first):
            yield number, checked_index(entry, site.at(entry.index), data, len(entries))


def _reindexed(site: Folder, there: _Set, plan: PackPlan) -> Iterator[ShardEntry]:
    """The entries of the old shards, after a new index was published for each whose places change."""
    old, new, appended = there.places, plan.places, len(there.now.appended) + 1
    begin = 0
    for number, entry in enumerate(there.entries):
        rows = slice(begin, begin := begin + entry.nsamples)
        columns = {name: getattr(new, name)[rows] for name in ("turn", "total", "next_shard")}
        if all(np.array_equal(getattr(old, name)[rows], column) for name, column in columns.items()):
            yield entry
            continue
        where = site.at(entry.index)
        index = checked_index(entry, where, site.read(entry.index), len(there.now.shards))
        data = index_file.to_bytes(replace(index, **columns))
        name = f"shard-{number:06d}.index-{appended}.npz"
        site.publish(name, data)
        yield replace(entry, index=name, index_sha256=hashlib.sha256(data).hexdigest())


def _publish(site: Folder, there: _Set, manifest: Manifest, plan: PackPlan, reports: list[str]) -> None:
    """Publish the manifest, if the set is still the one that it was made for.

    Indexes and tables of earlier manifests stay, for who has read those.
    """
    pack_state.require_manifest(site, there.digest)
    names = site.names()
    kept = {name for name in names if is_report(name) or is_table(name)} | set(reports)
    if there.added is not None:
        kept |= set(names)
    else:
        kept |= {name for entry in there.now.shards for name in (entry.url, entry.index)}
        kept |= {name for name in names if _is_of_an_earlier(name, there)}
    pack_state.complete(site, manifest, plan.digest, keep=kept)


def _is_of_an_earlier(name: str, there: _Set) -> bool:
    """Whether one of the manifests before may have named this index."""
    found = _INDEX.fullmatch(name)
    if found is None:
        return False
    return int(found[1]) < there.before.shards and int(found[2] or 0) <= len(there.now.appended)
