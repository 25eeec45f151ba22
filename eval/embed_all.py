"""The embeddings of any number of utterances, by all ranks together, in parts that are kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from eval.embed import Heard, embed, shares
from eval.embeddings import Embeddings
from eval.kept import PART_UTTERANCES, Kept, Known
from eval.protocol import SHORTEST, Protocol
from eval.ranks import from_first, gather_rows, rank_and_world, require_same, together
from eval.speakers import labelled_speakers
from eval.utterances import Utterances, stamps_of
from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.text import counted

_SHOWN = 10

Say = Callable[[str], None]


def embed_utterances(
    network: nn.Module,
    source: Utterances,
    names: Sequence[str],
    *,
    device: torch.device,
    protocol: Protocol | None = None,
    crops: int = 0,
    crop_feature_frames: int = 400,
    batch_utterances: int = 16,
    threads: int = 4,
    progress: bool = False,
    made_by: str = "",
    kept: Kept | None = None,
    say: Say = lambda _: None,
) -> Embeddings:
    """The embeddings of `names`, on every rank all of them, where torch.distributed is initialised.

    All ranks must call it with the same arguments; on any number of them, and after a kill, the same
    embeddings come out, to the bit where a process has as many threads. protocol: how utterances are cut;
    without it `crops` crops of `crop_feature_frames`, or whole utterances with 0 crops. made_by: what the
    result says of its origin. kept: where embeddings lie from before, and those made now go, by rank 0. say:
    is told, on rank 0, of audio that no speaker can be known by, and of what was kept. The network is in
    evaluation mode meanwhile; its modules' modes are put back afterwards. Raises UserError, on all ranks,
    where one cannot read an utterance, or finds an embedding that is not finite.
    """
    protocol = protocol or Protocol.of_crops(crops, crop_feature_frames)
    rank, world = rank_and_world()
    require_same(names)
    stamps = together(lambda: stamps_of(source, names) if kept is not None and rank == 0 else [])
    known = _known(kept, names, stamps, device, network, protocol)
    if len(known.rows) and rank == 0:
        say(f"{len(known.rows):,} of {counted(len(names), 'embedding', ',')} were made before")
    every = _Every(len(names), known)
    todo = np.setdiff1d(np.arange(len(names)), known.rows)
    del known  # which holds all of them a second time
    bar = tqdm(
        total=len(names),
        initial=len(names) - len(todo),
        desc="embedding",
        unit=" utterances",
        disable=not (progress and rank == 0),
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a job's log gets a line now and then
    )
    with _evaluation_mode(network), bar:
        for first in range(0, len(todo), PART_UTTERANCES):
            rows = todo[first : first + PART_UTTERANCES]
            part = [names[row] for row in rows]
            dealt = shares(source, part, protocol, batch_utterances, world)
            embed_own = partial(
                embed,
                network,
                source,
                [part[row] for row in dealt[rank]],
                protocol=protocol,
                device=device,
                batch_utterances=batch_utterances,
                threads=threads,
                advance=bar.update,
            )
            heard = _gathered(together(embed_own), dealt, len(part), device)
            bar.update(len(part) - len(dealt[rank]))
            every.put(rows, heard)
            if kept is not None:
                keep = partial(kept.add, part, [stamps[row] for row in rows] if rank == 0 else [], heard)
                together(keep if rank == 0 else _nothing)
    if rank == 0:
        _warn(names, every, say)
    return Embeddings(
        tuple(names),
        every.vectors,
        protocol.crops if protocol.kind == "crops" else 0,
        protocol.crop_frames if protocol.kind == "crops" else 0,
        made_by,
        every.seconds,
        protocol.text,
        labelled_speakers(names, source),
    )


class _Every:
    """What is known of all utterances, by row: vectors float32 (n, vectors, D), seconds, silent (n,)."""

    def __init__(self, count: int, known: Known) -> None:
        self.vectors = np.empty((count, *known.heard.vectors.shape[1:]), np.float32)
        self.seconds = np.empty(count, np.float32)
        self.silent = np.empty(count, np.bool_)
        self.put(known.rows, known.heard)

    def put(self, rows: Int64Array, heard: Heard) -> None:
        shape = len(self.vectors), *heard.vectors.shape[1:]
        if self.vectors.shape != shape:  # nothing was known before the first part
            self.vectors = np.empty(shape, np.float32)
        self.vectors[rows], self.seconds[rows], self.silent[rows] = heard.vectors, heard.seconds, heard.silent


def _nothing() -> None:
    """What the other ranks do while rank 0 keeps what was made."""


def _warn(names: Sequence[str], every: _Every, say: Say) -> None:
    """Tell of audio that no speaker can be known by."""
    _tell(names, every.silent, "are nothing but silence: no speaker can be known by them", say)
    short = every.seconds * SAMPLE_RATE < SHORTEST - 0.5
    _tell(
        names, short, f"are shorter than {SHORTEST / SAMPLE_RATE:g} s: they were repeated to be so long", say
    )


def _known(
    kept: Kept | None, names: Sequence[str], stamps: list[str], device: torch.device, network: nn.Module,
    protocol: Protocol,
) -> Known:  # fmt: skip
    """What rank 0 finds of them, on every rank."""
    nothing = Known(
        np.empty(0, np.int64),
        Heard(
            np.empty((0, protocol.vectors, int(getattr(network, "embedding_size", 0))), np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.bool_),
        ),
    )
    if kept is None:
        return nothing
    rank, world = rank_and_world()
    found = together(lambda: kept.load(names, stamps) if rank == 0 else None)
    if world == 1:
        return found or nothing
    # Row numbers as float64 would be exact, and float32 are below 16 million: a mask has no such bound.
    has = np.zeros(len(names), np.float32)
    if found is not None:
        has[found.rows] = 1
    has = from_first(has if rank == 0 else None, device)
    if not has.any():
        return nothing
    order = None if found is None else np.argsort(found.rows)
    packed = None if found is None or order is None else _packed(found.heard)[order]
    return Known(np.flatnonzero(has), _unpacked(from_first(packed, device), protocol.vectors))


def _gathered(own: Heard, rows: Sequence[Int64Array], total: int, device: torch.device) -> Heard:
    vectors = own.vectors.shape[1]
    return _unpacked(gather_rows(_packed(own), rows, total, device), vectors)


def _packed(heard: Heard) -> Float32Array:
    """Float32 (n, vectors * D + 2): what ranks send each other in one piece."""
    count, vectors, size = heard.vectors.shape
    flat = heard.vectors.reshape(count, vectors * size)
    return np.concatenate([flat, heard.seconds[:, None], heard.silent[:, None].astype(np.float32)], axis=1)


def _unpacked(packed: Float32Array, vectors: int) -> Heard:
    flat = packed[:, :-2]
    shaped = np.ascontiguousarray(flat).reshape(len(packed), vectors, flat.shape[1] // vectors)
    return Heard(shaped, packed[:, -2].copy(), packed[:, -1] > 0)


def _tell(names: Sequence[str], which: np.ndarray, what: str, say: Say) -> None:
    some = np.flatnonzero(which)
    if len(some):
        few = ", ".join(names[row][:200] for row in some[:_SHOWN]) + (", …" if len(some) > _SHOWN else "")
        say(f"{len(some):,} of {counted(len(names), 'utterance', ',')} {what}: {few}")


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards every module has its own mode again, frozen ones too."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
