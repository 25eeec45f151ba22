"""Where errors come from: rates of groups of trials, and of single speakers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from eval.metrics import equal_error_rate, error_rates
from eval.report.evaluation import Person
from eval.speakers import numbered
from eval.trials import Trials
from shard_tools.arrays import Float32Array, Float64Array, Int64Array

_MOST_NATIONS = 12
_GENDERS = {"f": "female", "m": "male"}
_LENGTHS = (2, 4, 6, 8, 10, 15, 20)  # seconds

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Some of the trials: eer as a fraction, None without both kinds; false_accept, false_reject: of its own
    trials, at the whole list's threshold, None where there are none of the kind."""

    name: str
    targets: int
    nontargets: int
    eer: float | None
    false_accept: float | None
    false_reject: float | None


def group_of(name: str, scores: Float64Array, label: npt.NDArray[np.int8], mask: Mask, at: float) -> Group:
    """The group of the trials in `mask`; at: the threshold."""
    score, kind = scores[mask], label[mask] == 1
    targets = int(kind.sum())
    nontargets = len(kind) - targets
    eer = equal_error_rate(error_rates(score, kind))[0] if targets and nontargets else None
    accept = float(np.mean(score[~kind] >= at)) if nontargets else None
    reject = float(np.mean(score[kind] < at)) if targets else None
    return Group(name, targets, nontargets, eer, accept, reject)


def by_gender(
    trials: Trials, speakers: Sequence[str], meta: Mapping[str, Person]
) -> Iterator[tuple[str, Mask]]:
    """Trials of two of one gender, for each, and of two genders. Speakers the meta file lacks are unknown."""
    named = [meta[one].gender if one in meta else "unknown" for one in speakers]
    yield from _by(trials, [_GENDERS.get(each.lower(), each) for each in named], "two genders")


def by_nationality(
    trials: Trials, speakers: Sequence[str], meta: Mapping[str, Person]
) -> Iterator[tuple[str, Mask]]:
    """Trials of two of one nationality, for those with most trials, and of two nationalities."""
    named = [meta[one].nationality if one in meta else "unknown" for one in speakers]
    yield from _by(trials, named, "two nationalities", most=_MOST_NATIONS)


def _by(
    trials: Trials, named: Sequence[str], mixed: str, most: int | None = None
) -> Iterator[tuple[str, Mask]]:
    number = numbered(named)
    names = list(dict.fromkeys(named))
    left, right = number[trials.left], number[trials.right]
    count = np.bincount(left[left == right], minlength=len(names))
    order = np.argsort(-count, kind="stable")[: len(names) if most is None else most]
    for place in order.tolist():
        if count[place]:
            yield f"both {names[place]}", (left == place) & (right == place)
    others = np.flatnonzero(count)
    others = others[~np.isin(others, order)]
    if len(others):
        yield f"both of one of {len(others)} others", (left == right) & np.isin(left, others)
    if (left != right).any():
        yield mixed, left != right


def by_length(trials: Trials, seconds: Float32Array) -> Iterator[tuple[str, Mask]]:
    """Trials by the seconds of the shorter of both utterances. seconds: of each of trials.names."""
    shorter = np.minimum(seconds[trials.left], seconds[trials.right])
    edges = (0.0, *_LENGTHS, np.inf)
    for low, high in pairwise(edges):
        mask = (shorter >= low) & (shorter < high)
        if mask.any():
            yield f"{low:g} to {high:g} s" if np.isfinite(high) else f"{low:g} s and more", mask


@dataclass(frozen=True)
class SpeakerErrors:
    """Counts of the trials that a speaker is in, and of errors in them."""

    name: str
    targets: int
    false_rejects: int
    nontargets: int
    false_accepts: int

    @property
    def badness(self) -> float:
        """The sum of both rates."""
        return self.false_rejects / max(1, self.targets) + self.false_accepts / max(1, self.nontargets)


def worst_speakers(
    scores: Float64Array, trials: Trials, speakers: Sequence[str], at: float, most: int
) -> list[SpeakerErrors]:
    """Up to `most` speakers with errors at the threshold, by the sum of their two rates."""
    number, names = numbered(speakers), list(dict.fromkeys(speakers))
    left, right = number[trials.left], number[trials.right]
    target = trials.label == 1
    rejects = target & (scores < at)
    accepts = ~target & (scores >= at)

    def count(mask: Mask) -> Int64Array:
        found = np.bincount(left[mask], minlength=len(names))
        other = mask & (left != right)  # once, where both sides are the speaker's
        return found + np.bincount(right[other], minlength=len(names))

    columns = zip(
        names,
        count(target).tolist(),
        count(rejects).tolist(),
        count(~target).tolist(),
        count(accepts).tolist(),
        strict=True,
    )
    found = [SpeakerErrors(*each) for each in columns]
    found = [each for each in found if each.false_rejects or each.false_accepts]
    return sorted(found, key=lambda each: (-each.badness, each.name))[:most]
