"""How often 95 % intervals hold the truth: speakers drawn anew, and for comparison trials drawn one by one.

python tests/bench/coverage.py --lists 300    makes up so many small lists whose speakers differ in how alike
their utterances are, and in how like others they are; the truth is that of lists of 4,000 speakers.
"""

from __future__ import annotations

import argparse

import numpy as np

from eval.metrics import OperatingPoint, equal_error_rate, error_rates, min_dcf
from eval.metrics.bootstrap import bias_corrected
from eval.metrics.resampling import Resampled, multiplicities

POINT = OperatingPoint(0.05)
SPEAKERS, TARGETS, OTHERS = 40, 2000, 4000
DRAWS = 200


def made_up(
    random: np.random.Generator, speakers: int, targets: int, others: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and labels (T,), sides (T, 2)."""
    own = np.repeat(np.arange(speakers), targets // speakers)
    left = random.integers(0, speakers, others)
    right = (left + random.integers(1, speakers, others)) % speakers
    steady, common = 0.5 * random.standard_normal(speakers), 0.4 * random.standard_normal(speakers)
    scores = np.concatenate((2.4 + steady[own], common[left] + common[right]))
    labels = np.repeat([1, 0], [len(own), others])
    sides = np.stack((np.concatenate((own, left)), np.concatenate((own, right))), axis=1)
    return scores + random.standard_normal(len(scores)), labels, sides


def interval(scores: np.ndarray, labels: np.ndarray, sides: np.ndarray, seed: int) -> np.ndarray:
    """Ends of EER and minDCF (2, 2), as eval.metrics.bootstrap has them."""
    one = Resampled(scores, labels, sides, [POINT])
    drawn = np.array([one.figures(multiplicities(seed, draw, one.speakers)) for draw in range(DRAWS)])
    return np.stack(bias_corrected(drawn, one.figures(np.ones(one.speakers)), 0.95))[:, :2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=300)
    lists = parser.parse_args().lists
    random = np.random.default_rng(1)
    large = [error_rates(*made_up(random, 4000, 200_000, 200_000)[:2]) for _ in range(6)]
    truth = np.mean([(100 * equal_error_rate(r)[0], min_dcf(r, POINT.p_target)[0]) for r in large], axis=0)
    print(f"truth: EER {truth[0]:.2f} %, minDCF {truth[1]:.3f}")
    held, width = np.zeros((2, 2)), np.zeros((2, 2))
    for seed in range(lists):
        scores, labels, sides = made_up(random, SPEAKERS, TARGETS, OTHERS)
        alone = np.repeat(np.arange(len(scores))[:, None], 2, axis=1)  # each trial a speaker of its own
        for way, who in enumerate((sides, alone)):
            low, high = interval(scores, labels, who, seed)
            held[way] += (low <= truth) & (truth <= high)
            width[way] += high - low
    for way, name in enumerate(("speakers", "trials")):
        share, wide = 100 * held[way] / lists, width[way] / lists
        print(
            f"{name} drawn: held in {share[0]:.0f} % (EER) and {share[1]:.0f} % (minDCF) of {lists} lists; "
            f"mean width {wide[0]:.2f} % and {wide[1]:.3f}"
        )


if __name__ == "__main__":
    main()
