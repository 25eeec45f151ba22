from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of, trials_of

from eval.scoring import build_scorer, dot
from eval.scoring.unit import units
from shard_tools.errors import UserError


def of_pairs(vectors, left, right):
    """Mean cosines in float64."""
    means = units(vectors).mean(axis=1)
    return np.einsum("td,td->t", means[left], means[right])


@pytest.fixture
def some():
    """By embeddings in another order than the trials' names."""
    random = np.random.default_rng(0)
    vectors = (random.standard_normal((9, 4, 96)) + random.standard_normal((9, 1, 96))).astype(np.float32)
    left, right = random.integers(0, 8, (2, 90))
    order = np.array([3, 1, 8, 0, 7, 2, 6, 4])  # u5 is in no trial
    return embeddings_of(vectors), trials_of(left, right, [f"u{row}" for row in order]), order


@pytest.mark.parametrize("scale", [1.0, 5.0, 1e-4, 1e19])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_several_crops_are_within_1e_6_of_float64(some, scale, shift):
    embeddings, trials, order = some
    vectors = (embeddings.vectors + np.float32(shift)) * np.float32(scale)
    expected = of_pairs(vectors[order], trials.left, trials.right)
    scores = build_scorer("cosine").score(embeddings_of(vectors), trials)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_one_crop_is_as_in_float64(some, shift):
    embeddings, trials, order = some
    vectors = embeddings.vectors[:, :1] + np.float32(shift)
    expected = of_pairs(vectors[order], trials.left, trials.right)
    scores = build_scorer("cosine").score(embeddings_of(vectors), trials)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-14)


def test_scores_do_not_depend_on_the_batch_or_the_side(some, monkeypatch):
    embeddings, trials, _ = some
    score = build_scorer("cosine").score
    whole = score(embeddings, trials)
    swapped = trials_of(trials.right, trials.left, trials.names)
    np.testing.assert_allclose(score(embeddings, swapped), whole, atol=1e-12)
    monkeypatch.setattr(dot, "_TRIALS", 1)
    np.testing.assert_allclose(score(embeddings, trials), whole, atol=1e-12)


def test_an_utterance_against_itself_scores_one_and_zeros_score_zero(some):
    embeddings, _, _ = some
    vectors = embeddings.vectors[:, :1].copy()
    vectors[2] = 0.0
    trials = trials_of([0, 1, 2, 2], [0, 1, 2, 3], embeddings.names)
    scores = build_scorer("cosine").score(embeddings_of(vectors), trials)
    np.testing.assert_allclose(scores, [1, 1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("crops", [1, 4])
def test_an_embedding_that_is_not_finite_is_named(some, crops):
    embeddings, trials, _ = some
    vectors = embeddings.vectors[:, :crops].copy()
    vectors[5, 0, 3] = np.nan  # in no trial
    assert np.isfinite(build_scorer("cosine").score(embeddings_of(vectors), trials)).all()
    vectors[2, 0, 3] = np.inf
    with pytest.raises(UserError, match="the embedding of 'u2' holds numbers that are not finite"):
        build_scorer("cosine").score(embeddings_of(vectors), trials)


def test_scores_against_others_are_those_of_trials(some, monkeypatch):
    embeddings, _, _ = some
    others = embeddings_of(np.random.default_rng(4).standard_normal((5, 96)), "c")
    rows = np.array([8, 1, 1, 4])
    monkeypatch.setattr(dot, "_BLOCK_BYTES", 100)
    scorer = build_scorer("cosine")
    found = np.concatenate([block for _, block in scorer.against(embeddings, rows, others)])
    ours, theirs = units(embeddings.vectors).mean(axis=1), units(others.vectors).mean(axis=1)
    np.testing.assert_allclose(found, ours[rows] @ theirs.T, atol=1e-6)
    with pytest.raises(UserError, match="of 96 dimensions cannot be compared with others of 8"):
        next(scorer.against(embeddings, rows, embeddings_of(np.ones((5, 8)))))
