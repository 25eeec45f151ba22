"""The gradients of a rank's rows of a global batch, at once or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.norm import RunningStatistics
from train.objectives import Objective, Outcome

Batch = Mapping[str, torch.Tensor]
Scale = Callable[[torch.Tensor], torch.Tensor]


class Backward:
    """Leaves in each parameter's `grad` the mean over ranks of the gradient of the loss of their rows.

    parallel: the objective, or it in a DistributedDataParallel. pieces: into how many consecutive parts
    the rank's rows are cut, one of which is on the device at a time, with its activations. statistics: of
    the layers that sum theirs, told when a pass will be made again.
    """

    def __init__(
        self, objective: Objective, parallel: nn.Module, pieces: int, statistics: RunningStatistics
    ) -> None:
        self._objective = objective
        self._parallel = parallel
        self._pieces = pieces
        self._statistics = statistics

    def __call__(self, batch: Batch, scale: Scale, reseed: Callable[[int], None]) -> Outcome:
        """batch: the rows that the objective's `inputs` name. scale: of the loss, before its gradient.

        reseed: called with the number of a piece before each pass over it, so that dropout is the same when
        a piece is passed a second time. Returns the outcome of all rows; its loss has no gradient.
        """
        if self._pieces == 1:
            reseed(0)
            outcome: Outcome = self._parallel(batch)
            scale(outcome.loss).backward()
            return outcome
        pieces = self._cut(batch)
        if self._objective.compares_rows:
            return self._comparing(pieces, batch, scale, reseed)
        return self._separate(pieces, scale, reseed)

    def _cut(self, batch: Batch) -> list[dict[str, torch.Tensor]]:
        each = {name: rows.chunk(self._pieces) for name, rows in batch.items()}
        return [{name: rows[number] for name, rows in each.items()} for number in range(self._pieces)]

    def _separate(
        self, pieces: list[dict[str, torch.Tensor]], scale: Scale, reseed: Callable[[int], None]
    ) -> Outcome:
        """Piece by piece, for a loss that is a mean over rows."""
        outcomes = []
        for number, piece in enumerate(pieces):
            with self._synchronised(number):
                reseed(number)
                outcome: Outcome = self._parallel(piece)
                scale(outcome.loss / len(pieces)).backward()
            outcomes.append(outcome)
        return Outcome(
            torch.stack([outcome.loss.detach() for outcome in outcomes]).mean(),
            {
                name: torch.stack([outcome.figures[name] for outcome in outcomes]).mean()
                for name in outcomes[0].figures
            },
        )

    def _comparing(
        self,
        pieces: list[dict[str, torch.Tensor]],
        batch: Batch,
        scale: Scale,
        reseed: Callable[[int], None],
    ) -> Outcome:
        """For a loss that compares rows: embeddings of all first, its gradient on them, then a second pass.

        Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021. The
        gradients that the loss leaves in its own parameters wait there for the last piece, with which
        DistributedDataParallel shares all of them.
        """
        with torch.no_grad():
            parts = []
            for number, piece in enumerate(pieces):
                reseed(number)
                parts.append(self._objective.embed(piece))
            self._statistics.forget()
        embeddings = torch.cat(parts).requires_grad_()
        outcome = self._objective.judge(embeddings, batch)
        scale(outcome.loss).backward()
        assert embeddings.grad is not None
        for number, (piece, gradient) in enumerate(
            zip(pieces, embeddings.grad.chunk(len(pieces)), strict=True)
        ):
            with self._synchronised(number):
                reseed(number)
                self._parallel({**piece, "gradient": gradient}).loss.backward()
        return outcome

    def _synchronised(self, number: int) -> AbstractContextManager[None]:
        """Ranks share their gradients with the last piece, once for all pieces."""
        last = number == self._pieces - 1
        if last or not isinstance(self._parallel, DistributedDataParallel):
            return nullcontext()
        return self._parallel.no_sync()
