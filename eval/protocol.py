"""How an utterance becomes the pieces that a network hears, and their embeddings those of the utterance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.parts.frontend import HOP, crop_length
from shard_tools import audio
from shard_tools.arrays import Float32Array, Int16Array, Int64Array

SHORTEST = 1600  # samples; a network is not asked to look at less than 0.1 s

Kind = Literal["whole", "crops", "mean", "windows"]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of `frames` samples of an utterance, from each of `starts` on; samples: int16, all of it."""

    samples: Int16Array
    starts: Int64Array
    frames: int

    def __len__(self) -> int:
        return len(self.starts)

    def all(self) -> Int16Array:
        """int16 (pieces, frames), copied."""
        return np.stack([self.samples[start : start + self.frames] for start in self.starts])


@dataclass(frozen=True)
class Protocol:
    """kind: "whole" utterances; evenly spaced "crops", each with an embedding of its own; their "mean", one
    vector an utterance; "windows", the mean of those that slide over the utterance.

    A mean is that of embeddings brought to length 1, and has whatever length comes out.
    crops: how many (of crops and mean); crop_frames: feature frames of 10 ms in a crop or window; hop:
    feature frames from the start of a window to that of the next. What a kind does not use is 0.
    Raises ValueError for what does not fit together.
    """

    kind: Kind = "whole"
    crops: int = 0
    crop_frames: int = 0
    hop: int = 0

    def __post_init__(self) -> None:
        used = {"whole": (), "crops": (1, 2), "mean": (1, 2), "windows": (2, 3)}[self.kind]
        for place, value in enumerate((self.crops, self.crop_frames, self.hop), start=1):
            if (value > 0) != (place in used):
                raise ValueError(
                    f"{self.kind}: crops {self.crops}, frames {self.crop_frames}, hop {self.hop}"
                )

    @staticmethod
    def of_crops(crops: int, crop_frames: int) -> Protocol:
        """`crops` crops of `crop_frames`, or whole utterances with 0 crops."""
        return Protocol("crops", crops, crop_frames) if crops else Protocol()

    @property
    def vectors(self) -> int:
        """Embeddings of each utterance."""
        return self.crops if self.kind == "crops" else 1

    @property
    def samples(self) -> int:
        """Of each piece; 0 where pieces are whole utterances."""
        return 0 if self.kind == "whole" else crop_length(self.crop_frames)

    @property
    def text(self) -> str:
        """In words that no other protocol has."""
        if self.kind == "whole":
            return "whole utterances"
        if self.kind == "windows":
            return f"mean of windows of {self.crop_frames} frames every {self.hop}"
        crops = f"{self.crops} crops of {self.crop_frames} frames"
        return crops if self.kind == "crops" else f"mean of {crops}"

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of `text`: equal where protocols are."""
        return hashlib.sha256(f"voxshard protocol 1: {self.text}".encode()).hexdigest()

    def pieces(self, samples: Int16Array, shortest: int = SHORTEST) -> Pieces:
        """What the network hears of an utterance; shortest: samples of a whole utterance that it takes."""
        if self.kind == "whole":
            samples = audio.wrap(samples, max(len(samples), shortest))
            return Pieces(samples, np.zeros(1, np.int64), len(samples))
        if self.kind == "windows":
            samples = audio.wrap(samples, self.samples)
            return Pieces(samples, window_starts(len(samples), self.samples, self.hop * HOP), self.samples)
        if len(samples) <= self.samples:
            samples = audio.wrap(samples, self.samples + 1)
        return Pieces(samples, crop_starts(len(samples), self.samples, self.crops), self.samples)

    def join(self, embeddings: Float32Array) -> Float32Array:
        """The utterance's embeddings, float32 (vectors, D), from those of its pieces, (pieces, D)."""
        if self.kind in ("whole", "crops"):
            return embeddings
        lengths = np.sqrt(np.einsum("pd,pd->p", embeddings, embeddings, dtype=np.float64))
        units = embeddings / np.maximum(lengths, 1e-12)[:, None]
        return units.mean(axis=0, keepdims=True).astype(np.float32)


def crop_starts(length: int, frames: int, crops: int) -> Int64Array:
    """Where `crops` crops of `frames` of `length` samples begin: int64 (crops,), from one end to the other.

    As the VoxCeleb trainer's loader in evaluation: starts are spaced evenly and truncated; an utterance that
    is not longer than the crop has been repeated until it is one sample longer.
    """
    return np.linspace(0, length - frames, num=crops).astype(np.int64)


def window_starts(length: int, frames: int, hop: int) -> Int64Array:
    """Where windows of `frames` of `length` samples begin: int64 (windows,), one every `hop`.

    What is left at the end is heard too, by a last window that ends with the utterance.
    """
    last = length - frames
    starts = np.arange(0, last + 1, hop, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)
