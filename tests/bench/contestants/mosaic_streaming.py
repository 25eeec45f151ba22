"""MosaicML Streaming: MDS shards, as its documentation has it.

Utterances written by MDSWriter as int16 arrays (no decoding is left to do) with the default
shard size of 64 MiB, uncompressed; read by StreamingDataset with shuffle on (the default
py1e) and the batch size told to it, through its StreamingDataLoader. On the local disk the shards
are read where they lie (`local` alone); from S3 they are downloaded whole into a local folder,
which is empty at the start. A crop is a slice of the array in __getitem__.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import torch
from harness.corpus import Corpus
from harness.task import Task
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.util import clean_stale_shared_memory

NAME = "mosaic_streaming"


def prepare(corpus: Corpus) -> None:
    columns = {"audio": "ndarray:int16", "label": "int"}
    with MDSWriter(out=str(corpus.converted(NAME)), columns=columns) as writer:
        # A dataset is written in an order that is random already.
        files = np.random.default_rng(0).permutation(np.array(corpus.files(), dtype=object))
        for path in files:
            audio, _ = soundfile.read(path, dtype="int16")
            writer.write({"audio": audio, "label": int(path.parts[-3][2:])})


class Crops(StreamingDataset):  # type: ignore[misc]
    def __init__(self, frames: int, **options: Any) -> None:
        super().__init__(**options)
        self.frames = frames

    def __getitem__(self, at: Any) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(at)
        audio = sample["audio"]
        start = random.randint(0, len(audio) - self.frames)
        crop = audio[start : start + self.frames].astype(np.float32)
        crop *= np.float32(1 / 32768)
        return torch.from_numpy(crop), sample["label"]


def batches(task: Task) -> Iterator[torch.Tensor]:
    clean_stale_shared_memory()
    place = task.place(task.corpus.converted(NAME))
    if task.remote is None:
        where = {"local": place}
    else:
        os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
        where = {"remote": place, "local": str(task.scratch)}
    dataset = Crops(task.frames, shuffle=True, shuffle_seed=0, batch_size=task.batch, **where)
    loader = StreamingDataLoader(dataset, batch_size=task.batch, num_workers=0, drop_last=True)
    while True:
        for audio, _ in loader:
            yield audio
