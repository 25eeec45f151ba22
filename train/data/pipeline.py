"""plan → reader → augmenter → tensors, as a webdataset pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import webdataset as wds

from shard_tools.ahead import ahead
from shard_tools.errors import UserError
from train.augment.augmenter import Augmenter, Prepared
from train.augment.device import Prepared as DevicePrepared
from train.augment.device import Preparer
from train.data.handover import room_needed
from train.data.loading import CropLoader, Loaded
from train.plan import Anchor, Batch, BatchPlan

_Read = tuple[Loaded, Prepared | DevicePrepared | None]

_TENSORS = 16  # in a batch, at most


@dataclass
class Stream:
    """One rank's share of a run's batches; nothing in it is open yet.

    augmenter: augments here (Augmenter), or prepares for train.augment.device (Preparer);
    ahead: batches that are read at once in threads beyond the one that is worked on; 0 for
    storage that answers at once; remote: whether any of its data lies elsewhere than on this machine.
    """

    plan: BatchPlan
    loader: CropLoader
    augmenter: Augmenter | Preparer | None
    rank: int
    world: int
    ahead: int = 0
    remote: bool = False

    def made(self, steps: Iterable[int]) -> Generator[dict[str, Any], None, None]:
        """This rank's batches of these steps, in order; an error comes at the step that it belongs to.

        See `finish` for what they hold. Raises UserError, whose causes are those of storage, if any.
        """
        yield from wds.DataPipeline(lambda: iter(steps), self.planned, self.read, wds.map(self.finish))

    def plan_for_all(self, step: int) -> None:
        """Plan the epoch or window that `step` is in here: processes that are forked share it.

        Else each would plan it, and have it in its own memory. What fails shows where it is needed.
        """
        with contextlib.suppress(UserError):
            self.plan.batch(step)

    def planned(self, steps: Iterable[int]) -> Iterator[Batch]:
        """This rank's rows of each step; a cache is told which shards they and the next window need."""
        window: Anchor | None = None
        for step in steps:
            batch = self.plan.batch(step).part(self.rank, self.world)
            window = self._follow(step, window)
            yield batch

    def _follow(self, step: int, before: Anchor | None) -> Anchor | None:
        """Tell the source which shards the window that `step` is in has, when it is another than before."""
        window, source = self.plan.anchor(step), self.loader.reader.source
        if window is not None and window != before:
            source.keep(self.plan.shards(window, self.rank, self.world).tolist())
            following = self.plan.following(window)
            source.prefetch(self.plan.shards(following, self.rank, self.world).tolist())
        return window

    def read(self, batches: Iterable[Batch]) -> Iterator[_Read]:
        """The batches' crops and what their augmentation adds to them: all that waits for storage."""

        def load(batch: Batch) -> _Read:
            loaded = self.loader.load(batch)
            augmenter = self.augmenter
            return loaded, None if augmenter is None else augmenter.prepare(batch.epoch, batch.n, batch.crop)

        return ahead(batches, load, self.ahead, first_alone=True)

    def finish(self, read: _Read) -> dict[str, Any]:
        """Augment and convert this rank's rows of a batch.

        Returns step and substituted (ints), audio (rows, frames) float32, label, n and utterance
        (rows,) int64 tensors, and `prepared`, what a Preparer prepared.
        """
        loaded, prepared = read
        if isinstance(self.augmenter, Augmenter):
            self.augmenter.apply(loaded.audio, cast(Prepared, prepared))
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

    @property
    def most_bytes(self) -> int:
        """Bytes of the tensors of one batch, at most, as train.data.handover lays them out."""
        rows = self.plan.spec.size // self.world
        prepared = self.augmenter.most_bytes(rows) if isinstance(self.augmenter, Preparer) else 0
        return room_needed(_TENSORS, rows * (4 * self.plan.spec.crop + 3 * 8) + prepared)
