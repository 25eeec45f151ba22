"""Error rates in the course of a run."""

from __future__ import annotations

import logging

import torch
from torch import nn

from eval.checkpoint.file import Rates
from eval.evaluate import evaluate_network
from eval.trials import Trials, read_trials
from eval.utterances import Utterances, open_utterances, require_all
from shard_tools.text import redacted
from train.config.sections import ValidationConfig
from train.life.log import RunLog

logger = logging.getLogger("train")


class Validation:
    """What a run is validated on, opened: the trials, and the utterances that they compare."""

    def __init__(self, source: Utterances, trials: Trials, config: ValidationConfig) -> None:
        self._source = source
        self._trials = trials
        self._config = config

    def due(self, done: int, last: int) -> bool:
        """After `done` steps of a run of `last`."""
        return done % self._config.every == 0 or done == last

    def rates(self, network: nn.Module, device: torch.device, step: int, log: RunLog) -> Rates:
        """Error rates of the network as it is, logged; all ranks share the work and must call it."""
        result = evaluate_network(
            network,
            self._source,
            self._trials,
            device=device,
            crops=self._config.crops,
            crop_feature_frames=self._config.crop_frames,
            progress=False,
        )
        metrics = result.metrics
        rates = Rates(
            step,
            metrics["eer"],
            metrics["min_dcf"],
            redacted(self._trials.name),
            metrics["eer_threshold"],
        )
        values = {"eer": rates.eer} | {f"min_dcf_{p}": cost for p, cost in rates.min_dcf.items()}
        log.record(step, "validation", values | {"trial_list": rates.trial_list})
        shown = ", ".join(f"minDCF({p}) {cost:.4f}" for p, cost in rates.min_dcf.items())
        logger.info(
            "step %d: EER %.2f %%, %s on %s (%.1f s)",
            step, rates.eer, shown, rates.trial_list, result.metrics["seconds"],
        )  # fmt: skip
        return rates


def open_validation(config: ValidationConfig) -> Validation | None:
    """None where there are no trials. Raises UserError for what cannot be read, and for what is missing."""
    if config.trials is None or config.data is None:
        return None
    trials = read_trials(config.trials)
    source = open_utterances(config.data)
    require_all(source, trials.names, trials.name)
    return Validation(source, trials, config)
