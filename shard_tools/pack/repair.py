"""Putting back what `verify` finds bad, from the audio that it was packed from.

A bad shard is made again in a folder apart, and put into its place only where its SHA-256 is the manifest's,
which stays as it is. Other shards' files are not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from shard_tools import storage
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset import manifest_table
from shard_tools.dataset.catalogue import read_manifest
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.dataset.verification import VerifySummary, conclude, is_indexed, look_at, with_table
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack.claim import Claim
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.difference import what_changed
from shard_tools.pack.remaking import PLAN, REMEDY, read_material, remaking
from shard_tools.pack.scratch import scratch_folder
from shard_tools.pack.task import ShardTask, SourceFile
from shard_tools.pack.writer import write_shard
from shard_tools.storage import Folder
from shard_tools.workers import Report, run

_SHOWN = 3  # reasons of one shard


@dataclass(frozen=True)
class RepairSummary:
    """before, after: what was found before and after; put_back: the files that were, by their shard's number;
    unrepaired: by a shard's number, why nothing of it was put back.
    """

    before: VerifySummary
    after: VerifySummary
    put_back: Mapping[int, Sequence[str]]
    unrepaired: Mapping[int, str]


@dataclass(frozen=True)
class _Task:
    """A shard to make again; shard: how, in a folder apart; bad: its files that are not as `entry` says."""

    shard: ShardTask
    site: Folder
    entry: ShardEntry
    bad: Sequence[str]
    manifest_sha256: str


def repair(
    url: str,
    root: str,
    *,
    list_url: str | None = None,
    speaker: str | None = None,
    workers: int = 1,
    progress: bool = False,
) -> RepairSummary:
    """Check the dataset at `url` as `verify` does, and make again whatever of it is not what it promises.

    root, list_url, speaker: as they were given to `pack`. Only files of bad shards are read. A shard whose
    files have changed since is left as it is, and so is one that was packed just so: `unrepaired` says why.

    Raises UserError, before any shard is read, where there is no readable manifest, the shards were made by
    others, or root and list name none of the manifest's speakers.
    """
    site = Folder(url)
    manifest_url = site.at(manifest_file.NAME)
    data = read_manifest(manifest_url)
    manifest = manifest_file.from_bytes(data, manifest_url)
    if is_indexed(manifest):
        raise UserError(
            f"{manifest_url}: these tars were made by others, and make-shards index only described them: none"
            " can be packed again from audio; fetch the bad ones anew, then run make-shards index --overwrite"
        )
    material = read_material(manifest, root, list_url, speaker)
    if not set(material.listing.speakers) & set(manifest.speakers):
        raise UserError(f"{list_url or root}: has no speaker of {manifest_url}; {REMEDY}")
    numbers = range(len(manifest.shards))
    found = look_at(url, manifest, numbers, workers, progress)
    digest = hashlib.sha256(data).hexdigest()
    before = with_table(conclude(manifest, [found[number] for number in numbers]), url, digest)
    if manifest_table.problem(url, manifest, digest) is not None:
        manifest_table.publish_beside(site, manifest, digest)

    bad = {number: (*found[number].missing, *found[number].other) for number in numbers}
    unrepaired = {
        number: "it is what the manifest promises, so it was packed like this; pack anew with --overwrite"
        for number in numbers
        if found[number].problems and not bad[number]
    }
    put_back: dict[int, Sequence[str]] = {}
    again = [number for number in numbers if bad[number]]
    if again:
        with scratch_folder(site, site.names()) as scratch:
            apart = _claimed(scratch, manifest)
            shards, unknown = remaking(manifest, before.shards, material, again, apart, scratch)
            unrepaired |= unknown
            tasks = [
                _Task(shard, site, manifest.shards[shard.number], bad[shard.number], digest)
                for shard in shards
            ]
            in_process = 1 if url.startswith("memory:") else workers  # another process's memory is not ours
            with tqdm(
                total=len(tasks), unit="shard", desc="repairing", disable=None if progress else True
            ) as bar:
                for task, problem in run(_remake, tasks, workers=in_process, progress=bar.update):
                    if problem is None:
                        put_back[task.shard.number] = task.bad
                    else:
                        unrepaired[task.shard.number] = problem
        found |= look_at(url, manifest, sorted(put_back), workers, progress)
    after = with_table(conclude(manifest, [found[number] for number in numbers]), url, digest)
    return RepairSummary(before, after, put_back, unrepaired)


def _claimed(scratch: str, manifest: Manifest) -> Folder:
    """A folder apart below `scratch`, claimed as that of a pack is."""
    apart = Folder(os.path.join(scratch, "made"))
    os.makedirs(apart.url, exist_ok=True)
    claim = Claim(
        plan=PLAN,
        shards=len(manifest.shards),
        parts=1,
        root="",
        list=None,
        options={},
        speakers=manifest.speakers,
    )
    pack_claim.take(apart, claim, overwrite=True)
    return apart


def _remake(task: _Task, report: Report) -> str | None:
    """Make the shard and put its bad files into place; why not, where they would not be the manifest's."""
    apart, entry = task.shard.site, task.entry
    try:
        shard = replace(task.shard, sources=_as_they_are(task.shard.corpus, task.shard.sources))
        result = write_shard(shard, lambda _: report(0))
        if result.entry is None:
            return _some(result.problems)
        made = {entry.url: result.entry.sha256, entry.index: result.entry.index_sha256}
        names = {entry.url: shard.tar_name, entry.index: shard.index_name}
        promised = {entry.url: entry.sha256, entry.index: entry.index_sha256}
        if any(made[name] != promised[name] for name in task.bad):
            return what_changed(shard, entry, task.site, report)
        # Another pack may have replaced the dataset meanwhile, and its shards have the same names.
        manifest_url = task.site.at(manifest_file.NAME)
        if hashlib.sha256(storage.read_bytes(manifest_url)).hexdigest() != task.manifest_sha256:
            return f"{manifest_url}: was replaced meanwhile; run make-shards verify again"
        for name in task.bad:
            task.site.take(apart.at(names[name]), name)
    except UserError as error:
        return str(error)
    finally:
        for name in (task.shard.tar_name, task.shard.index_name):
            with contextlib.suppress(UserError):
                apart.remove(name)
        report(1)
    return None


def _as_they_are(corpus: Corpus, sources: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """The sources with their sizes and times of now. UserError names those that cannot be opened."""
    found: list[SourceFile] = []
    problems: list[str] = []
    for source in sources:
        try:
            with corpus.open(source.path) as file:
                found.append(replace(source, size=file.size, mtime_ns=file.mtime_ns))
        except UserError as error:
            problems.append(str(error))
        except OSError as error:
            name = os.path.join(corpus.root, source.path)
            problems.append(f"{name}: cannot be read ({error.strerror or error})")
    if problems:
        raise UserError(_some(problems))
    return tuple(found)


def _some(problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN
    return "; ".join([*problems[:_SHOWN], *([f"and {more} more of its files"] if more > 0 else [])])
