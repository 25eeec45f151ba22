"""litData: an optimised dataset, as its documentation has it.

`optimize` writes the utterances as int16 arrays in chunks of the recommended 64 MB; a
StreamingDataset with shuffle on crops them in __getitem__; StreamingDataLoader batches. On the
local disk the chunks are read where they lie; from S3 they are downloaded whole into a cache
folder, which is empty at the start, by litData's boto3 client: its obstore client, which it prefers, has
no setting for an endpoint without TLS.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import litdata
import numpy as np
import soundfile
import torch
from harness.corpus import Corpus
from harness.task import Task
from litdata.streaming import downloader

NAME = "litdata_chunks"


def read(path: str) -> dict[str, Any]:
    audio, _ = soundfile.read(path, dtype="int16")
    return {"audio": audio, "label": int(path.split(os.sep)[-3][2:])}


def prepare(corpus: Corpus) -> None:
    # A dataset is written in an order that is random already.
    files = np.random.default_rng(0).permutation([str(path) for path in corpus.files()]).tolist()
    litdata.optimize(
        fn=read, inputs=files, output_dir=str(corpus.converted(NAME)), chunk_bytes="64MB", num_workers=1
    )


class Crops(litdata.StreamingDataset):  # type: ignore[misc]
    def __init__(self, frames: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.frames = frames

    def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(index)
        audio = sample["audio"]
        start = random.randint(0, len(audio) - self.frames)
        crop = audio[start : start + self.frames].astype(np.float32)
        crop *= np.float32(1 / 32768)
        return torch.from_numpy(crop), sample["label"]


def batches(task: Task) -> Iterator[torch.Tensor]:
    place = task.place(task.corpus.converted(NAME))
    options: dict[str, Any] = {"shuffle": True, "drop_last": True, "seed": 0}
    if task.remote is not None:
        downloader._OBSTORE_AVAILABLE = False
        options["cache_dir"] = str(task.scratch)
        options["storage_options"] = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    dataset = Crops(task.frames, place, **options)
    loader = litdata.StreamingDataLoader(dataset, batch_size=task.batch, num_workers=0, drop_last=True)
    while True:
        for audio, _ in loader:
            yield audio
