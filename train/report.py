"""What a run says of its steps: a line of the log and a record of metrics.jsonl for each few of them."""

from __future__ import annotations

import time

import torch

from shard_tools.errors import UserError
from train.config.sections import DataConfig
from train.life.distributed import Process, mean_over_ranks
from train.life.log import RunLog
from train.objectives import Outcome
from train.plan import BatchPlan

_SHORT = {"accuracy": "acc", "gradient_norm": "norm"}
_AS_THEY_ARE = ("loss", "margin", "gradient_norm")


class Sums:
    """Sums since the last line of metrics, kept on the device so that no step waits for them.

    since: when they began, by time.perf_counter().
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.paused = 0.0  # seconds of them that went to checkpoints and validation
        self.steps = 0
        self.waited = 0.0  # seconds in which the step had no data
        self.substituted = 0  # rows of this rank
        self._figures: dict[str, torch.Tensor] = {}

    def add(self, outcome: Outcome) -> None:
        for name, value in {"loss": outcome.loss, **outcome.figures}.items():
            value = value.detach()
            self._figures[name] = self._figures[name] + value if name in self._figures else value.clone()
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The loss and the objective's figures, each a mean over the steps."""
        return {name: value.item() / self.steps for name, value in self._figures.items()}


class Reporter:
    """Means over ranks of what was summed, shown and recorded; and the samples that were substituted."""

    def __init__(self, plan: BatchPlan, process: Process, data: DataConfig) -> None:
        self._plan = plan
        self._process = process
        self._data = data
        self._samples = 0  # since this process started
        self._substituted = 0

    def report(
        self, step: int, sums: Sums, rate: float, scale: dict[str, float], log: RunLog
    ) -> tuple[float, float]:
        """Of the steps up to `step`; every rank must call it. Returns the mean loss, and when they ended.

        rate: the learning rate; scale: figures for the record alone. Raises UserError when more samples had
        to be substituted than data.max_substituted allows.
        """
        local = sums.means()
        now = time.perf_counter()  # not before: a GPU may have had steps of them still to do
        seconds = now - sums.since - sums.paused
        values = [*local.values(), sums.waited / seconds, sums.substituted]
        *means, waited, substituted = mean_over_ranks(values, self._process.device)
        figures = dict(zip(local, means, strict=True))
        self._substituted += round(substituted * self._process.world)
        self._samples += sums.steps * self._plan.spec.size
        throughput = sums.steps * self._plan.spec.size / seconds
        epoch, *others = self._plan.epochs_of(step - 1)
        log.show(
            step,
            epoch="/".join(map(str, (epoch, *others))),
            **_shown(figures),
            lr=f"{rate:.3g}",
            utt_s=f"{throughput:.0f}",
            wait=f"{100 * waited:.0f}%",
        )
        log.record(
            step,
            "train",
            {
                "epoch": epoch,
                **({"epochs": [epoch, *others]} if others else {}),
                **figures,
                "lr": rate,
                "utterances_per_second": round(throughput, 2),
                "data_wait": round(waited, 4),
                "substituted": self._substituted,
                **scale,
            },
        )
        self._check_substituted(step)
        return figures["loss"], now

    def _check_substituted(self, step: int) -> None:
        if self._substituted / self._samples > self._data.max_substituted:
            raise UserError(
                f"{self._substituted} of {self._samples} samples had to be substituted by step {step}, more "
                f"than data.max_substituted {self._data.max_substituted}: look for the warnings above, "
                f"and check the shards with make-shards verify {' and '.join(self._data.urls)}"
            )


def _shown(figures: dict[str, float]) -> dict[str, str]:
    """Figures as a line of the log has them: shares of rows in percent, the others as they are."""
    return {
        _SHORT.get(name, name): f"{value:.3f}" if name in _AS_THEY_ARE else f"{100 * value:.1f}%"
        for name, value in figures.items()
    }
