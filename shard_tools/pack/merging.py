"""The last step of a pack in parts: its manifest, from the parts' records alone.

Parts of different n may have worked on one plan: what counts is that every shard is in a record.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shard_tools import audio, storage
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset import manifest_table
from shard_tools.dataset.catalogue import checked_index
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack import sources as pack_sources
from shard_tools.pack import state as pack_state
from shard_tools.pack.claim import Claim
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.parts import Part, Record, drop_all_records, read_records, record_parts
from shard_tools.pack.plan import PackOptions, dataset_inputs
from shard_tools.pack.reports import report_names
from shard_tools.pack.scratch import sweep
from shard_tools.storage import Folder
from shard_tools.threads import Threads


@dataclass(frozen=True)
class MergeSummary:
    """`reused`: as the parts counted; `whole_before`: there was nothing left to do."""

    manifest: Manifest
    reused: int
    seconds: float
    whole_before: bool


def merge(url: str) -> MergeSummary:
    """Publish the manifest of the shards that parts made at `url`, and remove what the parts left for it.

    The shards are not read; that they are there, of the right size, and as their indexes say is looked at.
    Where a manifest is already, there is nothing to do: it is removed before any shard changes. Its table is
    put beside it where there is none, as in sets of before there were any.

    Raises ProblemsError with all files that the parts refused, and UserError that names the parts which
    are missing, or were made from another list or with other options, and the command that packs them.
    """
    began = time.monotonic()
    site = Folder(url)
    names = site.names()
    if manifest_file.NAME in names:
        data = site.read(manifest_file.NAME)
        manifest = manifest_file.from_bytes(data, site.at(manifest_file.NAME))
        manifest_table.publish_beside(site, manifest, hashlib.sha256(data).hexdigest())
        drop_all_records(site, names)
        pack_sources.drop_all(site, names)
        site.remove(pack_claim.STATE_NAME)
        return MergeSummary(manifest, len(manifest.shards), time.monotonic() - began, True)
    claim = pack_claim.read(site)
    if claim is None:
        raise UserError(
            f"{site}: no part of a pack is here; pack its parts with make-shards pack ROOT URL --part I/N"
        )
    sweep(site, names)
    records = read_records(site, record_parts(names))
    ours = {part: record for part, record in records.items() if record.plan == claim.plan}
    entries = _whole(site, names, ours, claim.shards)
    _require_all(site, claim, records, entries)
    inputs = {number: digest for record in ours.values() for number, digest in record.inputs.items()}
    manifest = Manifest(
        speakers=claim.speakers,
        shards=tuple(entries[number] for number in range(claim.shards)),
        sample_rate=audio.SAMPLE_RATE,
        inputs=dataset_inputs([inputs[n] for n in range(claim.shards)], claim.speakers, claim.options),
        options=claim.options,
    )
    selected = claim.options.keys() - vars(PackOptions()).keys()
    pack_state.complete(site, manifest, claim.plan, keep=report_names() if selected else ())
    reused = min(sum(record.reused for record in ours.values()), claim.shards)
    return MergeSummary(manifest, reused, time.monotonic() - began, False)


def _whole(
    site: Folder, names: Sequence[str], ours: Mapping[Part, Record], shards: int
) -> dict[int, ShardEntry]:
    """Those entries of parts whose shard is there, of the right size, with the index that they describe."""
    inputs = {number: digest for record in ours.values() for number, digest in record.inputs.items()}

    def is_whole(item: tuple[int, ShardEntry]) -> bool:
        number, entry = item
        try:
            if site.size(entry.url) != entry.filesize:
                return False
            index = checked_index(entry, site.at(entry.index), site.read(entry.index), shards)
        except storage.MissingError:
            return False
        except storage.StorageError:
            raise
        except UserError:
            return False
        return index.inputs == inputs[number]

    there = set(names)
    entries = {n: entry for record in ours.values() for n, entry in record.entries.items()}
    listed = [(n, entry) for n, entry in entries.items() if {entry.url, entry.index} <= there]
    with Threads(storage.current_policy().at_once(), "looks") as threads:
        return dict(item for item, whole in zip(listed, threads.map(is_whole, listed), strict=True) if whole)


def _require_all(
    site: Folder, claim: Claim, records: Mapping[Part, Record], entries: Mapping[int, ShardEntry]
) -> None:
    """Raise unless there is an entry for every shard of the plan."""
    missing = set(range(claim.shards)) - entries.keys()
    if not missing:
        return
    ours = [part for part in records if records[part].plan == claim.plan]
    lacking = [
        [Part(count, index) for index in sorted({number % count + 1 for number in missing})]
        for count in [claim.parts, *(part.count for part in ours)]
    ]
    # Where parts of different n were packed, those of the n that leaves the fewest to do.
    parts = min(lacking, key=lambda parts: (len(parts), -parts[0].count))
    reasons: dict[str, list[Part]] = {}
    for part in parts:
        record = records.get(part)
        if record is None:
            reason = "not packed to the end"
        elif record.plan != claim.plan:
            reason = "packed from another list or with other options"
        elif record.problems:
            reason = "packed without shards whose files were refused"
        else:
            reason = "packed, but its shards are gone, or not what its record says"
        reasons.setdefault(reason, []).append(part)
    found = "; ".join(f"{_words(group)}: {reason}" for reason, group in reasons.items())
    remedy = f"pack {_words(parts)} with: {_command(site, claim, parts)}"
    problems = sorted({line for part in ours for line in records[part].problems})
    if problems:
        raise ProblemsError(
            problems,
            f"no manifest was written ({found}); mend the files and {remedy}; or unlist them and pack all"
            " parts again with --overwrite",
        )
    raise UserError(f"{site}: cannot be merged: {found}; {remedy}, and merge again")


def _words(parts: Sequence[Part]) -> str:
    """For example "part 2 of 16", "parts 2,5-9 of 16", as sbatch's --array takes them."""
    return f"part{'s' * (len(parts) > 1)} {_ranges([part.index for part in parts])} of {parts[0].count}"


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers: [2, 5, 6, 7] → "2,5-7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _command(site: Folder, claim: Claim, parts: Sequence[Part]) -> str:
    """What packs these parts; I stands for each where there are several."""
    words = ["make-shards", "pack", claim.root, site.url]
    if claim.list is not None:
        words += ["--list", claim.list]
    if claim.speaker is not None:
        words += ["--speaker", claim.speaker]
    if parts[0].count > 1:
        words += ["--part", str(parts[0]) if len(parts) == 1 else f"I/{parts[0].count}"]
    defaults = vars(PackOptions())
    for name, value in claim.options.items():
        if value != defaults.get(name):
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)
