"""Embeddings as a value of their own: of whom, how they were cut, what made them; saved and read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.errors import UserError

VERSION = 2
_FIELDS: dict[str, tuple[str, int]] = {  # kind of its type, dimensions
    "version": ("i", 0),
    "vectors": ("f", 3),
    "names": ("u", 1),
    "name_ends": ("i", 1),
    "crops": ("i", 0),
    "crop_feature_frames": ("i", 0),
    "made_by": ("u", 1),
    "seconds": ("f", 1),
}


@dataclass(frozen=True, eq=False)
class Embeddings:
    """vectors: float32 (utterances, crops, D), of the utterances `names`, in their order.

    crops: of each utterance, 0 where it was embedded whole (which makes one); crop_feature_frames: of
    each, 0 for whole utterances; made_by: what made them, such as a checkpoint's SHA-256, or ""; seconds:
    of audio in each utterance, float32 (utterances,), NaN where that is not known (the default).
    """

    names: tuple[str, ...]
    vectors: Float32Array
    crops: int
    crop_feature_frames: int
    made_by: str = ""
    seconds: Float32Array = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        if not len(self.seconds) and len(self.names):
            object.__setattr__(self, "seconds", np.full(len(self.names), np.nan, np.float32))
        if self.vectors.ndim != 3 or self.vectors.dtype != np.float32:
            raise ValueError(f"embeddings are float32 (utterances, crops, D), not {self.vectors.shape}")
        if len(self.names) != len(self.vectors):
            raise ValueError(f"{len(self.names)} names for the embeddings of {len(self.vectors)} utterances")
        if self.seconds.shape != (len(self.names),) or self.seconds.dtype != np.float32:
            raise ValueError(f"seconds are float32 ({len(self.names)},), not {self.seconds.shape}")
        if self.vectors.shape[1] != max(self.crops, 1):
            raise ValueError(f"{self.vectors.shape[1]} embeddings of each utterance, of {self.crops} crops")

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, names: Sequence[str]) -> Int64Array:
        """Where these utterances are; UserError for one that is not there."""
        try:
            return np.array([self._places[name] for name in names], np.int64)
        except KeyError as error:
            raise UserError(f"there is no embedding of {error.args[0]!r}; embed it too") from None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    def save(self, url: str) -> None:
        """Write them as .npz, which numpy.load reads without pickle. Raises StorageError."""
        encoded = [name.encode() for name in self.names]
        arrays: dict[str, Any] = {
            "version": np.int64(VERSION),
            "vectors": self.vectors,
            "names": np.frombuffer(b"".join(encoded), np.uint8),
            "name_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
            "crops": np.int64(self.crops),
            "crop_feature_frames": np.int64(self.crop_feature_frames),
            "made_by": np.frombuffer(self.made_by.encode(), np.uint8),
            "seconds": self.seconds,
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        storage.publish_bytes(url, file.getvalue())


def load_embeddings(url: str) -> Embeddings:
    """What Embeddings.save wrote. Raises UserError, naming the field, for one that is damaged or not ours."""
    fields = _fields(storage.read_bytes(url), url)
    version = int(fields["version"])
    if version != VERSION:
        raise UserError(f"{url}: field version is {version}, this release reads {VERSION}: embed again")
    text, ends = fields["names"].tobytes(), fields["name_ends"].tolist()
    if ends != sorted(ends) or (ends[-1] if ends else 0) != len(text):
        raise UserError(f"{url}: field name_ends does not fit the names; embed again")
    try:
        names = tuple(text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False))
        made_by = fields["made_by"].tobytes().decode()
        return Embeddings(
            names,
            fields["vectors"].astype(np.float32, copy=False),
            int(fields["crops"]),
            int(fields["crop_feature_frames"]),
            made_by,
            fields["seconds"].astype(np.float32, copy=False),
        )
    except ValueError as error:  # of UTF-8 too
        raise UserError(f"{url}: {error}; embed again") from None


def _fields(data: bytes, url: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            fields = {name: file[name] for name in _FIELDS if name in file.files}
    except Exception as error:  # numpy's, zipfile's, zlib's, struct's: whatever damage leads to
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{url}: no embeddings ({found}); embed again") from None
    for name, (kind, dimensions) in _FIELDS.items():
        if name not in fields:
            raise UserError(f"{url}: field {name} is missing; expected what eval --save-embeddings writes")
        found = fields[name]
        if found.dtype.kind != kind or found.ndim != dimensions:
            raise UserError(
                f"{url}: field {name} is {found.dtype} of {found.ndim} dimensions, and cannot be; embed again"
            )
    return fields
