"""plan → reader → augmenter → tensors, as a webdataset pipeline in a WebLoader."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import webdataset as wds

from shard_tools.cache_source import CachedSource
from shard_tools.errors import UserError
from shard_tools.storage_errors import is_transient
from train.ahead import ahead
from train.augment.augmenter import Augmenter, Prepared
from train.augment.device import Prepared as DevicePrepared
from train.augment.device import Preparer
from train.distributed import end_with_parent
from train.failure import RankError
from train.loading import CropLoader, Loaded
from train.plan import Anchor, Batch, BatchPlan, WindowedPlan
from train.signals import ignore

_Read = tuple[Loaded, Prepared | DevicePrepared | None]


@dataclass
class Stream:
    """One rank's share of a run's batches; nothing in it is open yet.

    augmenter: augments here (Augmenter), or prepares for train.augment.device (Preparer);
    ahead: batches that are read at once in threads beyond the one that is worked on; 0 for
    storage that answers at once.
    """

    plan: BatchPlan
    loader: CropLoader
    augmenter: Augmenter | Preparer | None
    rank: int
    world: int
    ahead: int = 0

    def steps(self, first: int, last: int) -> Iterator[int]:
        """The steps in [first, last) of this DataLoader worker.

        DataLoader takes a batch from each worker in turn, so that worker w of W making every
        W-th step gives back the steps in their order.
        """
        info = torch.utils.data.get_worker_info()
        own, workers = (0, 1) if info is None else (info.id, info.num_workers)
        yield from range(first + own, last, workers)

    def planned(self, steps: Iterable[int]) -> Iterator[Batch | UserError]:
        """This rank's rows of each step; a cache is told which shards they and the next window need."""
        window: Anchor | None = None
        for step in steps:
            batch = self.plan.batch(step).part(self.rank, self.world)
            try:
                window = self._follow(step, window)
            except UserError as error:
                yield error
                return
            yield batch

    def _follow(self, step: int, before: Anchor | None) -> Anchor | None:
        """Hold the shards of the window that `step` is in, when it is another one than before."""
        source = self.loader.reader.source
        if not (isinstance(self.plan, WindowedPlan) and isinstance(source, CachedSource)):
            return None
        window = self.plan.anchor(step)
        if window != before:
            source.keep(self.plan.shards(window, self.rank, self.world).tolist())
            following = self.plan.following(window)
            source.prefetch(self.plan.shards(following, self.rank, self.world).tolist())
        return window

    def read(self, batches: Iterable[Batch | UserError]) -> Iterator[_Read | UserError]:
        """The batches' crops and what their augmentation adds to them: all that waits for storage."""

        def load(batch: Batch | UserError) -> _Read | UserError:
            if isinstance(batch, UserError):
                return batch
            try:
                loaded = self.loader.load(batch)
                augmenter = self.augmenter
                return loaded, None if augmenter is None else augmenter.prepare(batch.epoch, batch.n)
            except UserError as error:
                return error

        return ahead(batches, load, self.ahead)

    def finish(self, read: _Read | UserError) -> dict[str, Any]:
        """Augment and convert this rank's rows of a batch.

        Returns step and substituted (ints), audio (rows, frames) float32, label, n and utterance
        (rows,) int64 tensors, and what a Preparer prepared; or {"error": text, "passing": bool} for an
        error, which DataLoader would hand on wrapped in its own traceback.
        """
        if isinstance(read, UserError):
            return _told(read)
        loaded, prepared = read
        try:
            if isinstance(self.augmenter, Augmenter):
                self.augmenter.apply(loaded.audio, cast(Prepared, prepared))
        except UserError as error:
            return _told(error)
        batch = loaded.batch
        prepared_for_device = {"prepared": prepared} if isinstance(self.augmenter, Preparer) else {}
        return {
            **prepared_for_device,
            "step": batch.step,
            "audio": torch.from_numpy(loaded.audio),
            "label": torch.from_numpy(batch.label),
            "n": torch.from_numpy(batch.n),
            "utterance": torch.from_numpy(batch.utterance),
            "substituted": loaded.substituted,
        }


def make_loader(
    stream: Stream, first: int, last: int, *, workers: int, prefetch: int, pin_memory: bool = False
) -> wds.WebLoader:
    """The batches of steps [first, last), in order, made by `workers` processes (0: in this one)."""
    if not workers:
        _keep_freed_memory()
    pipeline = wds.DataPipeline(
        lambda: stream.steps(first, last), stream.planned, stream.read, wds.map(stream.finish)
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
    """Iterate over a loader, raising what a worker met as a RankError."""
    for batch in loader:
        if "error" in batch:
            raise RankError(batch["error"], passing=batch["passing"])
        yield batch


def _told(error: UserError) -> dict[str, Any]:
    return {"error": str(error), "passing": is_transient(error)}


def _keep_freed_memory() -> None:
    """Let the C library keep what a batch frees for the next one, where it is glibc.

    It gives blocks of a batch's size back to the kernel at once by default, and the kernel clears
    every page that it gives again: a tenth of the time of an augmented batch.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def _start_worker(_: int) -> None:
    end_with_parent()
    _keep_freed_memory()
    ignore()
