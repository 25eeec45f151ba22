"""Augmentation on a GPU: workers draw and read, the device mixes and convolves a whole batch at once.

What a sample gets is drawn as for Augmenter, from the same numbers; only the
arithmetic moves, so the result differs by the rounding of float32. Everything
that touches storage stays in the workers: impulse responses travel with the
batch, as int16 taps, and the device keeps nothing of them between batches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import Any, Literal, TypedDict

import numpy as np
import torch

from shard_tools.arrays import Float32Array, Int16Array, Int64Array
from shard_tools.audio import to_float
from shard_tools.dataset.layout import occurrence
from train.augment.draw import ADDITIVE, Draws, Recipe, draw
from train.augment.mix import POWER_FLOOR
from train.augment.recordings import Recordings
from train.augment.reverberate import fft_length
from train.augment.telephone import band, companded, points_for

_FULL_SCALE = 32768.0


class Prepared(TypedDict):
    """What a batch's augmentation needs besides its audio; a dict, as train.data.handover takes."""

    wet_row: torch.Tensor  # int64 (W,), rows that are reverberated, all different
    taps: torch.Tensor  # int16 (W, taps), their impulse responses, zeros at the end
    scale: torch.Tensor  # float32 (W,), makes int16 taps a response of unit energy
    added_row: torch.Tensor  # int64 (M,), the row that each clip is added to
    added: torch.Tensor  # int16 (M, frames)
    level: torch.Tensor  # float32 (M,), amplitude relative to the row's: 10 ** (-snr / 20)
    turns: torch.Tensor  # int64: the first turns[0] clips go to different rows, so do the next turns[1], …
    call_row: torch.Tensor  # int64 (C,), rows that go over a telephone line, all different
    call_law: torch.Tensor  # int64 (C,), number in telephone.LAWS


