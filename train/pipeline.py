"""plan → reader → augmenter → tensors, as a webdataset pipeline in a WebLoader."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import webdataset as wds

from shard_tools.audio import to_float
from shard_tools.errors import UserError
from train.augment import Augmenter
from train.augment.augmenter import CropReader
from train.plan import Batch, Plan


@dataclass(frozen=True)
class Stream:
    """One rank's share of a run's batches: picklable, and nothing in it is open yet."""

    plan: Plan
    reader: CropReader
    augmenter: Augmenter | None
    rank: int
    world: int

    def steps(self, first: int, last: int) -> Iterator[int]:
        """The steps in [first, last) of this DataLoader worker.

        DataLoader takes a batch from each worker in turn, so that worker w of W making every
        W-th step gives back the steps in their order.
        """
        info = torch.utils.data.get_worker_info()
        own, workers = (0, 1) if info is None else (info.id, info.num_workers)
        yield from range(first + own, last, workers)

    def planned(self, step: int) -> Batch:
        return self.plan.batch(step).part(self.rank, self.world)

    def load(self, batch: Batch) -> dict[str, Any]:
        """Read, augment and convert this rank's rows of a batch.

        Returns step (int), audio (rows, frames) float32, label, n and utterance (rows,) int64
        tensors; or {"error": text} instead of raising a UserError, which DataLoader would
        hand on wrapped in its own traceback.
        """
        try:
            audio = to_float(self.reader.crops(batch.utterance, batch.start, self.plan.spec.crop))
            if self.augmenter is not None:
                self.augmenter(audio, batch.epoch, batch.n)
        except UserError as error:
            return {"error": str(error)}
        return {
            "step": batch.step,
            "audio": torch.from_numpy(audio),
            "label": torch.from_numpy(batch.label),
            "n": torch.from_numpy(batch.n),
            "utterance": torch.from_numpy(batch.utterance),
        }


def make_loader(
    stream: Stream, first: int, last: int, *, workers: int, prefetch: int, pin_memory: bool = False
) -> wds.WebLoader:
    """The batches of steps [first, last), in order, made by `workers` processes (0: in this one)."""
    pipeline = wds.DataPipeline(
        lambda: stream.steps(first, last), wds.map(stream.planned), wds.map(stream.load)
    )
    return wds.WebLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        # The plan and the catalogue, megabytes for a million utterances, are shared by forking.
        multiprocessing_context="fork" if workers else None,
    )


def batches(loader: wds.WebLoader) -> Iterator[dict[str, Any]]:
    """Iterate over a loader, raising what a worker met as the UserError it was."""
    for batch in loader:
        if "error" in batch:
            raise UserError(batch["error"])
        yield batch


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group; the training process ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
