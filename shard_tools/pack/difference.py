"""Which file has changed since a shard was packed, from what is left of the shard."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shard_tools.dataset import index as index_file
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.dataset.shard_check import local_copy
from shard_tools.dataset.tar_samples import read_member, read_samples
from shard_tools.errors import UserError
from shard_tools.pack.task import ShardTask
from shard_tools.storage import Folder
from shard_tools.workers import Report

_SHOWN = 3


def what_changed(task: ShardTask, entry: ShardEntry, site: Folder, report: Report) -> str:
    """Why a shard that was made again, and lies at `task.site`, is not the one of `entry`, in a line.

    The index at `site` tells, where it is still the manifest's, or else the tar, where that is.
    """
    # By the name that it was made under: the set may have an index of it for more utterances, -K.npz.
    made = index_file.from_bytes(task.site.read(task.index_name), task.site.at(task.index_name))
    rows: list[int] | None = None
    try:
        data = site.read(entry.index)
        if hashlib.sha256(data).hexdigest() == entry.index_sha256:
            rows = rows_that_differ(index_file.from_bytes(data, site.at(entry.index)), made)
    except UserError:  # it is lost or damaged
        pass
    if rows is None and made.shard_sha256 == entry.sha256:
        return (
            "its audio is what was packed, but a file has another size than it had then, and its index told"
            " of that; pack anew with --overwrite"
        )
    if rows is None:
        rows = _by_tar(task, made, entry, site, report)
    names = [os.path.join(task.corpus.root, source.path) for source in task.sources]
    if rows is None:
        last = max(range(len(names)), key=lambda row: task.sources[row].mtime_ns)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(task.sources[last].mtime_ns / 1e9))
        return (
            "a file of it has changed since it was packed; nothing is left to tell which; the last written"
            f" is {names[last]} ({when})"
        )
    return _told([names[row] for row in rows], len(names), encoded=task.format != "keep" or task.convert)


def rows_that_differ(before: ShardIndex, after: ShardIndex) -> list[int] | None:
    """The rows, the same utterances in both, whose audio has another size, length or checksum.

    None where audio of the same sizes lies elsewhere, after JSON of another length, as another name makes it:
    then checksums are of other blocks, and tell nothing.

    A checksum is of a block, which the end of one utterance and the beginning of the next may share: where
    one of them differs elsewhere too, the other is not named.
    """
    sized = (before.size != after.size) | (before.frames != after.frames)
    if sized.any():  # all that follows has moved
        return _numbers(sized)
    if before.shard_size != after.shard_size or (before.offset != after.offset).any():
        return None
    rows_of: dict[int, list[int]] = {}
    for block in _numbers(before.block_crc32 != after.block_crc32):
        begin, end = block * before.block_size, (block + 1) * before.block_size
        inside = (before.offset < end) & (before.offset + before.size > begin)
        rows_of[block] = _numbers(inside)
    found = {rows[0] for rows in rows_of.values() if len(rows) == 1}
    for rows in rows_of.values():
        if found.isdisjoint(rows):
            found.update(rows)
    return sorted(found)


def _numbers(chosen: npt.NDArray[np.bool_]) -> list[int]:
    numbers: list[int] = np.flatnonzero(chosen).tolist()
    return numbers


def _by_tar(
    task: ShardTask, made: ShardIndex, entry: ShardEntry, site: Folder, report: Report
) -> list[int] | None:
    """The rows that differ from the tar at `site`; None where that is not whole itself."""
    try:
        with local_copy(site.at(entry.url)) as path:
            samples = read_samples(path).samples
            rows = []
            with open(path, "rb") as file:
                for row, key in enumerate(made.keys()):
                    report(0)
                    start = int(made.offset[row])
                    now = task.site.read(task.tar_name, start, start + int(made.size[row]))
                    if key not in samples or read_member(file.fileno(), samples[key].audio) != now:
                        rows.append(row)
            return rows
    except (UserError, OSError):
        return None


def _told(changed: Sequence[str], files: int, *, encoded: bool) -> str:
    if not changed:
        return "its audio is what was packed, but a file has another name than it had then"
    if len(changed) == 1:
        return f"{changed[0]} has changed since it was packed"
    shown = ", ".join(changed[:_SHOWN]) + (", …" if len(changed) > _SHOWN else "")
    if encoded and 2 * len(changed) > files:
        return (
            f"{len(changed)} of its {files} utterances have not the bytes that were packed: the encoder of"
            f" this machine (libsndfile, FFmpeg) is another version, or these files have changed: {shown}"
        )
    return f"of these files some have changed since they were packed ({len(changed)}): {shown}"
