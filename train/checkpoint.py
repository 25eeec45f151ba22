"""Checkpoints, whole or absent: the newest few and the best are kept; a run resumes the newest whole one.

A checkpoint holds all of a run's state. The position in the data is `step`; the
learning rate and every random number are functions of it, so neither a sampler, nor
a scheduler, nor a generator has state to save.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from eval.checkpoint_file import FORMAT, VERSION, CheckpointError, read_checkpoint
from shard_tools import storage

_NAME = re.compile(r"step-(\d{8,})\.pt")
BEST = "best.json"


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}.pt"


@dataclass(frozen=True)
class Best:
    """The checkpoint with the lowest validation EER so far."""

    step: int
    eer: float  # percent


class CheckpointFolder:
    """The checkpoints of one run, at any fsspec URL."""

    def __init__(self, url: str, keep: int) -> None:
        self.url = url
        self._keep = keep

    def url_of(self, step: int) -> str:
        return storage.join(self.url, checkpoint_name(step))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        found = (_NAME.fullmatch(name) for name in storage.list_names(self.url))
        return sorted(int(match[1]) for match in found if match)

    def best(self) -> Best | None:
        url = storage.join(self.url, BEST)
        if not storage.exists(url):
            return None
        try:
            record = json.loads(storage.read_bytes(url))
            return Best(int(record["step"]), float(record["eer"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{url}: not the note of a best checkpoint ({error}): delete it to start afresh"
            ) from None

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
