"""manifest.json: the speakers in label order and every complete shard of a dataset.

Shards' fields carry the names of webdataset's `wids` index where it has them.
A shard that the manifest does not list does not exist for readers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from shard_tools.audio.info import SAMPLE_RATE
from shard_tools.errors import UserError
from shard_tools.records import at_least, decode, matching, plain_mapping, within
from shard_tools.storage import Folder
from shard_tools.text import has_control

NAME = "manifest.json"
FORMAT, VERSION = "voxshard", 1
_APPENDED_VERSION = 2  # of a manifest whose speakers are not all in one order
_KIND = {"__kind__": "wids-shard-index-v1", "wids_version": 1}
_REMEDY = "pack or index the shards again"
_Count = Annotated[int, within(1, 2**62)]
_Digest = Annotated[str, matching("^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: urls are relative to the manifest's folder; frames: PCM frames of all its utterances."""

    url: str
    nsamples: _Count
    filesize: _Count
    sha256: _Digest
    frames: _Count
    index: str
    index_sha256: _Digest


@dataclass(frozen=True)
class Appended:
    """A list that was added to a set. speakers, shards: how many there were before; manifest: the SHA-256 of
    the manifest that told of these; plan: digest of list and options; options: how it was packed."""

    speakers: _Count
    shards: _Count
    manifest: _Digest
    plan: _Digest
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """A dataset.

    speakers: label order: sorted, those of each list that was added after those before; inputs: hex digest of
    list and options; options: how it was packed, for information; appended: what was added, in order.
    """

    speakers: tuple[str, ...]
    shards: tuple[ShardEntry, ...]
    sample_rate: int
    inputs: str
    options: Mapping[str, Any]
    appended: tuple[Appended, ...] = ()

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

    @property
    def grown_from(self) -> dict[str, int]:
        """SHA-256 of each manifest that it was before a list was added → how many speakers that had."""
        return {each.manifest: each.speakers for each in self.appended}


def to_bytes(manifest: Manifest) -> bytes:
    """manifest.json; the same manifest gives the same bytes."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": _APPENDED_VERSION if manifest.appended else VERSION,
        **_KIND,
        "sample_rate": manifest.sample_rate,
        "utterances": manifest.utterances,
        "frames": manifest.frames,
        "bytes": manifest.bytes,
        "inputs": manifest.inputs,
        "options": dict(manifest.options),
        **({"appended": [asdict(each) for each in manifest.appended]} if manifest.appended else {}),
        "speakers": list(manifest.speakers),
        "shardlist": [asdict(shard) for shard in manifest.shards],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class _Document:
    """manifest.json as it is read."""

    speakers: tuple[str, ...]
    shardlist: tuple[ShardEntry, ...]
    sample_rate: int
    inputs: str
    options: dict[str, Any]
    utterances: Annotated[int, at_least(0)]
    frames: Annotated[int, at_least(0)]
    bytes: Annotated[int, at_least(0)]
    appended: tuple[Appended, ...] = ()


def in_folder(folder: Folder) -> Manifest:
    """The manifest that lies there. Raises StorageError where it cannot be read, and as `from_bytes` does."""
    return from_bytes(folder.read(NAME), folder.at(NAME))


def from_bytes(data: bytes, name: str) -> Manifest:
    """Read manifest.json. `name` is for messages. UserError for all but a whole manifest of this version.

    Every field is of its type and what it says is possible: speakers in order and each once, shards that
    lie below the manifest's folder, totals that are the shards'.
    """
    header = plain_mapping(data, name, _REMEDY)
    if header.get("format") != FORMAT:
        raise UserError(
            f"{name}: not a voxshard manifest; make one with make-shards pack or make-shards index"
        )
    if header.get("version") not in (VERSION, _APPENDED_VERSION):
        raise UserError(
            f"{name}: manifest version {str(header.get('version'))[:40]}; this program reads versions"
            f" {VERSION} and {_APPENDED_VERSION}: pack again, or use the program that wrote it"
        )
    found = decode(data, _Document, name, _REMEDY)
    manifest = Manifest(
        found.speakers, found.shardlist, found.sample_rate, found.inputs, found.options, found.appended
    )
    problem = _problem(manifest, found)
    if problem is not None:
        raise UserError(f"{name}: a damaged manifest ({problem}); {_REMEDY}")
    return manifest


def _problem(manifest: Manifest, found: _Document) -> str | None:
    """What cannot be in a manifest, in words."""
    if manifest.sample_rate != SAMPLE_RATE:
        return f"sample_rate is {manifest.sample_rate}; shards hold {SAMPLE_RATE} Hz"
    if not manifest.shards:
        return "its shardlist is empty"
    if not _in_order(manifest):
        return "its speakers are not sorted, or not unique"
    if not manifest.speakers or not all(speaker.isprintable() and speaker for speaker in manifest.speakers):
        return "a speaker without a name that can be printed"
    places = [place for shard in manifest.shards for place in (shard.url, shard.index)]
    for place in places:
        if not lies_below(place):
            return f"{place[:120]!r} is no name of a file below the manifest's folder"
    urls = [shard.url for shard in manifest.shards]
    if len(set(urls)) < len(urls):
        return f"it lists {next(url for url in urls if urls.count(url) > 1)} twice"
    totals = {"utterances": manifest.utterances, "frames": manifest.frames, "bytes": manifest.bytes}
    for total, value in totals.items():
        if getattr(found, total) != value:
            return f"{total} says {str(getattr(found, total))[:40]}, its shards make {value}"
    return None


def _in_order(manifest: Manifest) -> bool:
    """Whether no speaker is there twice, and those of each list are sorted."""
    ends = [*(each.speakers for each in manifest.appended), len(manifest.speakers)]
    shards = [*(each.shards for each in manifest.appended), len(manifest.shards)]
    if ends != sorted(ends) or shards != sorted(set(shards)):
        return False
    pieces = [manifest.speakers[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    in_order = [speaker for piece in pieces for speaker in sorted(piece)]
    return list(manifest.speakers) == in_order and len(set(in_order)) == len(in_order)


def lies_below(place: str) -> bool:
    """Whether a manifest may name a file so: a manifest from elsewhere must not lead readers astray."""
    outside = "://" in place or "::" in place or "\\" in place or has_control(place)
    return not outside and all(part not in ("", ".", "..") for part in place.split("/"))
