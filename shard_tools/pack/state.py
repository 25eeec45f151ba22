"""What an earlier pack left at the URL, and what a new one may do about it.

- manifest.json is there: a complete dataset. Packing the same list with the same
  options again finds nothing to do, or puts back shards that went missing.
  Anything else would change shards that readers rely on, so it takes --overwrite.
- packing.json without a manifest: a pack that is under way in parts or was interrupted.
  Shards made from the same inputs are kept, others are replaced; `pack_claim` says when
  that takes --overwrite.
- Tars without either are someone else's, unless some have an index of this very pack,
  and are not touched without --overwrite.

The manifest is removed before the first shard is replaced, so none ever names a
shard that has changed.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Collection, Sequence

from shard_tools import storage
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset import manifest_table
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack import sources as pack_sources
from shard_tools.pack.claim import STATE_NAME, Claim
from shard_tools.pack.parts import Part, drop_all_records, drop_records
from shard_tools.pack.reports import is_report
from shard_tools.pack.reuse import Reuse
from shard_tools.pack.task import ShardTask
from shard_tools.storage import Folder
from shard_tools.text import counted

logger = logging.getLogger(__name__)

_ADVICE = "give another URL, or --overwrite to replace it"
_OURS = re.compile(r"shard-\d{6,}\.(tar|index(-\d+)?\.npz)")
_TAR = re.compile(r"shard-\d{6,}\.tar")


def begin(
    site: Folder,
    names: Sequence[str],
    inputs: str,
    tasks: Sequence[ShardTask],
    reuse: Reuse,
    claim: Claim,
    *,
    overwrite: bool,
) -> Manifest | None:
    """Clear the way for making the shards that are not reused, or raise UserError when something must stay.

    names: what lies at `site`; inputs: the digest of the new pack. Returns the manifest that was there, where
    it can be read.
    """
    if not overwrite:
        _refuse(site, names, inputs, reuse)
    old = _readable(site) if manifest_file.NAME in names else None
    if manifest_file.NAME in names and not _is_kept(old, inputs, tasks, reuse.entries):
        site.remove(manifest_file.NAME)
    pack_claim.take(site, claim, overwrite=overwrite)
    _clear(site, names, None, tasks, reuse.entries)
    return old


def begin_part(
    site: Folder,
    names: Sequence[str],
    part: Part,
    tasks: Sequence[ShardTask],
    reused: dict[int, ShardEntry],
    claim: Claim,
    *,
    overwrite: bool,
) -> None:
    """As `begin`, for the tasks of one part, which knows nothing of the other parts' files."""
    if manifest_file.NAME in names and not _in_manifest(site, tasks, reused, claim):
        if not overwrite:
            raise UserError(
                f"{site.at(manifest_file.NAME)}: a complete dataset is there that differs in shards of this"
                f" part; {_ADVICE}"
            )
        site.remove(manifest_file.NAME)
    if not overwrite:
        _refuse_foreign(site, names, reused)
    pack_claim.take(site, claim, overwrite=overwrite)
    _clear(site, names, part, tasks, reused)


def begin_append(
    site: Folder,
    names: Sequence[str],
    manifest: Manifest,
    digest: str,
    tasks: Sequence[ShardTask],
    reused: dict[int, ShardEntry],
    claim: Claim,
    *,
    overwrite: bool,
) -> None:
    """As `begin`, for shards that are added to those of `manifest`, which stays. digest: SHA-256 of its file.

    Raises UserError before anything is changed when another manifest is there by now: that may name the very
    shards that would be made.
    """
    require_manifest(site, digest)
    known = {name for entry in manifest.shards for name in (entry.url, entry.index)}
    tars = [task.tar_name for task in tasks if task.tar_name in names and task.tar_name not in known]
    if tars and not overwrite and not reused and not site.exists(STATE_NAME):
        raise UserError(
            f"{site.at(tars[0])}: a tar that the manifest does not name lies where one is to be appended;"
            " remove it, or --overwrite to replace it"
        )
    pack_claim.take(site, claim, overwrite=overwrite)
    require_manifest(site, digest)  # who had the place until now may have ended in between
    _clear(site, names, None, tasks, reused)


def require_manifest(site: Folder, digest: str) -> None:
    """Raise UserError unless the manifest at `site` is the one with this SHA-256 (hex)."""
    try:
        found = hashlib.sha256(site.read(manifest_file.NAME)).hexdigest()
    except storage.MissingError:
        found = ""
    if found != digest:
        raise UserError(
            f"{site.at(manifest_file.NAME)}: has changed while a list was being appended: another make-shards"
            " was at work here; look at what it made with make-shards info, and run again"
        )


