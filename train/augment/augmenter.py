"""The augmenter of a run: sources of noise and rooms, and the recipe applied to batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shard_tools.audio import to_float
from train.augment.draw import ADDITIVE, KINDS, Clips, Draws, Recipe, draw
from train.augment.mix import add_at_snr
from train.augment.reverberate import Reverberator


class CropReader(Protocol):
    """What is needed of shard_tools.read.reader.Reader."""

    def crops(
        self, utterances: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], frames: int
    ) -> npt.NDArray[np.int16]: ...

    def rows(
        self, utterances: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], frames: int
    ) -> Iterator[npt.NDArray[np.int16]]: ...

    def utterance(self, u: int) -> npt.NDArray[np.int16]: ...


class Source:
    """The recordings of one kind: rows of a catalogue of noise or room shards, and their reader.

    rows: (recordings,) catalogue rows; frames: (recordings,) audio frames of each. One thread
    reads at a time.
    """

    def __init__(
        self, reader: CropReader, rows: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]
    ) -> None:
        self.reader = reader
        self.rows = rows
        self.frames = frames
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def crops(self, clips: Clips, frames: int) -> npt.NDArray[np.int16]:
        """The clips' audio, int16 (clips, frames); recordings shorter than that repeat from their start."""
        with self._reading:
            return self.reader.crops(self.rows[clips.recording], self._starts(clips, frames), frames)

    def one_by_one(self, clips: Clips, frames: int) -> Iterator[npt.NDArray[np.int16]]:
        """The rows of `crops`, each good until the next; from local storage they are read only then."""
        with self._reading:
            return self.reader.rows(self.rows[clips.recording], self._starts(clips, frames), frames)

    def _starts(self, clips: Clips, frames: int) -> npt.NDArray[np.int64]:
        room = np.maximum(self.frames[clips.recording] - frames, 0)
        return (clips.position * (room + 1)).astype(np.int64)

    def recording(self, number: int) -> npt.NDArray[np.int16]:
        with self._reading:
            return self.reader.utterance(int(self.rows[number]))


@dataclass
class Prepared:
    """What a batch needs to be augmented, once: the draws, and the audio of the additive kinds' clips."""

    draws: Draws
    # By kind: (frames,) of each clip, see Source.one_by_one.
    sounds: dict[str, Iterator[npt.NDArray[np.int16]]]


class Augmenter:
    """Applies a recipe to batches of crops of a fixed length.

    sources: by kind (reverberation, music, babble, noise), those that the recipe gives a weight.
    The result of a row depends on (seed, epoch, its n) and its audio only: not on the batch around it.
    """

    def __init__(
        self, recipe: Recipe, sources: dict[str, Source], *, frames: int, seed: int, cache_bytes: int
    ) -> None:
        self.recipe = recipe
        self._sources = sources
        self._frames = frames
        self._seed = seed
        rooms = sources.get("reverberation")
        self._reverberator = (
            None
            if rooms is None
            else Reverberator(
                lambda number: to_float(rooms.recording(number)), frames, int(rooms.frames.max()), cache_bytes
            )
        )

    def draw(self, epoch: int, n: npt.NDArray[np.int64]) -> Draws:
        return draw(self.recipe, self._seed, epoch, n)

    def prepare(self, epoch: int, n: npt.NDArray[np.int64]) -> Prepared:
        """Draw for the samples n (rows,) and read what the draws ask for and would have to be waited for."""
        draws = self.draw(epoch, n)
        sounds = {
            kind: self._sources[kind].one_by_one(draws.clips[kind], self._frames)
            for kind in ADDITIVE
            if len(draws.clips[kind].row)
        }
        return Prepared(draws, sounds)

    def apply(self, audio: npt.NDArray[np.float32], prepared: Prepared) -> None:
        """Augment `audio` float32 (rows, frames) in place."""
        rooms = prepared.draws.clips["reverberation"]
        if self._reverberator is not None:
            self._reverberator(audio, rooms.row, rooms.recording)
        for kind, sounds in prepared.sounds.items():
            clips = prepared.draws.clips[kind]
            add_at_snr(audio, clips.row, sounds, clips.snr)

    def __call__(self, audio: npt.NDArray[np.float32], epoch: int, n: npt.NDArray[np.int64]) -> Draws:
        """prepare and apply at once; returns what was drawn."""
        prepared = self.prepare(epoch, n)
        self.apply(audio, prepared)
        return prepared.draws


def describe(recipe: Recipe) -> str:
    """The recipe in a line for the log: "none 20 %, reverberation 20 % (4 recordings), …"."""
    parts = []
    for kind, probability in zip(KINDS, recipe.probabilities(), strict=True):
        if probability:
            count = recipe.recordings.get(kind)
            parts.append(f"{kind} {100 * probability:.3g} %" + (f" ({count} recordings)" if count else ""))
    return ", ".join(parts)
