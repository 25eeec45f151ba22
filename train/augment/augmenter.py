"""The augmenter of a run: sources of noise and rooms, and the recipe applied to batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shard_tools.arrays import Float32Array, Int16Array, Int64Array
from train.augment.draw import ADDITIVE, KINDS, Draws, Recipe, draw
from train.augment.mix import add_at_snr
from train.augment.recordings import Recordings
from train.augment.reverberate import Reverberator
from train.augment.telephone import call


@dataclass
class Prepared:
    """What a batch needs to be augmented, once: the draws, and the audio of the additive kinds' clips."""

    draws: Draws
    # By kind: (frames,) of each clip, see Recordings.one_by_one.
    sounds: dict[str, Iterator[Int16Array]]


class Augmenter:
    """Applies a recipe to batches of crops of up to `frames` audio frames, of one length in each batch.

    sources: by kind (reverberation, music, babble, noise), those that the recipe gives a weight.
    The result of a row depends on (seed, epoch, its n) and its audio only: not on the batch around it.
    """

    def __init__(
        self, recipe: Recipe, sources: dict[str, Recordings], *, frames: int, seed: int, cache_bytes: int
    ) -> None:
        self.recipe = recipe
        self._sources = sources
        self._frames = frames
        self._seed = seed
        rooms = sources.get("reverberation")
        self._reverberator = (
            None if rooms is None else Reverberator(rooms.taps, frames, rooms.longest, cache_bytes)
        )

    @property
    def sources(self) -> dict[str, Recordings]:
        return self._sources

    def draw(self, epoch: int, n: Int64Array) -> Draws:
        return draw(self.recipe, self._seed, epoch, n)

    def prepare(self, epoch: int, n: Int64Array, frames: int | None = None) -> Prepared:
        """Draw for the samples n (rows,) and read what the draws ask for and would have to be waited for.

        frames: of this batch's crops; the longest unless given.
        """
        frames = frames or self._frames
        draws = self.draw(epoch, n)
        sounds = {
            kind: self._sources[kind].one_by_one(draws.clips[kind], frames)
            for kind in ADDITIVE
            if len(draws.clips[kind].row)
        }
        return Prepared(draws, sounds)

    def apply(self, audio: Float32Array, prepared: Prepared) -> None:
        """Augment `audio` float32 (rows, frames) in place."""
        rooms = prepared.draws.clips["reverberation"]
        if self._reverberator is not None:
            self._reverberator(audio, rooms.row, rooms.recording)
        for kind, sounds in prepared.sounds.items():
            clips = prepared.draws.clips[kind]
            add_at_snr(audio, clips.row, sounds, clips.snr)
        call(audio, prepared.draws.calls.row, prepared.draws.calls.law)

    def __call__(self, audio: Float32Array, epoch: int, n: Int64Array) -> Draws:
        """prepare and apply at once; returns what was drawn."""
        prepared = self.prepare(epoch, n, audio.shape[1])
        self.apply(audio, prepared)
        return prepared.draws


def describe(recipe: Recipe) -> str:
    """The recipe in a line for the log: "none 20 %, reverberation 20 % (4 recordings), …"."""
    parts = []
    for kind, probability in zip(KINDS, recipe.probabilities(), strict=True):
        if probability:
            count = recipe.recordings.get(kind)
            parts.append(f"{kind} {100 * probability:.3g} %" + (f" ({count} recordings)" if count else ""))
    if recipe.telephone:
        parts.append(f"and {100 * recipe.telephone:.3g} % of all over a telephone ({', '.join(recipe.laws)})")
    return ", ".join(parts)
