"""Embeddings as a value of their own: of whom, how they were cut, what made them; saved and read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.dataset.keys import key_of
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
    "protocol": ("u", 1),
}
_SPEAKERS: dict[str, tuple[str, int]] = {"speakers": ("u", 1), "speaker_ends": ("i", 1)}  # where known
_SHOWN = 10  # of the names that are not there


@dataclass(frozen=True, eq=False)
class Embeddings:
    """vectors: float32 (utterances, crops, D), of the utterances `names`, in their order.

    crops: of each utterance, 0 where it was embedded whole (which makes one); crop_feature_frames: of
    each, 0 for whole utterances; made_by: what made them, such as a checkpoint's SHA-256, or ""; seconds:
    of audio in each utterance, float32 (utterances,), NaN where that is not known (the default); protocol:
    how utterances were cut and what was made of the pieces, in words (Protocol.text); without it, as crops
    and crop_feature_frames say; speakers: of each utterance, by the labels of the shards that it came from,
    None where there were none.
    """

    names: tuple[str, ...]
    vectors: Float32Array
    crops: int
    crop_feature_frames: int
    made_by: str = ""
    seconds: Float32Array = field(default_factory=lambda: np.empty(0, np.float32))
    protocol: str = ""
    speakers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.protocol:
            plain = f"{self.crops} crops of {self.crop_feature_frames} frames"
            object.__setattr__(self, "protocol", plain if self.crops else "whole utterances")
        if not len(self.seconds) and len(self.names):
            object.__setattr__(self, "seconds", np.full(len(self.names), np.nan, np.float32))
        if self.vectors.ndim != 3 or self.vectors.dtype != np.float32:
            raise ValueError(f"embeddings are float32 (utterances, crops, D), not {self.vectors.shape}")
        if len(self.names) != len(self.vectors):
            raise ValueError(f"{len(self.names)} names for the embeddings of {len(self.vectors)} utterances")
        if self.seconds.shape != (len(self.names),) or self.seconds.dtype != np.float32:
            raise ValueError(f"seconds are float32 ({len(self.names)},), not {self.seconds.shape}")
        if self.speakers is not None and len(self.speakers) != len(self.names):
            raise ValueError(f"{len(self.speakers)} speakers of {len(self.names)} utterances")
        if self.vectors.shape[1] != max(self.crops, 1):
            raise ValueError(f"{self.vectors.shape[1]} embeddings of each utterance, of {self.crops} crops")

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, names: Sequence[str]) -> Int64Array:
        """Where these utterances are; UserError for those that are not there.

        Where a name is not, one that differs from it in its extension alone will do, as in shards.
        """
        places = self._places
        found = [places.get(name, -1) for name in names]
        if min(found, default=0) < 0:
            found = [
                place if place >= 0 else self._by_key.get(key_of(name), -1)
                for place, name in zip(found, names, strict=True)
            ]
        missing = [name for name, place in zip(names, found, strict=True) if place < 0]
        if missing:
            few = ", ".join(repr(name[:200]) for name in missing[:_SHOWN])
            one = len(missing) == 1
            raise UserError(
                f"there is no embedding of {few}{', …' if len(missing) > _SHOWN else ''}"
                f"{'' if one else f' ({len(missing)} of {len(names)} utterances)'}; "
                f"embed {'it' if one else 'them'} too"
            )
        return np.array(found, np.int64)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _by_key(self) -> dict[str, int]:
        return {key_of(name): row for row, name in enumerate(self.names)}

    def take(self, names: Sequence[str]) -> Embeddings:
        """Those of `names`, under these names and in their order. Raises UserError as `rows` does."""
        rows, speakers = self.rows(names), self.speakers
        return replace(
            self,
            names=tuple(names),
            vectors=self.vectors[rows],
            seconds=self.seconds[rows],
            speakers=None if speakers is None else tuple(speakers[row] for row in rows.tolist()),
        )

    def save(self, url: str) -> None:
        """Write them as .npz, which numpy.load reads without pickle. Raises StorageError."""
        file = io.BytesIO()
        np.savez(file, **self.arrays())
        storage.publish_bytes(url, file.getvalue())

    def arrays(self) -> dict[str, Any]:
        """What `save` writes, by field; text as its UTF-8 bytes."""
        names, name_ends = _joined(self.names)
        known = {} if self.speakers is None else dict(zip(_SPEAKERS, _joined(self.speakers), strict=True))
        return {
            "version": np.int64(VERSION),
            "vectors": self.vectors,
            "names": names,
            "name_ends": name_ends,
            "crops": np.int64(self.crops),
            "crop_feature_frames": np.int64(self.crop_feature_frames),
            "made_by": np.frombuffer(self.made_by.encode(), np.uint8),
            "seconds": self.seconds,
            "protocol": np.frombuffer(self.protocol.encode(), np.uint8),
            **known,
        }


def load_embeddings(url: str) -> Embeddings:
    """What Embeddings.save wrote. Raises UserError, naming the field, for one that is damaged or not ours."""
    return decode_embeddings(storage.read_bytes(url), url)[0]


def decode_embeddings(
    data: bytes, url: str, more: dict[str, tuple[str, int]] | None = None
) -> tuple[Embeddings, dict[str, npt.NDArray[Any]]]:
    """The embeddings in a file's bytes, and all its fields; url: for messages.

    more: fields that the file must have besides, with the kind of their type and their dimensions.
    """
    fields = _fields(data, url, {**_FIELDS, **(more or {})})
    version = int(fields["version"])
    if version != VERSION:
        raise UserError(f"{url}: field version is {version}, this release reads {VERSION}: embed again")
    try:
        names = _parted(fields, "names", "name_ends")
        speakers = _parted(fields, *_SPEAKERS) if "speakers" in fields else None
        made_by = fields["made_by"].tobytes().decode()
        made = Embeddings(
            names,
            fields["vectors"].astype(np.float32, copy=False),
            int(fields["crops"]),
            int(fields["crop_feature_frames"]),
            made_by,
            fields["seconds"].astype(np.float32, copy=False),
            fields["protocol"].tobytes().decode(),
            speakers,
        )
    except ValueError as error:  # of UTF-8 too
        raise UserError(f"{url}: {error}; embed again") from None
    return made, fields


def _joined(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Int64Array]:
    """The UTF-8 of all, one after the other, and where each ends."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def _parted(fields: dict[str, npt.NDArray[Any]], name: str, ends_name: str) -> tuple[str, ...]:
    """What _joined joined. Raises ValueError."""
    text, ends = fields[name].tobytes(), fields[ends_name].tolist()
    if ends != sorted(ends) or (ends[-1] if ends else 0) != len(text):
        raise ValueError(f"field {ends_name} does not fit the {name}")
    return tuple(text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False))


def _fields(data: bytes, url: str, wanted: dict[str, tuple[str, int]]) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            wanted = wanted | (_SPEAKERS if "speakers" in file.files else {})
            fields = {name: file[name] for name in wanted if name in file.files}
    except Exception as error:  # numpy's, zipfile's, zlib's, struct's: whatever damage leads to
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{url}: no embeddings ({found}); embed again") from None
    for name, (kind, dimensions) in wanted.items():
        if name not in fields:
            raise UserError(f"{url}: field {name} is missing; expected what eval --save-embeddings writes")
        found = fields[name]
        if found.dtype.kind != kind or found.ndim != dimensions:
            raise UserError(
                f"{url}: field {name} is {found.dtype} of {found.ndim} dimensions, and cannot be; embed again"
            )
    return fields
