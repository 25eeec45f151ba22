"""Speaker embeddings of utterances, or of a rank's share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from eval.protocol import SHORTEST, Pieces, Protocol
from eval.utterances import Utterances, frames_of
from models.registry import ModelError, check_crop, least_samples
from shard_tools import audio
from shard_tools.ahead import ahead
from shard_tools.arrays import BoolArray, Float32Array, Int64Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.errors import UserError

WINDOWS_OF_AN_UTTERANCE = 10  # in a call of the network, on average; the rest is for the next one


@dataclass(frozen=True, eq=False)
class Heard:
    """vectors: float32 (n, vectors, D), as Embeddings has them; seconds: of audio, float32 (n,); silent: bool
    (n,), where all samples of an utterance are equal."""

    vectors: Float32Array
    seconds: Float32Array
    silent: BoolArray


@dataclass(frozen=True, eq=False)
class _Loaded:
    pieces: Pieces
    seconds: float
    silent: bool


def shares(
    source: Utterances, names: Sequence[str], protocol: Protocol, batch: int, world: int
) -> list[Int64Array]:
    """Which of `names` each rank embeds, in its order; by rank, int64.

    Ranks take whole batches of `batch` utterances, and what is in a batch does not depend on how many ranks
    there are: the same embeddings to the bit come out on any number. Whole utterances go by length where
    it is known, so that more of them can share a call of the network.
    """
    lengths = frames_of(source, names) if protocol.kind == "whole" else None
    order = np.arange(len(names)) if lengths is None else np.argsort(lengths, kind="stable")
    number = np.arange(len(names)) // batch
    return [order[number % world == rank] for rank in range(world)]


def embed(
    network: nn.Module,
    source: Utterances,
    names: Sequence[str],
    *,
    protocol: Protocol,
    device: torch.device,
    batch_utterances: int,
    threads: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Heard:
    """The embeddings of `names`, in order.

    `network`, in evaluation mode and on `device`, turns float32 (B, samples) into
    (B, D). Only pieces of one length share a batch, so nothing is padded and an
    embedding does not depend on its neighbours. `threads` threads read ahead.
    advance: is told how many utterances have just been done.
    Raises UserError for audio that cannot be read and for an embedding that is not
    finite, naming the utterance.
    """
    shortest = max(SHORTEST, least_samples(network))
    check_protocol(network, protocol)

    def load(name: str) -> _Loaded:
        samples = source.load(name)
        silent = bool((samples == samples[0]).all()) if len(samples) else True
        return _Loaded(protocol.pieces(samples, shortest), len(samples) / SAMPLE_RATE, silent)

    at_once = batch_utterances * (protocol.crops or (WINDOWS_OF_AN_UTTERANCE if protocol.hop else 1))
    vectors: list[Float32Array] = []
    seconds, silent = np.empty(len(names), np.float32), np.empty(len(names), np.bool_)
    read = ahead(names, load, 2 * batch_utterances, threads=threads)
    with torch.inference_mode():
        for first, batch in _batches(read, batch_utterances):
            pieces = [loaded.pieces for loaded in batch]
            for each, found in zip(pieces, _heard(network, pieces, at_once, device), strict=True):
                assert len(each) == len(found)
                vectors.append(protocol.join(found))
            seconds[first : first + len(batch)] = [loaded.seconds for loaded in batch]
            silent[first : first + len(batch)] = [loaded.silent for loaded in batch]
            advance(len(batch))
    if not vectors:  # more ranks than batches
        size = int(network.embedding_size)  # type: ignore[arg-type]
        return Heard(np.empty((0, protocol.vectors, size), np.float32), seconds, silent)
    out = np.stack(vectors)
    broken = np.flatnonzero(~np.isfinite(out).all(axis=(1, 2)))
    if len(broken):
        quiet = ", which is nothing but silence" if silent[broken[0]] else ""
        raise UserError(
            f"the network's embeddings of {len(broken)} utterances hold NaN or infinity, first of "
            f"{names[broken[0]]}{quiet}; its weights have probably diverged in training"
        )
    return Heard(out, seconds, silent)


def check_protocol(network: nn.Module, protocol: Protocol) -> None:
    """Raise UserError when the crops or windows are not what `network` takes."""
    if protocol.kind == "whole":
        return
    try:
        check_crop(network, "the crops' length in feature frames", protocol.crop_frames)
    except ModelError as error:
        raise UserError(str(error)) from None


def _heard(
    network: nn.Module, utterances: Sequence[Pieces], at_once: int, device: torch.device
) -> list[Float32Array]:
    """The embeddings of each utterance's pieces, float32 (pieces, D), of which `at_once` share a call."""
    found: list[list[Float32Array]] = [[] for _ in utterances]
    for frames in sorted({each.frames for each in utterances}):
        places = [
            (number, start)
            for number, each in enumerate(utterances)
            if each.frames == frames
            for start in each.starts.tolist()
        ]
        for first in range(0, len(places), at_once):
            some = places[first : first + at_once]
            block = np.empty((len(some), frames), np.int16)
            for row, (number, start) in zip(block, some, strict=True):
                row[:] = utterances[number].samples[start : start + frames]
            embeddings = network(torch.from_numpy(audio.to_float(block)).to(device)).float().cpu().numpy()
            for (number, _), embedding in zip(some, embeddings, strict=True):
                found[number].append(embedding)
    return [np.stack(each) for each in found]


def _batches(items: Iterator[_Loaded], size: int) -> Iterator[tuple[int, list[_Loaded]]]:
    """Lists of up to `size` items, each with the number of its first item."""
    batch: list[_Loaded] = []
    first = 0
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield first, batch
            first, batch = first + size, []
    if batch:
        yield first, batch