def complete(site: Folder, manifest: Manifest, plan: str, *, keep: Collection[str] = ()) -> None:
    """Remove what older packs left that the manifest does not name, nor is to be kept, then publish it.

    Uploads of any shard that are still under way are left by killed packs, or make what is here already: a
    part of this plan that is made twice. Raises UserError, with all as it was, for a manifest that nobody
    could read.
    """
    data = manifest_file.to_bytes(manifest)
    manifest_file.from_bytes(data, site.at(manifest_file.NAME))
    pack_claim.require(site, plan)
    names = site.names()
    digest = hashlib.sha256(data).hexdigest()
    table = manifest_table.name_of(digest)
    current = {name for entry in manifest.shards for name in (entry.url, entry.index)} | {table, *keep}
    for name in names:
        ours = _OURS.fullmatch(name) or is_report(name) or manifest_table.is_table(name)
        if ours and name not in current:
            site.remove(name)
    _remove_drafts(site, lambda name: _TAR.fullmatch(name) is not None)
    manifest_table.publish(site, manifest)
    drop_all_records(site, names)
    pack_sources.drop_all(site, names)
    site.remove(STATE_NAME)


def _clear(
    site: Folder,
    names: Sequence[str],
    part: Part | None,
    tasks: Sequence[ShardTask],
    reused: dict[int, ShardEntry],
) -> None:
    """Remove what tells of shards that are going to be made, and record what from."""
    again = [task for task in tasks if task.number not in reused]
    drop_records(site, names, [task.number for task in again])
    if again:  # else nothing is made, and what lies there needs no record
        tars = {task.tar_name for task in again}
        _remove_drafts(site, lambda name: name in tars)
        # What is promised cannot become another shard beside its index, which may be all that tells of it.
        for name in {task.index_name for task in again if task.promised is None} & set(names):
            site.remove(name)
        pack_sources.publish(site, names, part, tasks)


def _remove_drafts(site: Folder, ours: Callable[[str], bool]) -> None:
    """Clear up after killed packs where that is allowed: what stays costs space alone."""
    if storage.local_path(site.url) is not None:  # `scratch` has done so
        return
    try:
        site.remove_drafts(ours)
    except storage.StorageError as error:
        logger.warning(
            "%s; what a killed pack sent of a shard may stay there (to abort uploads, S3 wants the"
            " permissions s3:ListBucketMultipartUploads and s3:AbortMultipartUpload)",
            error,
        )


def _refuse(site: Folder, names: Sequence[str], inputs: str, reuse: Reuse) -> None:
    manifest_url = site.at(manifest_file.NAME)
    if manifest_file.NAME in names:
        old = manifest_file.in_folder(site)
        if old.inputs != inputs:
            raise UserError(
                f"{manifest_url}: a complete dataset from another list or other options is there"
                f" ({counted(old.utterances, 'utterance')} in {counted(len(old.shards), 'shard')}); {_ADVICE}"
                ", or --append to add the list to it"
            )
        if reuse.changed:
            changed = reuse.changed[min(reuse.changed)]
            raise UserError(
                f"{manifest_url}: a complete dataset is there, but {changed} has changed since it was made;"
                f" {_ADVICE}"
            )
        return
    _refuse_foreign(site, names, reuse.entries)


def _refuse_foreign(site: Folder, names: Sequence[str], reused: dict[int, ShardEntry]) -> None:
    """Raise UserError when the tars that lie at `site` are none of a pack's."""
    tars = sorted(name for name in names if name.endswith(".tar"))
    # Another part may have begun since the names were listed.
    if tars and manifest_file.NAME not in names and not reused and not site.exists(STATE_NAME):
        raise UserError(
            f"{site}: holds tars that no manifest names ({tars[0]}, {len(tars)} in all); {_ADVICE},"
            " or use make-shards index to index them as they are"
        )


def _readable(site: Folder) -> Manifest | None:
    """The manifest that is there; None for one that cannot be read."""
    try:
        return manifest_file.in_folder(site)
    except UserError:
        return None


def _is_kept(
    old: Manifest | None, inputs: str, tasks: Sequence[ShardTask], reused: dict[int, ShardEntry]
) -> bool:
    """Whether the manifest that is there already names exactly the shards that are kept."""
    if old is None or len(reused) < len(tasks):
        return False
    return old.inputs == inputs and old.shards == tuple(reused[number] for number in range(len(tasks)))


def _in_manifest(
    site: Folder, tasks: Sequence[ShardTask], reused: dict[int, ShardEntry], claim: Claim
) -> bool:
    """Whether the manifest that is there names just what a part with these tasks would make."""
    old = _readable(site)
    if old is None:
        return False
    return (old.speakers, dict(old.options), len(old.shards)) == (
        claim.speakers,
        dict(claim.options),
        claim.shards,
    ) and all(old.shards[task.number] == reused.get(task.number) for task in tasks)
