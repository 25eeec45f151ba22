"""A loss that is not finite: at which step, on which rank, and of which utterances.

The first one is remembered where the losses are, so that no step waits for a GPU. Whether there was one is
learnt a step or a few later: by then all ranks' weights may be spoilt, and their losses with them, so that
all ranks together look whose was the first.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from shard_tools import storage
from shard_tools.arrays import Int64Array
from shard_tools.dataset.table import UtteranceTable
from shard_tools.errors import UserError
from shard_tools.text import counted
from train.augment.speed import Speeds
from train.life.distributed import from_all

logger = logging.getLogger("train")

RECORD = "not-finite.json"
_SHOWN = 12  # utterances named in the message; the record has them all
_UNDER_WAY = 8  # answers of a GPU that are waited for at once, at most


@dataclass(frozen=True)
class NotFinite:
    """step: of the batch, counted from 1 as in the log; keys: of the rank's utterances in it."""

    rank: int
    step: int
    loss: str  # nan, inf or -inf
    keys: list[str]


class FiniteWatch:
    """Remembers the first step of this process whose loss was not finite, and its batch.

    device: of the losses; rows: of this process in a batch.
    """

    def __init__(self, device: torch.device, rows: int) -> None:
        self._step = torch.full((), -1, dtype=torch.int64, device=device)  # -1: none so far
        self._loss = torch.zeros((), device=device)
        self._utterance = torch.zeros(rows, dtype=torch.int64, device=device)
        self._answers: deque[tuple[torch.cuda.Event, torch.Tensor]] = deque()  # of a GPU, on their way
        self._seen = False

    def watch(self, step: int, loss: torch.Tensor, utterance: torch.Tensor) -> None:
        """loss: scalar, of this rank's rows; utterance: int64 (rows,), numbers of the plan's, on the host."""
        loss = loss.detach().to(self._loss)
        first = ~loss.isfinite() & (self._step < 0)
        now = utterance.to(self._utterance.device, non_blocking=True)
        self._utterance = torch.where(first, now, self._utterance)
        self._loss = torch.where(first, loss, self._loss)
        self._step = torch.where(first, step, self._step)
        if self._step.is_cuda and len(self._answers) < _UNDER_WAY:
            answer = torch.empty((), dtype=torch.int64, pin_memory=True)
            answer.copy_(self._step, non_blocking=True)
            self._answers.append((torch.cuda.current_stream().record_event(), answer))

    def seen(self) -> bool:
        """Whether a loss is known not to have been finite. Waits for nothing: a GPU may not have said yet."""
        if not self._step.is_cuda:
            return bool(self._step >= 0)
        while self._answers and self._answers[0][0].query():
            self._seen |= bool(self._answers.popleft()[1] >= 0)
        return self._seen

    def found(self) -> tuple[int, float, Int64Array] | None:
        """Step, loss and utterances (rows,) of the first; None where all were finite. Waits for a GPU."""
        step = int(self._step)
        return None if step < 0 else (step, float(self._loss), self._utterance.cpu().numpy())


def first_of_all(watch: FiniteWatch, rank: int, keys: Callable[[Int64Array], list[str]]) -> list[NotFinite]:
    """The ranks whose loss was the first not to be finite, by all ranks together; [] where none was.

    rank: this process's; keys: of utterances (rows,).
    """
    found = watch.found()
    own = found and NotFinite(rank, found[0] + 1, f"{found[1]:g}", keys(found[2]))
    known = [one for one in from_all(own) if one is not None]
    return [one for one in known if one.step == min(each.step for each in known)]


def keys_of(table: UtteranceTable, speeds: Speeds, utterances: Int64Array) -> list[str]:
    """The catalogue's keys of a plan's utterances (rows,), with their speed where it is not 1."""

    def key(speed: int, u: int) -> str:
        try:
            name = table.key(u)
        except UserError:  # the index of its shard cannot be read again: its number is better than nothing
            name = f"utterance {u}"
        return name if speed == 0 else f"{name} at speed {float(speeds.factors[speed]):g}"

    return [key(int(speed), int(u)) for speed, u in zip(*speeds.split(utterances), strict=True)]


def describe(firsts: Sequence[NotFinite], folder: str | None) -> str:
    """What was found, for a message of one line; folder: of the run, where the record is (None: nowhere)."""
    first, others = firsts[0], [str(one.rank) for one in firsts[1:]]
    ranks = f"rank {first.rank}" + (f" (and on {', '.join(others)})" if others else "")
    count = counted(len(first.keys), "utterance")
    shown = ", ".join(first.keys[:_SHOWN]) + (", …" if len(first.keys) > _SHOWN else "")
    more = f"; {os.path.join(folder, RECORD)} names all" if folder is not None else ""
    return f"the loss is {first.loss} at step {first.step} on {ranks}, whose {count} were {shown}{more}"


def record(firsts: Sequence[NotFinite], folder: str) -> None:
    """Put all that is known into the run's folder, which may not take it."""
    text = json.dumps([asdict(one) for one in firsts], indent=1, ensure_ascii=False)
    try:
        storage.publish_bytes(os.path.join(folder, RECORD), text.encode() + b"\n")
    except UserError as error:
        logger.warning("%s", error)
