"""Which shards of an earlier run are kept: those that are whole, and made from the files that are there now.

While a pack is under way, `pack_sources` tells what the files were. Of a complete dataset nothing tells it,
and a file's time is by another clock than the shard's. So files are taken for those that were packed only
where they are a day older than the shard; of the others, the contents are compared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from shard_tools import storage
from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.errors import UserError
from shard_tools.pack import sources as pack_sources
from shard_tools.pack.building import entry_of, rebuild
from shard_tools.pack.task import ShardTask, SourceFile
from shard_tools.storage import Folder
from shard_tools.threads import Threads
from shard_tools.workers import Report, run

CLOCKS_DIFFER_S = 86400.0  # at most, for time zones are mistaken, too


@dataclass
class Reuse:
    """entries: of the shards that are kept, by number.

    changed: for each other shard whose files are known to be others than were packed, one such file or
    what else is known of them; a shard that was merely lost or begun is in neither.
    """

    entries: dict[int, ShardEntry] = field(default_factory=dict)
    changed: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Doubt:
    """A shard that may have been made from other files of the same sizes.

    entry: what it is or was; index: where that is there.
    """

    task: ShardTask
    entry: ShardEntry
    index: ShardIndex | None


def find_reusable(
    site: Folder,
    tasks: Sequence[ShardTask],
    names: Sequence[str],
    inputs: str | None,
    workers: int,
    progress: bool,
) -> Reuse:
    """What to keep of the files `names` at `site`.

    inputs: the digest of the whole pack, for the shards that a complete dataset of it has lost; None where
    it is not known. Raises StorageError where something that is there cannot be read.
    """
    recorded = pack_sources.read(site, names, tasks[0].plan) if tasks else {}
    listed = set(names)
    whole = [task for task in tasks if {task.tar_name, task.index_name} <= listed]
    reuse = Reuse()
    doubts: list[_Doubt] = []
    with Threads(storage.current_policy().at_once(), "looks") as threads:
        for task, found in zip(whole, threads.map(_look, whole), strict=True):
            if found is None:
                continue
            entry, index, made = found
            known = recorded.get(task.number)
            if known is not None:
                if pack_sources.identity(task) in known:
                    reuse.entries[task.number] = entry
            elif _long_before(task, made):
                reuse.entries[task.number] = entry
            else:
                doubts.append(_Doubt(task, entry, index))
    sure = reuse.entries.keys() | {doubt.task.number for doubt in doubts}
    lost = [task for task in tasks if task.number not in sure]
    doubts += _of_lost(site, lost, names, inputs)
    _settle(doubts, reuse, lost, workers, progress)
    return reuse


def _look(task: ShardTask) -> tuple[ShardEntry, ShardIndex, float] | None:
    """(entry, index, time) of a shard that is whole and made from files of these names and sizes."""
    try:
        data = task.site.read(task.index_name)
        made = task.site.modified(task.index_name)
        size = task.site.size(task.tar_name)
    except storage.MissingError:
        return None
    try:
        index = index_file.from_bytes(data, task.site.at(task.index_name))
    except UserError:  # it is damaged, and made again
        return None
    if index.inputs != task.inputs() or index.shard_size != size:
        return None
    return entry_of(task.tar_name, task.index_name, index, data), index, made


def _long_before(task: ShardTask, made: float) -> bool:
    """Whether all files of the shard were last written so long before `made` that no clock is the cause."""
    return max(source.mtime_ns for source in task.sources) / 1e9 + CLOCKS_DIFFER_S < made


def _of_lost(
    site: Folder, lost: Sequence[ShardTask], names: Sequence[str], inputs: str | None
) -> list[_Doubt]:
    """Of a complete dataset: those of the `lost` shards whose files may have changed."""
    if not lost or manifest_file.NAME not in names:
        return []
    try:
        manifest, made = manifest_file.in_folder(site), site.modified(manifest_file.NAME)
    except storage.StorageError:
        raise
    except UserError:  # `pack_state` says what is to be done about it
        return []
    if manifest.inputs != inputs:
        return []
    return [_Doubt(task, manifest.shards[task.number], None) for task in lost if not _long_before(task, made)]


def _settle(
    doubts: Sequence[_Doubt], reuse: Reuse, lost: Sequence[ShardTask], workers: int, progress: bool
) -> None:
    """Compare contents, and note in `reuse` what came of it."""
    gone = {task.number for task in lost}
    total = sum(source.size for doubt in doubts for source in doubt.task.sources)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="comparing", disable=None if progress else True
    ) as bar:
        for doubt, changed in run(_compare, doubts, workers=workers, progress=bar.update):
            number = doubt.task.number
            if changed is not None:
                reuse.changed[number] = changed
            elif number not in gone:
                reuse.entries[number] = doubt.entry


def _compare(doubt: _Doubt, report: Report) -> str | None:
    """A file that is not what was packed, or what else is known of a difference; None where there is none."""
    task = doubt.task
    index, problems = rebuild(task, report)
    if index is None:
        return problems[0]
    if index.shard_sha256 == doubt.entry.sha256:
        return None
    if doubt.index is None:
        return f"{task.corpus.root}: a file of {task.tar_name}"
    return os.path.join(task.corpus.root, _changed(task, doubt.index, index).path)


def _changed(task: ShardTask, before: ShardIndex, after: ShardIndex) -> SourceFile:
    """The source in which two indexes of a shard first differ; a block may hold several small ones."""
    checksums = zip(before.block_crc32.tolist(), after.block_crc32.tolist(), strict=False)
    block = next((number for number, (old, new) in enumerate(checksums) if old != new), 0)
    begin, end = block * after.block_size, (block + 1) * after.block_size
    within = ((before.offset < end) & (before.offset + before.size > begin)).nonzero()[0].tolist()

    def differs(row: int) -> bool:  # as all do that were encoded anew
        start = int(before.offset[row])
        packed = task.site.read(task.tar_name, start, start + int(before.size[row]))
        with task.corpus.open(task.sources[row].path) as source:
            return packed != source.file.read()

    rows = [row for row in within if differs(row)] or within or range(len(task.sources))
    return max((task.sources[row] for row in rows), key=lambda source: source.mtime_ns)
