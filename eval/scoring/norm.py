"""Score normalisation: a trial's score against those that its two utterances reach with a cohort of others.

Source: Z- and T-norm: Auckenthaler, Carey and Lloyd-Thomas, Digital Signal Processing 2000; S-norm: Shum,
Dehak, Dehak and Glass, Odyssey 2010; AS-norm: Matějka and others, Interspeech 2017 (there AS-Norm1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from eval.embeddings import Embeddings
from eval.scoring.base import Scorer
from eval.trials import Trials
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.errors import UserError

Kind = Literal["z", "t", "s", "as"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ALIKE = 1e-6  # a smaller deviation of scores, of 1 or of their mean, is rounding


@dataclass(frozen=True, eq=False)
class Normalised:
    """scores: float64 (T,); mean, std: float64 (T, 2), of the cohort's scores with the left and right side.

    Those of the `top` highest for AS-norm, of all otherwise.
    """

    scores: Float64Array
    mean: Float64Array
    std: Float64Array


def normalise(
    kind: Kind,
    scorer: Scorer,
    scores: Float64Array,
    embeddings: Embeddings,
    trials: Trials,
    cohort: Embeddings,
    top: int = 300,
    *,
    progress: bool = False,
) -> Normalised:
    """`scores` (T,) of `trials`, in deviations from what the cohort reaches with the utterances by `scorer`.

    z: with the left one, t: with the right one; s: the mean of both; as: the same, of each side's `top`
    highest scores. The deviation is the population's (divided by N). Every utterance meets the cohort once,
    however many trials it has. Speakers of the trials should not be in the cohort: their scores are among the
    highest and lower the trial's own; nothing here can tell, and they are not left out.
    Raises UserError for a cohort that is smaller than `top` or than 2, and for scores without a spread.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown score normalisation {kind!r}; one of {', '.join(KINDS)}")
    count = len(cohort)
    if kind == "as":
        check_top(top, count)
    if count < 2:
        raise UserError(f"the cohort has {count} member(s); score normalisation takes 2 or more")
    rows = embeddings.rows(trials.names)
    mean, std = np.empty((2, len(rows)))
    with tqdm(
        total=len(rows), desc="cohort", unit=" utterances", unit_scale=True, disable=not progress
    ) as bar:
        for some, found in scorer.against(embeddings, rows, cohort):
            if kind == "as" and top < count:
                found.partition(count - top, axis=1)
                found = found[:, count - top :]
            exact = found.astype(np.float64)
            mean[some], std[some] = exact.mean(axis=1), exact.std(axis=1)
            bar.update(len(found))
    alike = std <= _ALIKE * np.maximum(1.0, np.abs(mean))
    if alike.any():
        name = trials.names[int(np.argmax(alike))]
        raise UserError(
            f"score normalisation: all of the cohort scores the same with {name!r} (and with"
            f" {int(alike.sum()) - 1} other utterance(s)); are the cohort's embeddings all alike, or is that"
            " utterance's zero?"
        )
    sides = np.stack([trials.left, trials.right], axis=1)
    means, stds = mean[sides], std[sides]
    each = (scores[:, None] - means) / stds
    made = {"z": each[:, 0], "t": each[:, 1]}.get(kind)
    return Normalised(each.mean(axis=1) if made is None else made.copy(), means, stds)


def check_top(top: int, count: int) -> None:
    """UserError where a cohort of so many has no `top` highest scores."""
    if not 2 <= top <= count:
        raise UserError(
            f"the {top} highest scores of each side are to be taken, and the cohort has {count}; "
            + (f"give a larger cohort, or a top of 2 to {count}" if count >= 2 else "give a larger cohort")
        )


def speaker_means(embeddings: Embeddings, labels: Int64Array) -> Embeddings:
    """One embedding of each speaker: the mean of all crops of all its utterances, as they are.

    labels: int64 (utterances,). Speakers come in the order of their labels, and are named by them. As in
    wespeaker, lengths are not made 1 first, so that a louder embedding counts for more.
    """
    if len(labels) != len(embeddings):
        raise ValueError(f"{len(labels)} labels of {len(embeddings)} utterances")
    speakers, begin = np.unique(np.sort(labels), return_index=True)
    means = np.empty((len(speakers), 1, embeddings.vectors.shape[2]), np.float32)
    for number, rows in enumerate(np.split(np.argsort(labels, kind="stable"), begin[1:])):
        means[number] = embeddings.vectors[rows].mean(axis=(0, 1), dtype=np.float64)
    crops = min(embeddings.crops, 1)  # 0 where utterances were embedded whole
    frames, made_by = embeddings.crop_feature_frames, embeddings.made_by
    return Embeddings(tuple(str(speaker) for speaker in speakers.tolist()), means, crops, frames, made_by)
