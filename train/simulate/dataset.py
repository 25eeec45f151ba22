"""What a simulation knows of a dataset: its manifest's columns, or made-up ones of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from shard_tools import philox
from shard_tools.arrays import Float64Array, Int32Array, Int64Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.audio.flac_frames import FrameTables
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.index import WAV
from shard_tools.dataset.layout import occurrence, shard_rows
from shard_tools.errors import UserError
from train.data.excluded import find_excluded
from train.plan import WindowUtterances

_HEADER, _BLOCK, _RECORD = 44, 512, 10240  # bytes of a WAV's header, of a tar's block and record
# Spread of the natural logarithm: utterances per speaker and lengths, about as VoxCeleb2's.
_COUNT_SIGMA, _LENGTH_SIGMA = 0.5, 0.4


@dataclass(frozen=True, eq=False)
class Dataset:
    """Utterance u is row u; rows are in shard order. Serves WindowedBatches as its table.

    label: int32 (N,); frames: int64 (N,), audio frames; shard: int32 (N,);
    begin: int64 (N,), byte of the shard where the audio begins that a crop is cut from; for
    FLAC the whole member; length: int64 (N,), bytes of a FLAC member, 0 for PCM;
    shard_bytes: int64 (shards,); flac: where the frames of FLAC members lie; excluded: int64, ascending, of
    the utterances that no plan has.
    """

    name: str
    speakers: int
    label: Int32Array
    frames: Int64Array
    shard: Int32Array
    begin: Int64Array
    length: Int64Array
    shard_bytes: Int64Array
    flac: FrameTables | None = None
    excluded: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    _turns: dict[str, Int64Array] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    def window(self, lanes: Sequence[Int64Array]) -> WindowUtterances:
        """As a WindowTable."""
        if not self._turns:
            own = self.label[self.left]
            self._turns["turn"] = np.full(len(self), -1)
            self._turns["turn"][self.left] = occurrence(own, self.speakers)
            self._turns["total"] = np.bincount(own, minlength=self.speakers)
        each = [self._rows(shards) for shards in lanes]
        rows = np.concatenate(each)
        label = self.label[rows]
        return WindowUtterances(
            number=rows,
            label=label,
            length=self.frames[rows],
            lane=np.repeat(np.arange(len(each)), [len(part) for part in each]),
            turn=self._turns["turn"][rows],
            total=self._turns["total"][label],
        )

    @cached_property
    def left(self) -> Int64Array:
        """The utterances that plans have, ascending."""
        return np.delete(np.arange(len(self), dtype=np.int64), self.excluded)

    def _rows(self, shards: Int64Array) -> Int64Array:
        first, last = (np.searchsorted(self.shard, shards, side=side) for side in ("left", "right"))
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        rows = np.concatenate([np.empty(0, np.int64), *ranges])
        return rows[self._turns["turn"][rows] >= 0]


def open_dataset(url: str, exclude: str | None = None) -> Dataset:
    """The dataset at `url`, from its manifest and indexes alone. Raises what open_catalogue does.

    exclude: a file of keys that are left out, as data.exclude; UserError for one that is not there.
    """
    catalogue = open_catalogue(url)
    if not len(catalogue):
        raise UserError(f"{url}: there are no utterances in it; pack some")
    pcm = catalogue.codec == WAV
    return Dataset(
        name=url,
        speakers=len(catalogue.speakers),
        label=catalogue.label,
        frames=catalogue.frames,
        shard=catalogue.shard,
        begin=np.where(pcm, catalogue.pcm_offset, catalogue.offset),
        length=np.where(pcm, 0, catalogue.size),
        shard_bytes=np.array(catalogue.shard_sizes, np.int64),
        flac=catalogue.flac,
        excluded=find_excluded([catalogue], exclude)[0],
    )


def synthetic(
    utterances: int, speakers: int, *, seconds: float, utterances_per_shard: int, group: int, seed: int
) -> Dataset:
    """A dataset that does not exist: so many utterances in PCM, packed as make-shards would.

    Utterances per speaker and lengths are lognormal; `seconds` is the mean length. Every
    speaker has one utterance at least.
    """
    if not 1 <= speakers <= utterances:
        raise UserError(
            f"--synthetic {utterances} {speakers}: there must be at least one speaker, and an utterance each"
        )
    weight = np.exp(_COUNT_SIGMA * _normal(seed, "simulated speakers", speakers))
    edges = np.cumsum(weight) / weight.sum() * (utterances - speakers)
    counts = 1 + np.diff(np.rint(edges), prepend=0).astype(np.int64)
    label = np.repeat(np.arange(speakers), counts)
    shards = shard_rows(label, utterances_per_shard=utterances_per_shard, group=group, seed=seed)
    stretch = np.exp(_LENGTH_SIGMA * _normal(seed, "simulated lengths", utterances))
    frames = np.maximum(stretch / stretch.mean() * seconds * SAMPLE_RATE, 1).astype(np.int64)

    shard = np.repeat(np.arange(len(shards)), [len(rows) for rows in shards])
    begin, shard_bytes = pcm_layout(frames, shard)
    return Dataset(
        name=f"{utterances:,} synthetic utterances",
        speakers=speakers,
        label=label[np.concatenate(shards)].astype(np.int32),
        frames=frames,
        shard=shard.astype(np.int32),
        begin=begin,
        length=np.zeros(utterances, np.int64),
        shard_bytes=shard_bytes,
    )


def pcm_layout(frames: Int64Array, shard: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Where make-shards puts the PCM of WAVs of so many frames (N,), and the bytes of each shard.

    shard: (N,), ascending, none left out.
    """
    # A header's block, the audio, a header's block, the JSON.
    sample = 3 * _BLOCK + -(-(_HEADER + 2 * frames) // _BLOCK) * _BLOCK
    ends = np.cumsum(sample)
    last = np.flatnonzero(np.diff(shard, append=-1))
    before = np.concatenate([[0], ends[last[:-1]]])
    used = ends[last] - before + 2 * _BLOCK
    return ends - sample - before[shard] + _BLOCK + _HEADER, -(-used // _RECORD) * _RECORD


def _normal(seed: int, purpose: str, count: int) -> Float64Array:
    bits = philox.raw(seed, purpose, 0, count) >> np.uint64(11)
    drawn: Float64Array = ndtri((bits.astype(np.float64) + 0.5) * 2.0**-53)
    return drawn
