"""manifest-DIGEST.npz: what a manifest says, as columns that are mapped into memory rather than parsed.

A manifest of a hundred million utterances names a hundred thousand shards and a million speakers, which take
seconds to parse and, as objects, more than a hundred MiB of every process. The file beside it holds the same,
and DIGEST is of the manifest that it was made of. Without it, as in older sets, the manifest is parsed.

It is a .npz of members that are not compressed, as an index is. Names are UTF-8, each followed by a line's
end, which no name holds; *_ends says where each ends, line's end included.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.arrays import Int64Array
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.lazy import Digests, Entries, Names, Numbers
from shard_tools.dataset.manifest import Manifest
from shard_tools.dataset.near import Near, made_once
from shard_tools.dataset.stored_npz import members_of, write_members
from shard_tools.errors import UserError
from shard_tools.storage import Folder

VERSION = 1
_PATIENCE_S = 60.0  # for another process to bring the file to this node
_FIRST = 16  # characters of the manifest's digest in the file's name
_DTYPES: dict[str, Any] = {
    "head": np.uint8,
    "speaker_names": np.uint8,
    "speaker_ends": np.int64,
    "shard_names": np.uint8,
    "shard_ends": np.int64,
    "index_names": np.uint8,
    "index_ends": np.int64,
    "nsamples": np.int64,
    "filesize": np.int64,
    "frames": np.int64,
    "sha256": np.uint8,
    "index_sha256": np.uint8,
}


def name_of(digest: str) -> str:
    """The file of the manifest whose bytes have this SHA-256 (hex)."""
    return f"manifest-{digest[:_FIRST]}.npz"


def is_table(name: str) -> bool:
    """Whether a file of this name is one of some manifest."""
    middle = name.removeprefix("manifest-").removesuffix(".npz")
    return name == name_of(middle) and set(middle) <= set("0123456789abcdef")


def to_bytes(manifest: Manifest, digest: str) -> bytes:
    """The file; the same manifest gives the same bytes. digest: SHA-256 (hex) of manifest.json."""
    shards = manifest.shards
    head = {
        "version": VERSION,
        "manifest_sha256": digest,
        "sample_rate": manifest.sample_rate,
        "grown_from": manifest.grown_from,
    }
    columns: dict[str, npt.NDArray[Any]] = {
        "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "nsamples": np.array([shard.nsamples for shard in shards], np.int64),
        "filesize": np.array([shard.filesize for shard in shards], np.int64),
        "frames": np.array([shard.frames for shard in shards], np.int64),
        "sha256": _packed([shard.sha256 for shard in shards]),
        "index_sha256": _packed([shard.index_sha256 for shard in shards]),
    }
    for name, texts in (
        ("speaker", manifest.speakers),
        ("shard", [shard.url for shard in shards]),
        ("index", [shard.index for shard in shards]),
    ):
        lines = [f"{text}\n".encode() for text in texts]
        columns[f"{name}_names"] = np.frombuffer(b"".join(lines), np.uint8)
        columns[f"{name}_ends"] = np.cumsum([len(line) for line in lines], dtype=np.int64)
    return write_members({name: columns[name] for name in _DTYPES})


class ManifestTable:
    """What readers need of a manifest, over the bytes of the file or a mapping of it. Picklable.

    speakers, shard_names, index_names: of str; sizes: of bytes; sha256: of hex; shards: of ShardEntry; each
    made when it is asked for. counts: int64 (shards,), utterances of each.
    """

    def __init__(self, data: bytes | None, path: str | None = None) -> None:
        """data: the file's bytes, or None for those at `path`. UserError unless it is a whole file."""
        self._data = data
        self._path = path
        self._open()

    @classmethod
    def of(cls, manifest: Manifest, digest: str) -> ManifestTable:
        return cls(to_bytes(manifest, digest))

    def column(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    @property
    def hours(self) -> float:
        return int(self.column("frames").sum()) / self.sample_rate / 3600

    def _open(self) -> None:
        name = self._path or "the manifest's table"
        try:
            buffer: Any = self._data
            if buffer is None:
                assert self._path is not None
                with open(self._path, "rb") as file:
                    buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._columns = members_of(buffer, _DTYPES)
            self._check()
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        except Exception as error:  # the system's, numpy's, zipfile's, struct's: whatever damage leads to
            raise UserError(f"{name}: no table of a manifest ({type(error).__name__}: {error})") from error

    def _check(self) -> None:
        columns = self._columns
        head = json.loads(columns["head"].tobytes())
        if head["version"] != VERSION:
            raise UserError(f"version {head['version']}; this program reads {VERSION}")
        self.digest = str(head["manifest_sha256"])
        self.sample_rate = int(head["sample_rate"])
        self.grown_from = {str(each): int(count) for each, count in head["grown_from"].items()}
        shards = len(columns["nsamples"])
        same = (
            ("filesize", 1),
            ("frames", 1),
            ("shard_ends", 1),
            ("index_ends", 1),
            ("sha256", 32),
            ("index_sha256", 32),
        )
        for name, each in same:
            if len(columns[name]) != each * shards:
                raise UserError(f"{len(columns[name])} of {name} for {shards} shards")
        for name in ("speaker", "shard", "index"):
            ends, text = columns[f"{name}_ends"], columns[f"{name}_names"]
            if not len(ends) or int(ends[-1]) != len(text) or bool(np.any(np.diff(ends, prepend=0) < 2)):
                raise UserError(f"its {name} names do not add up")
        self.counts: Int64Array = np.array(columns["nsamples"])
        self.speakers = Names(self, "speaker")
        self.shard_names = Names(self, "shard")
        self.index_names = Names(self, "index")
        self.sizes = Numbers(self, "filesize")
        self.sha256 = Digests(self, "sha256")
        self.shards = Entries(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"_data": self._data, "_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def open_table(url: str, digest: str, near: Near | None = None) -> ManifestTable | None:
    """The table below `url` of the manifest with this SHA-256 (hex); None where there is no whole one.

    near: gives a folder of this node where that of a remote set is kept for all processes to map; without
    one, or where it cannot be used, each has the bytes in its own memory. Raises StorageError.
    """
    name = name_of(digest)
    where = storage.join(url, name)
    path = storage.local_path(where)
    try:
        if path is not None:
            return _fitting(ManifestTable(None, path), digest) if os.path.exists(path) else None
        with contextlib.suppress(OSError, UserError):
            if near is not None:
                fetch = partial(storage.read_bytes, where)
                brought = made_once(near(), name, fetch, _is_whole, _PATIENCE_S)
                return _fitting(ManifestTable(None, brought), digest)
        return _fitting(ManifestTable(storage.read_bytes(where)), digest)
    except storage.MissingError:
        return None
    except storage.StorageError:
        raise
    except UserError:  # damaged: the manifest itself says the same, and verify says so
        return None


def publish(site: Folder, manifest: Manifest) -> None:
    """Put the table and then manifest.json into place: what a manifest tells of is complete."""
    data = manifest_file.to_bytes(manifest)
    digest = hashlib.sha256(data).hexdigest()
    site.publish(name_of(digest), to_bytes(manifest, digest))
    site.publish(manifest_file.NAME, data)


def publish_beside(site: Folder, manifest: Manifest, digest: str) -> bool:
    """Put the table of the manifest that is there beside it, unless it is; returns whether it was put."""
    there = site.exists(name_of(digest))
    if there and problem(site.url, manifest, digest) is None:
        return False
    site.publish(name_of(digest), to_bytes(manifest, digest))
    return True


def problem(url: str, manifest: Manifest, digest: str) -> str | None:
    """What is wrong with the table that lies there, in words; None where there is none, or a right one."""
    where = storage.join(url, name_of(digest))
    try:
        data = storage.read_bytes(where)
    except storage.MissingError:
        return None
    expected = members_of(to_bytes(manifest, digest), _DTYPES)
    try:
        found = ManifestTable(data)
        same = all(np.array_equal(found.column(name), expected[name]) for name in _DTYPES)
    except UserError:
        same = False
    if same:
        return None
    return f"{name_of(digest)}: does not say what the manifest says; make-shards merge {url} writes it again"


def _fitting(table: ManifestTable, digest: str) -> ManifestTable | None:
    return table if table.digest == digest else None


def _is_whole(path: str) -> bool:
    with contextlib.suppress(UserError):
        ManifestTable(None, path)
        return True
    return False


def _packed(digests: list[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8)
