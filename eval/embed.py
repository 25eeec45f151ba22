"""Speaker embeddings of utterances: whole, or as evenly spaced crops."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from eval.utterances import Utterances
from models.parts.frontend import crop_length
from models.registry import ModelError, check_crop, least_samples
from shard_tools import audio
from shard_tools.ahead import ahead
from shard_tools.arrays import Float32Array, Int16Array
from shard_tools.errors import UserError

SHORTEST = 1600  # frames; a network is not asked to look at less than 0.1 s


def cut(samples: Int16Array, crops: int, frames: int, shortest: int = SHORTEST) -> Int16Array:
    """`crops` crops of `frames` frames, int16 (crops, frames), from the start to the end of an utterance.

    As the VoxCeleb trainer's loader in evaluation: starts are spaced evenly and
    truncated; an utterance that is not longer than the crop is repeated until it is
    one frame longer. With `crops` 0 the utterance is left whole, (1, its frames),
    but repeated until it has `shortest` of them.
    """
    if crops == 0:
        return audio.wrap(samples, max(len(samples), shortest))[None]
    if len(samples) <= frames:
        samples = audio.wrap(samples, frames + 1)
    starts = np.linspace(0, len(samples) - frames, num=crops).astype(np.int64)
    return np.stack([samples[start : start + frames] for start in starts])


def embed(
    network: nn.Module,
    source: Utterances,
    names: Sequence[str],
    *,
    crops: int,
    crop_feature_frames: int,
    device: torch.device,
    batch_utterances: int,
    threads: int,
    rank: int = 0,
    world: int = 1,
    progress: bool = False,
) -> Float32Array:
    """Embeddings of `names[rank::world]`, in order: float32 (n, max(crops, 1), D).

    `network`, in evaluation mode and on `device`, turns float32 (B, frames) into
    (B, D). Only pieces of one length share a batch, so nothing is padded and an
    embedding does not depend on its neighbours. `threads` threads read ahead.
    Raises UserError for audio that cannot be read and for an embedding that is not
    finite, naming the utterance.
    """
    part = list(names[rank::world])
    frames = crop_length(crop_feature_frames)
    pieces = max(crops, 1)
    shortest = max(SHORTEST, least_samples(network))
    if crops > 0:
        try:
            check_crop(network, "the crops' length in feature frames", crop_feature_frames)
        except ModelError as error:
            raise UserError(str(error)) from None
    out: Float32Array | None = None

    def load(name: str) -> Int16Array:
        return cut(source.load(name), crops, frames, shortest)

    bar = tqdm(
        total=len(part),
        desc="embedding",
        unit=" utterances",
        disable=not progress,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a job's log gets a line now and then
    )
    read = ahead(part, load, 2 * batch_utterances, threads=threads)
    with torch.inference_mode(), bar:
        for first, batch in _batches(read, batch_utterances):
            lengths = [cuts.shape[1] for cuts in batch]
            for length in sorted(set(lengths)):
                rows = [row for row, found in enumerate(lengths) if found == length]
                block = audio.to_float(np.concatenate([batch[row] for row in rows]))
                embeddings = network(torch.from_numpy(block).to(device)).float().cpu().numpy()
                if out is None:
                    out = np.empty((len(part), pieces, embeddings.shape[-1]), np.float32)
                out[[first + row for row in rows]] = embeddings.reshape(len(rows), pieces, -1)
            bar.update(len(batch))
    if out is None:  # more ranks than utterances
        return np.empty((0, pieces, int(network.embedding_size)), np.float32)  # type: ignore[arg-type]
    broken = np.flatnonzero(~np.isfinite(out).all(axis=(1, 2)))
    if len(broken):
        raise UserError(
            f"the network's embeddings of {len(broken)} utterances hold NaN or infinity, "
            f"first of {part[broken[0]]}; its weights have probably diverged in training"
        )
    return out


def _batches(items: Iterator[Int16Array], size: int) -> Iterator[tuple[int, list[Int16Array]]]:
    """Lists of up to `size` items, each with the number of its first item."""
    batch: list[Int16Array] = []
    first = 0
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield first, batch
            first, batch = first + size, []
    if batch:
        yield first, batch
