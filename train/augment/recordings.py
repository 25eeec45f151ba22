"""Recordings that are added to crops or convolve them: noise, music, voices, rooms."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from shard_tools.arrays import Float32Array, Int16Array, Int64Array
from shard_tools.audio import to_float
from train.augment.draw import Clips


class CropReader(Protocol):
    """What is needed of shard_tools.read.reader.Reader."""

    def crops(self, utterances: Int64Array, starts: Int64Array, frames: int) -> Int16Array: ...

    def rows(self, utterances: Int64Array, starts: Int64Array, frames: int) -> Iterator[Int16Array]: ...

    def utterance(self, u: int) -> Int16Array: ...


class Recordings:
    """The recordings of one kind: rows of a catalogue of noise or room shards, and their reader.

    rows: (recordings,) catalogue rows, None for all that it has; frames: (recordings,) audio frames of each;
    either an array or what is indexed as one. count: recordings, None for as many as frames; longest: audio
    frames of the longest, None for it to be looked for. One thread reads at a time.
    """

    def __init__(
        self,
        reader: CropReader,
        rows: Any,
        frames: Any,
        count: int | None = None,
        longest: int | None = None,
    ) -> None:
        self.reader = reader
        self.rows = rows
        self.frames = frames
        self._count = len(frames) if count is None else count
        self._longest = longest
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return self._count

    @property
    def longest(self) -> int:
        return int(self.frames.max()) if self._longest is None else self._longest

    def _rows(self, recordings: Int64Array) -> Int64Array:
        rows: Int64Array = recordings if self.rows is None else self.rows[recordings]
        return rows

    def crops(self, clips: Clips, frames: int) -> Int16Array:
        """The clips' audio, int16 (clips, frames); recordings shorter than that repeat from their start."""
        with self._reading:
            return self.reader.crops(self._rows(clips.recording), self._starts(clips, frames), frames)

    def one_by_one(self, clips: Clips, frames: int) -> Iterator[Int16Array]:
        """The rows of `crops`, each good until the next; from local storage they are read only then."""
        with self._reading:
            return self.reader.rows(self._rows(clips.recording), self._starts(clips, frames), frames)

    def _starts(self, clips: Clips, frames: int) -> Int64Array:
        room = np.maximum(self.frames[clips.recording] - frames, 0)
        return (clips.position * (room + 1)).astype(np.int64)

    def recording(self, number: int) -> Int16Array:
        with self._reading:
            return self.reader.utterance(int(self._rows(np.array(number))))

    def taps(self, number: int) -> Float32Array:
        """The whole of one recording, float32, as an impulse response."""
        return to_float(self.recording(number))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reading"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reading = threading.Lock()
