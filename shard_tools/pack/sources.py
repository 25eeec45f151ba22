"""made-from.json: what the source files were when shards began to be made from them.

A file's identity is its size and its time of modification in ns, both by its own disk: no two clocks are
compared. The record is published before the first of its shards is made, after the indexes of earlier
ones of the same number are gone, so a whole shard was made from just the files that it tells of.
Each part of a pack has a record of its own; all go when the dataset is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shard_tools import storage
from shard_tools.pack.parts import Part
from shard_tools.pack.task import ShardTask
from shard_tools.records import RecordError, decode
from shard_tools.storage import Folder

_NAME = re.compile(r"made-from(?:-\d+-of-\d+)?\.json")


@dataclass(frozen=True)
class _Record:
    """plan: digest of list and options; shards: the identity of each shard's files, by its number."""

    plan: str
    shards: dict[int, str]


def identity(task: ShardTask) -> str:
    """Hex digest of the sizes and times of modification of a shard's files."""
    document = [[source.size, source.mtime_ns] for source in task.sources]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def read(site: Folder, names: Sequence[str], plan: str) -> dict[int, set[str]]:
    """The identities recorded among `names` for shards of this plan; a damaged record tells nothing."""
    found: dict[int, set[str]] = {}
    for name in filter(_NAME.fullmatch, names):
        for number, digest in _shards(site, name, plan).items():
            found.setdefault(number, set()).add(digest)
    return found


def publish(site: Folder, names: Sequence[str], part: Part | None, tasks: Sequence[ShardTask]) -> None:
    """Record what these tasks, all those of a pack or of its `part`, are made from.

    The records among `names` that told of one of these shards go: there is one truth for each.
    """
    own = _name_of(part)
    numbers = {task.number for task in tasks}
    for name in filter(_NAME.fullmatch, names):
        if name != own and tasks and numbers & _shards(site, name, tasks[0].plan).keys():
            site.remove(name)
    if tasks:
        record = {"plan": tasks[0].plan, "shards": {task.number: identity(task) for task in tasks}}
        site.publish(own, json.dumps(record).encode())


def drop_all(site: Folder, names: Sequence[str]) -> None:
    for name in filter(_NAME.fullmatch, names):
        site.remove(name)


def _name_of(part: Part | None) -> str:
    return "made-from.json" if part is None else f"made-from-{part.index}-of-{part.count}.json"


def _shards(site: Folder, name: str, plan: str) -> dict[int, str]:
    where = site.at(name)
    try:
        record = decode(storage.read_bytes(where), _Record, where, "remove it")
    except (storage.MissingError, RecordError):
        return {}
    return record.shards if record.plan == plan else {}
