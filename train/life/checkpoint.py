"""Checkpoints, whole or absent: the newest few and the best are kept; a run resumes the newest whole one.

A checkpoint holds all of a run's state. The position in the data is `step`; the
learning rate and every random number are functions of it, so neither a sampler, nor
a scheduler, nor a generator has state to save.

step-XXXXXXXX.pt    the state after so many steps, written before its validation
step-XXXXXXXX.json  what its validation found, written when all else has been noted
best.json           which of them has the lowest EER
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from eval.checkpoint.file import (
    BEST,
    FORMAT,
    VERSION,
    Best,
    CheckpointError,
    Rates,
    checkpoint_name,
    rated_among,
    rates_name,
    read_best,
    read_checkpoint,
    read_rates,
    steps_among,
)
from shard_tools import storage

logger = logging.getLogger("train")

Say = Callable[[str], None]


def _any(_: dict[str, Any], __: str) -> None:
    """Takes every checkpoint that can be read."""


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

    def rates(self, step: int) -> Rates | None:
        """What the validation of the checkpoint of `step` found; None unless it was brought to its end."""
        try:
            return read_rates(self.url, step)
        except CheckpointError as error:
            logger.warning("%s", error)
            return None

    def save(self, state: dict[str, Any]) -> None:
        """Write the state of `state["step"]`, and drop the old ones that are kept no longer."""
        step: int = state["step"]
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "version": VERSION, **state}, buffer)
        storage.publish_bytes(self.url_of(step), buffer.getvalue())
        self._drop_old(step)

    def note(self, rates: Rates) -> None:
        """Note what the validation of a checkpoint found, and that it is the best if it is.

        The file of its rates comes last: with it all is noted, and without it the validation is made again.
        """
        best = self.best()
        if best is None or rates.eer < best.eer:
            self._note_best(rates)
        self._put(rates_name(rates.step), asdict(rates))
        self._drop_old(rates.step)

    def forget_after(self, step: int) -> None:
        """Before a run goes on from `step`: what was noted of later steps is noted no longer.

        Their checkpoints are gone or damaged, or the run would go on from them.
        """
        for rated in rated_among(storage.list_names(self.url)):
            if rated > step:
                storage.remove(storage.join(self.url, rates_name(rated)))
        best = self.best()
        if best is None or best.step <= step:
            return
        found = [self.rates(kept) for kept in self.steps() if kept <= step]
        left = [rates for rates in found if rates is not None]
        if left:
            self._note_best(min(left, key=lambda rates: (rates.eer, rates.step)))
        else:
            storage.remove(storage.join(self.url, BEST))

    def newest_whole(
        self, warn: Say, accept: Callable[[dict[str, Any], str], None] = _any
    ) -> dict[str, Any] | None:
        """The newest checkpoint that can be read and used, or None when there is none at all.

        accept: given a checkpoint and its URL, raises CheckpointError when it cannot be used.
        Damaged ones are passed over with a warning. Raises CheckpointError when all are damaged:
        starting afresh would then throw the run away.
        """
        steps = self.steps()
        for step in reversed(steps):
            url = self.url_of(step)
            try:
                checkpoint = read_checkpoint(url)
                if checkpoint["step"] != step:
                    raise CheckpointError(
                        f"{url}: field step: it is {checkpoint['step']}, not as the name says"
                    )
                accept(checkpoint, url)
                return checkpoint
            except CheckpointError as error:
                warn(f"{error}; trying the one before")
        if steps:
            raise CheckpointError(
                f"{self.url}: none of its {len(steps)} checkpoints can be read: "
                "delete them, or give another run.folder, to start afresh"
            )
        return None

    def remove_drafts(self) -> list[str]:
        """Remove what writers that were killed have left of a checkpoint or a note; returns its names.

        A run does without, and needs no permission for it: a failure is not worth a word.
        """
        try:
            return storage.remove_drafts(
                self.url, lambda name: name == BEST or bool(steps_among([name]) or rated_among([name]))
            )
        except storage.StorageError as error:
            logger.debug("drafts of checkpoints were not removed: %s", error)
            return []

    def _note_best(self, rates: Rates) -> None:
        note = asdict(Best(rates.step, rates.eer))
        self._put(BEST, note | {"checkpoint": checkpoint_name(rates.step)})

    def _put(self, name: str, note: dict[str, Any]) -> None:
        storage.publish_bytes(storage.join(self.url, name), json.dumps(note).encode() + b"\n")

    def _drop_old(self, newest: int) -> None:
        """Keep the newest few up to `newest`, the best, and the damaged ones of later steps."""
        names = storage.list_names(self.url)
        steps, best = steps_among(names), self.best()
        kept = {step for step in steps if step > newest}
        kept |= set([step for step in steps if step <= newest][-self._keep :])
        kept |= {best.step} if best else set()
        for step in steps:
            if step not in kept:
                storage.remove(self.url_of(step))
        for step in rated_among(names):
            if step not in kept:
                storage.remove(storage.join(self.url, rates_name(step)))
