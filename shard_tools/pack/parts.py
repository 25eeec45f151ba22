"""Parts of a pack that several processes share: which shards are whose, and the record that each leaves.

Part i of n makes the shards whose number is i - 1 modulo n: shards are of about
equal size, so parts are too. What a part made is in packing-I-of-N.json beside the
shards, written when the part has come to its end and removed before one of its
shards is made again, so a record never speaks of shards that have changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated

from shard_tools.dataset.manifest import ShardEntry
from shard_tools.pack.claim import MOST_PARTS
from shard_tools.pack.task import shard_names
from shard_tools.records import RecordError, at_least, decode
from shard_tools.storage import Folder

_RECORD = re.compile(r"packing-([0-9]+)-of-([0-9]+)\.json")


@dataclass(frozen=True, order=True)
class Part:
    """Part `index` of `count`, counted from 1 as the tasks of a SLURM array."""

    count: int
    index: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def record_name(self) -> str:
        return f"packing-{self.index}-of-{self.count}.json"

    def numbers(self, shards: int) -> range:
        """Its shards, of so many in all."""
        return range(self.index - 1, shards, self.count)


def parse_part(text: str) -> Part:
    """The part that "2/16" means; ValueError for all but i/n with 1 <= i <= n <= MOST_PARTS."""
    match = re.fullmatch(r"0*(\d{1,9})/0*(\d{1,9})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MOST_PARTS:
        shown = text if len(text) <= 40 else text[:39] + "…"
        raise ValueError(f"{shown!r} is not i/n with i from 1 to n and n up to {MOST_PARTS}, such as 2/16")
    return Part(int(match[2]), int(match[1]))


@dataclass(frozen=True)
class Record:
    """What a part made from the plan with this digest.

    inputs: digest of what a shard was made from, by the shard's number; entries: the manifest's;
    reused: how many of them were there already; problems: files refused, one line each, because of
    which shards are missing.
    """

    plan: str
    inputs: dict[int, str]
    entries: dict[int, ShardEntry]
    reused: int
    problems: tuple[str, ...] = ()


def record_parts(names: Sequence[str]) -> list[Part]:
    """The parts of which there is a record among the files at a URL."""
    matches = (_RECORD.fullmatch(name) for name in names)
    parts = (Part(int(match[2]), int(match[1])) for match in matches if match)
    return sorted(part for part in parts if 1 <= part.index <= part.count)


def publish_record(site: Folder, part: Part, record: Record) -> None:
    shards = [
        {"number": number, "inputs": record.inputs[number], **asdict(entry)}
        for number, entry in sorted(record.entries.items())
    ]
    document = {"plan": record.plan, "reused": record.reused, "problems": record.problems, "shards": shards}
    data = json.dumps(document, ensure_ascii=False, indent=1).encode()
    site.publish(part.record_name, data)


def read_records(site: Folder, parts: Sequence[Part]) -> dict[Part, Record]:
    """RecordError for one that cannot be read."""
    found = site.read_many([part.record_name for part in parts])
    return {
        part: _from_bytes(data, site.at(part.record_name)) for part, data in zip(parts, found, strict=True)
    }


def drop_records(site: Folder, names: Sequence[str], numbers: Sequence[int]) -> None:
    """Remove those records among `names` that speak of one of these shards, whatever their n."""
    for part in record_parts(names):
        if any(number % part.count == part.index - 1 for number in numbers):
            site.remove(part.record_name)


def drop_all_records(site: Folder, names: Sequence[str]) -> None:
    for part in record_parts(names):
        site.remove(part.record_name)


@dataclass(frozen=True, slots=True)
class _Shard(ShardEntry):
    """As it stands in the record's file."""

    number: Annotated[int, at_least(0)]
    inputs: str


@dataclass(frozen=True)
class _Document:
    plan: str
    reused: Annotated[int, at_least(0)]
    problems: tuple[str, ...]
    shards: tuple[_Shard, ...]


def _from_bytes(data: bytes, name: str) -> Record:
    document = decode(data, _Document, name, "pack that part again")
    entry_fields = [field.name for field in fields(ShardEntry)]
    inputs, entries = {}, {}
    for row, shard in enumerate(document.shards):
        if (shard.url, shard.index) != shard_names(shard.number):
            raise RecordError(
                f"{name}: field shards[{row}].url: shard {shard.number} is not {shard.url[:80]!r};"
                " pack that part again"
            )
        inputs[shard.number] = shard.inputs
        entries[shard.number] = ShardEntry(**{field: getattr(shard, field) for field in entry_fields})
    return Record(document.plan, inputs, entries, document.reused, document.problems)
