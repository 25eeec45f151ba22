"""Reading the crops of a batch: speeds, and what to do about an utterance that cannot be read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from shard_tools import philox
from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.audio import put_float, to_float
from shard_tools.errors import UserError
from shard_tools.read.reader import Reader, ReadError
from train.augment.speed import Speeds, change_speed, frames_needed
from train.data.excluded import others_left
from train.plan import Batch

logger = logging.getLogger("train")

# Different utterances tried in the place of one that cannot be read before the run gives up.
ATTEMPTS = 5


@dataclass
class Loaded:
    """A batch as it was read, with substitutes for what could not be."""

    batch: Batch
    audio: Float32Array  # (rows, frames)
    substituted: int  # rows


class CropLoader:
    """Reads the crops of batches.

    on_error: "fail" raises the ReadError; "substitute" takes
    another utterance of the same speaker, drawn by the sample's own number, so that every
    world size and every resumption takes the same one. excluded: int64, utterances that no plan has,
    and that stand in for none.
    """

    def __init__(
        self,
        reader: Reader,
        seed: int,
        speeds: Speeds,
        on_error: str,
        excluded: Int64Array | None = None,
    ) -> None:
        self.reader = reader
        self.speeds = speeds
        self._seed = seed
        self._on_error = on_error
        self._excluded = np.empty(0, np.int64) if excluded is None else excluded

    def load(self, batch: Batch) -> Loaded:
        """Raises ReadError for what cannot be read, or cannot be substituted either."""
        attempts: dict[int, int] = {}
        while True:
            try:
                return Loaded(batch, self._read(batch), len(attempts))
            except ReadError as error:
                if self._on_error == "fail":
                    raise
                if attempts.get(error.row, 0) == ATTEMPTS:
                    raise UserError(
                        f"{error}; data.on_error is substitute, but {ATTEMPTS} other utterances of "
                        "the speaker "
                        "could not be read either"
                    ) from error
                attempts[error.row] = attempts.get(error.row, 0) + 1
                logger.warning("substituting another utterance of the speaker: %s", error)
                batch = self._substitute(batch, error.row, attempts[error.row])

    def _read(self, batch: Batch) -> Float32Array:
        speed, utterance = self.speeds.split(batch.utterance)
        audio = np.empty((len(utterance), batch.crop), dtype=np.float32)
        if len(self.speeds.factors) == 1:
            for row, crop in zip(audio, self.reader.rows(utterance, batch.start, batch.crop), strict=True):
                put_float(row, crop)
            return audio
        for number, factor in enumerate(self.speeds.factors):
            rows = np.flatnonzero(speed == number)
            if not len(rows):
                continue
            needed = frames_needed(batch.crop, factor)
            room = np.maximum(self.reader.catalogue.frames[utterance[rows]] - needed, 0)
            starts = np.minimum(batch.start[rows] * factor.numerator // factor.denominator, room)
            try:
                crops = to_float(self.reader.crops(utterance[rows], starts, needed))
            except ReadError as error:
                error.row = int(rows[error.row])
                raise
            audio[rows] = crops if number == 0 else change_speed(crops, factor, batch.crop)
        return audio

    def _substitute(self, batch: Batch, row: int, attempt: int) -> Batch:
        """The batch with another utterance of the same speaker in `row`, its crop drawn anew."""
        speed, bad = (int(value) for value in self.speeds.split(batch.utterance[row]))
        label = int(self.reader.catalogue.label[bad])
        # First of its own shard, where that costs less: but a shard that is lost is lost for all in it.
        others = others_left(self.reader.catalogue, bad, elsewhere=attempt > 1, excluded=self._excluded)
        if not len(others):
            raise UserError(
                f"the only utterance of speaker {self.reader.catalogue.speakers[label]} cannot be read, and "
                "data.on_error substitute has no other: set data.on_error to fail to see which it "
                "is, or pack again"
            )
        n = batch.n[row]
        chosen = others[int(philox.integers(self._seed, "substitute", batch.epoch, n, len(others), attempt))]
        frames = int(self.speeds.frames(self.reader.catalogue.frames[np.array([chosen])])[speed])
        room = max(frames - batch.crop, 0)
        utterance, start = batch.utterance.copy(), batch.start.copy()
        utterance[row] = chosen + speed * self.speeds.utterances
        start[row] = philox.integers(self._seed, "substitute start", batch.epoch, n, room + 1, attempt)
        return replace(batch, utterance=utterance, start=start)
