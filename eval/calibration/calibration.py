"""A calibration as a value: from scores and quality measures to log-likelihood ratios, and whose it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from eval.calibration.logistic import Inseparable, fit_logistic
from eval.calibration.quality import Quality
from eval.metrics import OperatingPoint
from eval.metrics.rates import checked
from shard_tools import storage
from shard_tools.arrays import Float64Array
from shard_tools.errors import UserError
from shard_tools.records import at_least, convert, decode, within

FORMAT, VERSION = "voxshard-calibration", 1
_AGAIN = "make it again with `python -m eval calibrate`"

SCORED_BY = (
    "scoring",
    "scoring_options",
    "training_set",
    "normalisation",
    "quality_cohort",
    "protocol",
    "crops",
    "crop_feature_frames",
)
"""The fields of an evaluation's metrics.json that say how its scores came about; absent is null."""

_Number = Annotated[float, within(-1e300, 1e300)]
_Share = Annotated[float, within(1e-12, 1.0 - 1e-12)]
_Cost = Annotated[float, within(1e-12, 1e12)]


@dataclass(frozen=True)
class TrainedOn:
    """The list that a calibration was fitted on."""

    trial_list: str
    trial_list_sha256: str
    trials: Annotated[int, at_least(2)]
    targets: Annotated[int, at_least(1)]


@dataclass(frozen=True)
class Calibration:
    """log-likelihood ratio (nats) = weight · score + Σ quality weight · measure + offset.

    quality: weights by the names of the measures; prior: of a target trial, by which the fit weighted the
    classes; p_target, c_miss, c_fa: where decisions are made (`threshold`); made_by: SHA-256 of the
    checkpoint whose embeddings were scored, "" where that is not known; scored: how, by the names of
    SCORED_BY.
    """

    weight: _Number
    offset: _Number
    quality: dict[str, _Number]
    prior: _Share
    p_target: _Share
    c_miss: _Cost
    c_fa: _Cost
    made_by: str
    scored: dict[str, str | int | float | bool | None]
    trained_on: TrainedOn
    kind: Literal["logistic regression"] = field(default="logistic regression")

    @property
    def point(self) -> OperatingPoint:
        """Where decisions are made."""
        return OperatingPoint(self.p_target, self.c_miss, self.c_fa)

    @property
    def threshold(self) -> float:
        """The log-likelihood ratio from which on a trial is accepted at `point`."""
        return self.point.bayes_threshold

    @property
    def score_threshold(self) -> float | None:
        """The same as a score before calibration; None with quality measures, on which it would depend."""
        return None if self.quality else (self.threshold - self.offset) / self.weight

    def apply(self, scores: npt.ArrayLike, quality: Quality | None = None) -> Float64Array:
        """Log-likelihood ratios (nats) of `scores` (T,), float64 (T,).

        quality: of the same trials, with this calibration's measures among its own. Raises UserError where
        one is missing.
        """
        score = np.asarray(scores, np.float64)
        llr = self.weight * score + self.offset
        if self.quality:
            given = quality or Quality((), np.empty((score.size, 0)))
            llr = llr + given.select(tuple(self.quality)) @ np.array(list(self.quality.values()))
        return llr

    def probability(self, llr: npt.ArrayLike, prior: float | None = None) -> Float64Array:
        """The probability that a trial is a target trial, of its ratio and its prior (default: p_target)."""
        share = self.p_target if prior is None else prior
        if not 0.0 < share < 1.0:
            raise UserError(f"the prior {share} of a target trial is not between 0 and 1")
        odds = np.asarray(llr, np.float64) + math.log(share / (1.0 - share))
        probability: Float64Array = np.exp(-np.logaddexp(0.0, -odds))
        return probability

    def check(self, made_by: str, metrics: Mapping[str, Any]) -> None:
        """Refuse scores of another kind than was calibrated, with a UserError.

        made_by: SHA-256 of the checkpoint that they come from; metrics: how they came about, by the names of
        metrics.json, of which absent ones are null.
        """
        self.check_checkpoint(made_by)
        here = scored_as(metrics)
        for name in SCORED_BY:
            if self.scored.get(name) != here[name]:
                raise UserError(
                    f"the calibration is of scores with {name} {_shown(self.scored.get(name))}, these have "
                    f"{_shown(here[name])}; score alike, or calibrate these with `python -m eval calibrate`"
                )

    def check_checkpoint(self, made_by: str) -> None:
        """The part of `check` that can be made before there are scores."""
        if self.made_by != made_by:
            raise UserError(
                f"the calibration is of {_checkpoint(self.made_by)}, the scores of {_checkpoint(made_by)}; "
                "calibrate this model's own scores with `python -m eval calibrate`"
            )

    def save(self, url: str) -> None:
        """Write it as JSON to `url`. Raises StorageError."""
        record = {"format": FORMAT, "version": VERSION, **asdict(self)}
        record |= {"threshold": self.threshold, "score_threshold": self.score_threshold}
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        storage.publish_bytes(url, text.encode())


