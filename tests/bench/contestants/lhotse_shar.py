"""lhotse Shar: tars of audio beside manifests of cuts, as its Shar tutorial has it.

CutSet.to_shar with WAV recordings, so many to a shard as ours have; CutSet.from_shar with shuffled
shards, each cut truncated to a random crop, a DynamicCutSampler with `max_cuts` for the batch
and a shuffle buffer of 1,000 as webdataset's (the default of 20,000 cuts, which Shar holds with
their audio, would be 5 GB), wrapped with its dataset in IterableDatasetWrapper and a DataLoader
with batch_size None. From S3 lhotse streams the tars through smart_open.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from harness.corpus import RATE, Corpus
from harness.task import Task
from lhotse import CutSet, Recording
from lhotse.dataset import DynamicCutSampler, IterableDatasetWrapper
from lhotse.dataset.collation import collate_audio
from torch.utils.data import DataLoader, Dataset

NAME = "lhotse_shar"


def prepare(corpus: Corpus) -> None:
    # Shards are written in an order that is random already.
    files = np.random.default_rng(0).permutation(np.array(corpus.files(), dtype=object))
    recordings = [Recording.from_file(path, recording_id="-".join(path.parts[-3:])) for path in files]
    cuts = CutSet.from_cuts(recording.to_cut() for recording in recordings)
    target = corpus.converted(NAME)
    target.mkdir(parents=True)
    cuts.to_shar(str(target), fields={"recording": "wav"}, shard_size=corpus.size.utterances_per_shard)


class Crops(Dataset[torch.Tensor]):
    def __getitem__(self, cuts: CutSet) -> torch.Tensor:
        audio, _ = collate_audio(cuts)
        return audio


def batches(task: Task) -> Iterator[torch.Tensor]:
    local = task.corpus.converted(NAME)
    place = task.place(local)
    fields = {
        field: [f"{place}/{path.name}" for path in sorted(local.glob(pattern))]
        for field, pattern in (("cuts", "cuts.*.jsonl.gz"), ("recording", "recording.*.tar"))
    }
    cuts = CutSet.from_shar(fields=fields, shuffle_shards=True, stateful_shuffle=True, seed=0)
    cuts = cuts.truncate(max_duration=task.frames / RATE, offset_type="random", preserve_id=True)
    sampler = DynamicCutSampler(
        cuts, max_cuts=task.batch, shuffle=True, shuffle_buffer_size=1000, drop_last=True, seed=0
    )
    dataset = IterableDatasetWrapper(Crops(), sampler)
    for epoch in itertools.count():
        dataset.set_epoch(epoch)
        yield from DataLoader(dataset, batch_size=None, num_workers=0)
