"""Quality measures of trials, as named columns: how much there was to hear, and how usual the voice is.

Each is measured on both sides of a trial, and gives two columns, the smaller of the two values and the
larger one, so that a trial may be turned round. wespeaker's four (smaller, larger, difference,
quotient) of plain seconds up to 20, of the mean-subtracted embedding's length and of cohort means go by the
same idea (Thienpondt et al. 2021); the difference is the others' own, so that a fit gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.embeddings import Embeddings
from eval.trials import Trials
from shard_tools.arrays import Float64Array
from shard_tools.errors import UserError

KINDS = ("duration", "magnitude", "cohort")
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Quality:
    """names: of the measures (Q of them); values: float64 (T, Q), finite, a row for each trial."""

    names: tuple[str, ...]
    values: Float64Array

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise ValueError(f"{len(self.names)} names for quality measures {self.values.shape}")

    def select(self, names: Sequence[str]) -> Float64Array:
        """The columns of these names, float64 (T, len(names)). Raises UserError for one that is not there."""
        absent = [name for name in names if name not in self.names]
        if absent:
            raise UserError(
                f"the calibration needs the quality measures {', '.join(absent)}; here are "
                f"{', '.join(self.names) or 'none'}: measure them too, or calibrate without"
            )
        return self.values[:, [self.names.index(name) for name in names]]


@dataclass(frozen=True, eq=False)
class CohortStatistics:
    """Mean and standard deviation of each side's scores against a cohort, two float64 (T, 2)."""

    mean: Float64Array
    std: Float64Array


def kinds_of(names: Iterable[str]) -> list[str]:
    """The kinds that one has to measure to have columns of these names, in the order of KINDS."""
    first = {name.split("_", 1)[0] for name in names}
    return [kind for kind in KINDS if kind in first]


def measure(
    kinds: Sequence[str],
    trials: Trials,
    embeddings: Embeddings | None = None,
    cohort: CohortStatistics | None = None,
) -> Quality:
    """The quality measures of `kinds` (of KINDS) for each trial.

    duration: natural logarithm of the seconds of audio; magnitude: mean length of an utterance's embeddings
    as the network gave them; cohort: mean and standard deviation of a side's scores against the cohort.
    Raises UserError for what a kind needs and is not there: embeddings of all utterances, which know their
    durations; a cohort; numbers that are finite.
    """
    columns: dict[str, Float64Array] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"unknown quality measure {kind!r}; one of {', '.join(KINDS)}")
        if kind == "cohort":
            if cohort is None:
                raise UserError(
                    "the quality measure cohort needs a cohort: name one, or leave the measure out"
                )
            columns |= _both("cohort_mean", cohort.mean) | _both("cohort_std", cohort.std)
            continue
        if embeddings is None:
            raise UserError(f"the quality measure {kind} is measured on embeddings: give those of the trials")
        values = _seconds(embeddings, trials) if kind == "duration" else _lengths(embeddings, trials)
        name = "duration_log" if kind == "duration" else "magnitude"
        columns |= _both(name, np.stack((values[trials.left], values[trials.right]), axis=1))
    for name, column in columns.items():
        if not np.isfinite(column).all():
            bad = int(np.count_nonzero(~np.isfinite(column)))
            raise UserError(f"the quality measure {name} is not finite in {bad} of {len(column)} trials")
    return Quality(
        tuple(columns), np.stack(list(columns.values()), 1) if columns else np.empty((len(trials), 0))
    )


def _both(name: str, sides: npt.NDArray[np.floating]) -> dict[str, Float64Array]:
    ordered = np.sort(np.asarray(sides, np.float64), axis=1)
    return {f"{name}_min": ordered[:, 0], f"{name}_max": ordered[:, 1]}


def _seconds(embeddings: Embeddings, trials: Trials) -> Float64Array:
    seconds = embeddings.seconds[embeddings.rows(trials.names)].astype(np.float64)
    unknown = [name for name, some in zip(trials.names, seconds, strict=True) if not some > 0]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise UserError(
            f"the embeddings do not know the duration of {len(unknown)} utterances: "
            f"{', '.join(unknown[:_SHOWN])}{more}; embed them again, or leave the measure duration out"
        )
    return np.log(seconds)


def _lengths(embeddings: Embeddings, trials: Trials) -> Float64Array:
    vectors = embeddings.vectors[embeddings.rows(trials.names)]
    return np.sqrt(np.einsum("ncd,ncd->nc", vectors, vectors, dtype=np.float64)).mean(axis=1)
