"""manifest.json: the speakers in label order and every complete shard of a dataset.

Shards' fields carry the names of webdataset's `wids` index where it has them.
A shard that the manifest does not list does not exist for readers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from shard_tools.errors import UserError

NAME = "manifest.json"
FORMAT, VERSION = "voxshard", 1
_KIND = {"__kind__": "wids-shard-index-v1", "wids_version": 1}


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: urls are relative to the manifest's folder; frames: PCM frames of all its utterances."""

    url: str
    nsamples: int
    filesize: int
    sha256: str
    frames: int
    index: str
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """A dataset.

    speakers: label order, sorted; inputs: hex digest of list and options;
    options: how it was packed, for information.
    """

    speakers: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    sample_rate: int
    inputs: str
    options: Mapping[str, Any]

    @property
    def utterances(self) -> int:
        return sum(shard.nsamples for shard in self.shards)

    @property
    def frames(self) -> int:
        return sum(shard.frames for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.filesize for shard in self.shards)

    @property
    def hours(self) -> float:
        return self.frames / self.sample_rate / 3600


def to_bytes(manifest: Manifest) -> bytes:
    """manifest.json; the same manifest gives the same bytes."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        **_KIND,
        "sample_rate": manifest.sample_rate,
        "utterances": manifest.utterances,
        "frames": manifest.frames,
        "bytes": manifest.bytes,
        "inputs": manifest.inputs,
        "options": dict(manifest.options),
        "speakers": list(manifest.speakers),
        "shardlist": [asdict(shard) for shard in manifest.shards],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def from_bytes(data: bytes, name: str) -> Manifest:
    """Read manifest.json. `name` is for messages. UserError for all but a whole manifest of this version."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise UserError(f"{name}: not JSON, or cut short ({error}); pack the shards again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(
            f"{name}: not a voxshard manifest; make one with make-shards pack or make-shards index"
        )
    if document.get("version") != VERSION:
        raise UserError(
            f"{name}: manifest version {document.get('version')!r}; this program reads version {VERSION}:"
            " pack again, or use the program that wrote it"
        )
    try:
        names = [field.name for field in fields(ShardEntry)]
        manifest = Manifest(
            speakers=tuple(document["speakers"]),
            shards=tuple(ShardEntry(**{key: shard[key] for key in names}) for shard in document["shardlist"]),
            sample_rate=document["sample_rate"],
            inputs=document["inputs"],
            options=document["options"],
        )
        totals = {"utterances": manifest.utterances, "frames": manifest.frames, "bytes": manifest.bytes}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{name}: a damaged manifest ({type(error).__name__}: {error}); pack the shards again"
        ) from error
    for total, value in totals.items():
        if document.get(total) != value:
            raise UserError(
                f"{name}: a damaged manifest ({total} says {document.get(total)}, its shards make {value});"
                " pack again"
            )
    return manifest