def load_calibration(url: str) -> Calibration:
    """What Calibration.save wrote. Raises UserError, naming the field, for what it did not."""
    record = decode(storage.read_bytes(url), dict[str, Any], url, _AGAIN)
    if record.get("format") != FORMAT:
        raise UserError(f"{url}: field format is {_shown(record.get('format'))}, no calibration; {_AGAIN}")
    if record.get("version") != VERSION:
        raise UserError(
            f"{url}: field version is {_shown(record.get('version'))}, this release reads {VERSION}; {_AGAIN}"
        )
    found = convert(record, Calibration, url, _AGAIN)
    if found.weight <= 0.0:
        raise UserError(f"{url}: field weight: {found.weight} is not above 0; {_AGAIN}")
    return found


def fit_calibration(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    quality: Quality | None = None,
    *,
    prior: float = 0.5,
    point: OperatingPoint | None = None,
    made_by: str = "",
    metrics: Mapping[str, Any] | None = None,
    trial_list: str = "",
    trial_list_sha256: str = "",
) -> Calibration:
    """The calibration that fits held-out `scores` (T,) with `labels` (T,), 1 and 0, best.

    prior: by which the fit weights target and other trials; point: where decisions will be made (default:
    p_target 0.05, costs 1); made_by, metrics: whose scores and how they came about, as Calibration.check
    takes them. The rest is noted. Raises ValueError as error_rates, and UserError for scores that part the
    classes without error, that do not rise with them, and for a measure that is the same in all trials.
    """
    score, label = checked(scores, labels)
    names, values = ((), np.empty((len(score), 0))) if quality is None else (quality.names, quality.values)
    columns = np.column_stack((score, values))
    for name, spread in zip(("score", *names), np.ptp(columns, axis=0), strict=True):
        if spread == 0.0:
            raise UserError(
                f"the {name} is the same in all {len(score)} trials, and tells nothing; leave it out"
            )
    try:
        weights, offset = fit_logistic(columns, label, prior)
    except Inseparable:
        raise UserError(
            f"the {len(score)} trials are parted without error, so that no calibration is the best one; "
            "calibrate on a longer or harder list"
        ) from None
    if weights[0] <= 0.0:
        raise UserError(
            f"the scores' weight came out as {weights[0]:.3g}: higher scores do not mean one speaker here; "
            "look for swapped labels, or use fewer quality measures"
        )
    where = point or OperatingPoint(0.05)
    return Calibration(
        weight=float(weights[0]),
        offset=offset,
        quality=dict(zip(names, weights[1:].tolist(), strict=True)),
        prior=prior,
        p_target=where.p_target,
        c_miss=where.c_miss,
        c_fa=where.c_fa,
        made_by=made_by,
        scored=scored_as(metrics or {}),
        trained_on=TrainedOn(trial_list, trial_list_sha256, len(score), int(np.count_nonzero(label))),
    )


def scored_as(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """How scores came about, of an evaluation's metrics: the fields of SCORED_BY, absent ones None."""
    found = {name: metrics.get(name) for name in SCORED_BY}
    if isinstance(options := found["scoring_options"], Mapping):
        found["scoring_options"] = " ".join(f"{name}={options[name]}" for name in sorted(options)) or None
    return found


def _checkpoint(made_by: str) -> str:
    return f"the checkpoint {made_by[:12]}…" if made_by else "a checkpoint that is not known"


def _shown(value: object) -> str:
    return "none" if value is None else repr(value)[:160]