class Preparer:
    """The workers' half: takes the place of Augmenter there, and is made like it.

    cache_bytes: memory for impulse responses, which are kept as int16 taps. A process that forks
    must not be preparing in another thread.
    """

    def __init__(
        self, recipe: Recipe, sources: dict[str, Recordings], *, frames: int, seed: int, cache_bytes: int
    ) -> None:
        self.recipe = recipe
        self._sources = sources
        self._frames = frames
        self._seed = seed
        rooms = sources.get("reverberation")
        self._responses = None if rooms is None else Responses(rooms, frames, cache_bytes)
        self._reading = threading.Lock()  # readers serve one thread at a time

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reading"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reading = threading.Lock()

    @property
    def sources(self) -> dict[str, Recordings]:
        return self._sources

    def draw(self, epoch: int, n: Int64Array) -> Draws:
        return draw(self.recipe, self._seed, epoch, n)

    def most_bytes(self, rows: int) -> int:
        """Bytes of the tensors that `prepare` gives for so many samples, at most."""
        most = {kind: self.recipe.clips.get(kind, (1, 1))[1] for kind in ADDITIVE if kind in self._sources}
        clips = max(most.values(), default=0)
        width = 1 if self._responses is None else self._responses.width
        calls = 16 * rows if self.recipe.telephone else 0
        return rows * (8 + 2 * width + 4) + rows * clips * (8 + 2 * self._frames + 4) + 8 * clips + calls

    def prepare(self, epoch: int, n: Int64Array, frames: int | None = None) -> Prepared:
        """Draw what the samples n (rows,) get, and read it. May be called from several threads.

        frames: of this batch's crops; the longest unless given.
        """
        frames = frames or self._frames
        draws = self.draw(epoch, n)
        rooms = draws.clips["reverberation"]
        used = [kind for kind in ADDITIVE if len(draws.clips[kind].row)]
        rows = np.concatenate([np.empty(0, np.int64), *(draws.clips[kind].row for kind in used)])
        snr = np.concatenate([np.empty(0), *(draws.clips[kind].snr for kind in used)])
        turn = occurrence(rows, len(n))
        order = np.argsort(turn, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        added = np.empty((len(rows), frames), np.int16)
        with self._reading:
            taps, scale = self._rooms(rooms.recording)
            done = 0
            for kind in used:
                clips = self._sources[kind].crops(draws.clips[kind], frames)
                added[place[done : done + len(clips)]] = clips
                done += len(clips)
        return Prepared(
            wet_row=torch.from_numpy(rooms.row),
            taps=torch.from_numpy(taps),
            scale=torch.from_numpy(scale),
            added_row=torch.from_numpy(rows[order]),
            added=torch.from_numpy(added),
            level=torch.from_numpy((10.0 ** (-snr[order] / 20.0)).astype(np.float32)),
            turns=torch.from_numpy(np.bincount(turn).astype(np.int64)),
            call_row=torch.from_numpy(draws.calls.row),
            call_law=torch.from_numpy(draws.calls.law),
        )

    def _rooms(self, responses: Int64Array) -> tuple[Int16Array, Float32Array]:
        if self._responses is None:
            return np.empty((0, 1), np.int16), np.empty(0, np.float32)
        return self._responses.of(responses)


class Responses:
    """Impulse responses as int16 taps, the most recently used kept under a byte budget.

    Taps beyond `frames` cannot be heard in crops of that length and are dropped, as Reverberator does.
    width: taps of a row.
    """

    def __init__(self, rooms: Recordings, frames: int, cache_bytes: int) -> None:
        self._rooms = rooms
        self.width = min(rooms.longest, frames)
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[int, tuple[Int16Array, float]] = OrderedDict()
        self._held = 0

    def of(self, numbers: Int64Array) -> tuple[Int16Array, Float32Array]:
        """Taps int16 (W, taps), filled up with zeros, and what to scale them by, float32 (W,)."""
        taps = np.zeros((len(numbers), self.width), np.int16)
        scale = np.empty(len(numbers), np.float32)
        for row, number in enumerate(numbers.tolist()):
            response, scale[row] = self._one(number)
            taps[row, : len(response)] = response
        return taps, scale

    def _one(self, number: int) -> tuple[Int16Array, float]:
        found = self._kept.get(number)
        if found is not None:
            self._kept.move_to_end(number)
            return found
        whole = self._rooms.recording(number)
        # Unit energy of the whole response, before it is cut; a silent one is left as it is.
        energy = float(np.square(to_float(whole), dtype=np.float64).sum())
        taps = whole[: self.width].copy()
        made = (taps, 1.0 / (_FULL_SCALE * np.sqrt(energy or 1.0)))
        self._kept[number] = made
        self._held += taps.nbytes
        while self._held > self._cache_bytes and len(self._kept) > 1:
            self._held -= self._kept.popitem(last=False)[1][0].nbytes
        return made


def augment(audio: torch.Tensor, prepared: Prepared, device: torch.device) -> torch.Tensor:
    """The augmented batch, float32 (rows, frames) on `device`.

    audio: (rows, frames), int16, or float32 in [-1, 1), on the host or on `device`; left as it is.
    prepared: on the host, pinned where the copies should overlap with work of the device. Nothing
    here waits for the device, and the order of every sum is fixed: the same batch gives the same
    bits there. Treatments come in Augmenter's order: reverberation, then what is added, at its
    ratio to the row as it then is, then the telephone.
    """

    def on_device(
        name: Literal["wet_row", "taps", "scale", "added_row", "added", "level", "call_row", "call_law"],
    ) -> torch.Tensor:
        return prepared[name].to(device, non_blocking=True)

    treated = audio.to(device, non_blocking=True)
    treated = treated.float() / _FULL_SCALE if audio.dtype == torch.int16 else treated.clone()
    if len(prepared["wet_row"]):
        taps = on_device("taps").float() * on_device("scale")[:, None]
        _reverberate(treated, on_device("wet_row"), taps)
    if len(prepared["added_row"]):
        clips = on_device("added").float() / _FULL_SCALE
        turns = prepared["turns"].tolist()
        _add(treated, on_device("added_row"), clips, on_device("level"), turns)
    if len(prepared["call_row"]):
        _call(treated, on_device("call_row"), on_device("call_law"))
    return treated


def _reverberate(audio: torch.Tensor, rows: torch.Tensor, taps: torch.Tensor) -> None:
    """Convolve audio[rows[i]] with taps[i], in place; the first `frames` frames of the full convolution."""
    frames = audio.shape[1]
    points = fft_length(frames + taps.shape[1] - 1)
    spectra = torch.fft.rfft(audio[rows], points)
    spectra *= torch.fft.rfft(taps, points)
    audio.index_copy_(0, rows, torch.fft.irfft(spectra, points)[:, :frames])


def _add(
    audio: torch.Tensor, rows: torch.Tensor, clips: torch.Tensor, level: torch.Tensor, turns: list[int]
) -> None:
    """Add clips[i] to audio[rows[i]] at `level[i]` times the amplitude that the row had on entry, in place.

    clips are overwritten. A turn's rows are all different: adding them one turn after the other
    fixes the order in which a row's several clips are added, which atomic additions would not.
    """
    gains = level * torch.sqrt(_mean_power(audio)[rows] / _mean_power(clips))
    clips *= gains[:, None]
    first = 0
    for count in turns:
        own = slice(first, first + count)
        audio.index_add_(0, rows[own], clips[own])
        first += count


def _call(audio: torch.Tensor, rows: torch.Tensor, laws: torch.Tensor) -> None:
    """Send audio[rows[i]] over a line of law laws[i], in place; as train.augment.telephone.call."""
    frames = audio.shape[1]
    points = points_for(frames)
    gain, table = _line(points, audio.device)
    narrow = torch.fft.rfft(audio[rows], points)[:, : len(gain)] * gain
    line = torch.fft.irfft(narrow, points // 2) * (_FULL_SCALE / 2)
    bits = line.round_().clamp_(-_FULL_SCALE, _FULL_SCALE - 1).long() & 0xFFFF
    spectra = torch.fft.rfft(table[bits + (laws << 16)[:, None]])
    spectra[:, -1] *= 0.5
    audio.index_copy_(0, rows, torch.fft.irfft(spectra, points)[:, :frames] * 2.0)


@cache
def _line(points: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The band's gain and the laws' tables, one after the other, on a device: half a megabyte, sent once."""
    return torch.from_numpy(band(points)).to(device), torch.from_numpy(companded().reshape(-1)).to(device)


def _mean_power(audio: torch.Tensor) -> torch.Tensor:
    """Mean square of each row plus POWER_FLOOR, (rows,); as train.augment.mix.mean_power."""
    return torch.linalg.vector_norm(audio, dim=1).square() / audio.shape[1] + POWER_FLOOR
