"""Checkpoints, whole or absent: the newest few and the best are kept; a run resumes the newest whole one.

A checkpoint holds all of a run's state. The position in the data is `step`; the
learning rate and every random number are functions of it, so neither a sampler, nor
a scheduler, nor a generator has state to save.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import torch

from eval.checkpoint_file import (
    BEST,
    FORMAT,
    VERSION,
    Best,
    CheckpointError,
    checkpoint_name,
    read_best,
    read_checkpoint,
    steps_among,
)
from shard_tools import storage


class CheckpointFolder:
    """The checkpoints of one run, at any fsspec URL."""

    def __init__(self, url: str, keep: int) -> None:
        self.url = url
        self._keep = keep

    def url_of(self, step: int) -> str:
        return storage.join(self.url, checkpoint_name(step))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return steps_among(storage.list_names(self.url))

    def best(self) -> Best | None:
        return read_best(self.url)

    def save(self, state: dict[str, Any], eer: float | None = None) -> None:
        """Write the state of `state["step"]`, drop old ones; `eer` (percent) is noted if it is the best."""
        step: int = state["step"]
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "version": VERSION, **state}, buffer)
        storage.publish_bytes(self.url_of(step), buffer.getvalue())
        best = self.best()
        if eer is not None and (best is None or eer < best.eer):
            best = Best(step, eer)
            note = {"step": step, "eer": eer, "checkpoint": checkpoint_name(step)}
            storage.publish_bytes(storage.join(self.url, BEST), json.dumps(note).encode() + b"\n")
        for old in self.steps()[: -self._keep]:
            if best is None or old != best.step:
                storage.remove(self.url_of(old))

    def newest_whole(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None when there is none at all.

        Damaged ones are passed over with a warning. Raises CheckpointError when all are damaged:
        starting afresh would then throw the run away.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return read_checkpoint(self.url_of(step))
            except CheckpointError as error:
                warn(f"{error}; trying the one before")
        if steps:
            raise CheckpointError(
                f"{self.url}: none of its {len(steps)} checkpoints can be read: "
                "delete them, or give another run.folder, to start afresh"
            )
        return None
