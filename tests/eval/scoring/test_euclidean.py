from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scoring_cases import embeddings_of, trials_of

from eval.scoring import build_scorer, euclidean, exact
from eval.scoring.exact import mean_distances
from shard_tools.errors import UserError


@pytest.fixture
def some():
    """By embeddings in another order than the trials' names; some trials are of an utterance with itself."""
    random = np.random.default_rng(0)
    vectors = (random.standard_normal((9, 4, 96)) + random.standard_normal((9, 1, 96))).astype(np.float32)
    left, right = random.integers(0, 8, (2, 90))
    order = np.array([3, 1, 8, 0, 7, 2, 6, 4])  # u5 is in no trial
    return embeddings_of(vectors), trials_of(left, right, [f"u{row}" for row in order]), order


def of_pairs(vectors, left, right):
    """As the VoxCeleb trainer does it, in float64."""
    units = F.normalize(torch.from_numpy(vectors).double(), p=2, dim=2)
    exactly = "donot_use_mm_for_euclid_dist"
    return [
        -torch.cdist(units[a], units[b], compute_mode=exactly).mean().item()
        for a, b in zip(left, right, strict=True)
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e19])
@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0, 5.0, 30.0])  # from spread to nearly alike
@pytest.mark.parametrize(("crops", "error"), [(4, 2e-6), (1, 1e-7)])
def test_scores_are_the_trainers_within_the_stated_error(some, scale, shift, crops, error):
    embeddings, trials, order = some
    vectors = ((embeddings.vectors + np.float32(shift)) * np.float32(scale))[:, :crops]
    scores = build_scorer("euclidean").score(embeddings_of(vectors), trials)
    expected = of_pairs(vectors[order], trials.left, trials.right)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=error)
    assert scores.dtype == np.float64


@pytest.mark.parametrize("distance", [0.0, 1e-4, 3e-3, 0.01, 0.03, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("crops", [1, 2])
def test_crops_that_nearly_coincide_are_told_apart(distance, crops):
    """Where float32 products would be off by more than the distance itself."""
    random = np.random.default_rng(0)
    ones = random.standard_normal((40, 1, 96)).repeat(crops, axis=1)
    others = ones + distance * random.standard_normal((40, crops, 96))
    vectors = np.concatenate([ones, others]).astype(np.float32)
    embeddings = embeddings_of(vectors)
    left, right = np.arange(40), 40 + np.arange(40)
    scores = build_scorer("euclidean").score(embeddings, trials_of(left, right, embeddings.names))
    np.testing.assert_allclose(scores, of_pairs(vectors, left, right), rtol=0, atol=2e-6)


def test_only_crops_that_nearly_coincide_are_compared_again(some, monkeypatch):
    embeddings, trials, _ = some
    again = []
    monkeypatch.setattr(
        euclidean, "mean_distances", lambda *given: again.append(len(given[1])) or mean_distances(*given)
    )
    build_scorer("euclidean").score(embeddings, trials)
    assert again == [int((trials.left == trials.right).sum())]
    assert again[0] > 0


def test_scores_do_not_depend_on_the_batch_or_the_side(some, monkeypatch):
    embeddings, trials, _ = some
    score = build_scorer("euclidean").score
    whole = score(embeddings, trials)
    swapped = trials_of(trials.right, trials.left, trials.names)
    np.testing.assert_allclose(score(embeddings, swapped), whole, rtol=0, atol=2e-6)
    monkeypatch.setattr(euclidean, "_NUMBERS", 1)
    monkeypatch.setattr(exact, "_BYTES", 1)
    np.testing.assert_allclose(score(embeddings, trials), whole, rtol=0, atol=2e-6)


def test_zeros_do_no_harm_and_what_is_not_finite_is_named(some):
    embeddings, _, _ = some
    vectors = embeddings.vectors.copy()
    vectors[2] = 0.0
    vectors[5] = np.nan  # in no trial
    trials = trials_of([2, 2, 0], [2, 3, 1], ["u0", "u1", "u2", "u3"])
    scores = build_scorer("euclidean").score(embeddings_of(vectors), trials)
    np.testing.assert_allclose(scores[:2], [0, -1], atol=1e-7)  # a unit vector's distance from nothing is 1
    vectors[0, 3, 7] = np.inf
    with pytest.raises(UserError, match="the embedding of 'u0' holds numbers that are not finite"):
        build_scorer("euclidean").score(embeddings_of(vectors), trials)


def test_scores_against_others_are_those_of_trials(some, monkeypatch):
    embeddings, _, _ = some
    random = np.random.default_rng(4)
    others = embeddings_of(np.concatenate([random.standard_normal((5, 96)), embeddings.vectors[:2, 0]]), "c")
    rows = np.array([8, 1, 1, 0])
    monkeypatch.setattr(euclidean, "_BLOCK", 100)
    scorer = build_scorer("euclidean")
    found = np.concatenate([block for _, block in scorer.against(embeddings, rows, others)])
    left, right = (grid.ravel() for grid in np.meshgrid(rows, np.arange(7), indexing="ij"))
    expected = -mean_distances(embeddings.vectors, left, others.vectors, right)
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=2e-6)
    with pytest.raises(UserError, match="of 96 dimensions cannot be compared with others of 8"):
        next(scorer.against(embeddings, rows, embeddings_of(np.ones((5, 8)))))
