from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eval.embeddings import Embeddings
from eval.scoring import build_scorer, direct
from eval.trials import Trials

NAMES = [f"u{number}" for number in range(7)]


def trials_of(left, right):
    label = np.zeros(len(left), np.int8)
    return Trials(label, np.array(left), np.array(right), NAMES, "t", "")


def score_trials(vectors, trials, method="cosine"):
    """By embeddings in another order than the trials' names."""
    order = np.random.default_rng(3).permutation(len(vectors))
    shuffled = Embeddings(tuple(NAMES[i] for i in order), vectors[order], vectors.shape[1], 400)
    return build_scorer(method).fit(shuffled).score(shuffled, trials)


@pytest.fixture
def some():
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((7, 4, 33)).astype(np.float32) * 5
    return embeddings, trials_of(*random.integers(0, 7, (2, 50)))


def test_euclidean_is_minus_the_mean_pairwise_distance_of_unit_vectors(some):
    embeddings, trials = some
    units = F.normalize(torch.from_numpy(embeddings).double(), dim=2)
    expected = [
        -torch.cdist(units[a], units[b]).mean() for a, b in zip(trials.left, trials.right, strict=True)
    ]
    # A crop against itself has distance 0, of which cdist's rounding leaves about 1e-8.
    np.testing.assert_allclose(score_trials(embeddings, trials, "euclidean"), expected, rtol=1e-6)


def test_cosine_is_the_mean_over_all_pairs_of_crops(some):
    embeddings, trials = some
    units = embeddings.astype(np.float64) / np.linalg.norm(embeddings, axis=2, keepdims=True)
    expected = [np.mean(units[a] @ units[b].T) for a, b in zip(trials.left, trials.right, strict=True)]
    np.testing.assert_allclose(score_trials(embeddings, trials, "cosine"), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["cosine", "euclidean"])
def test_scores_do_not_depend_on_the_chunk_or_the_side(some, method, monkeypatch):
    embeddings, trials = some
    whole = score_trials(embeddings, trials, method)
    np.testing.assert_allclose(
        score_trials(embeddings, trials_of(trials.right, trials.left), method), whole, rtol=1e-12
    )
    monkeypatch.setattr(direct, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(score_trials(embeddings, trials, method), whole, rtol=1e-12)
    assert whole.dtype == np.float64


@pytest.mark.parametrize(("method", "best"), [("cosine", 1.0), ("euclidean", 0.0)])
def test_an_utterance_against_itself_scores_best(method, best):
    embeddings = np.random.default_rng(1).standard_normal((7, 1, 16)).astype(np.float32)
    scores = score_trials(embeddings, trials_of([0, 1, 2, 0], [0, 1, 2, 1]), method)
    np.testing.assert_allclose(scores[:3], best, atol=1e-6)
    assert scores[3] < best - 0.1


def test_scale_does_not_matter_and_zeros_do_no_harm(some):
    embeddings, trials = some
    np.testing.assert_allclose(
        score_trials(embeddings * 7, trials), score_trials(embeddings, trials), rtol=1e-4, atol=1e-7
    )
    embeddings[trials.left[0]] = 0
    assert np.isfinite(score_trials(embeddings, trials, "euclidean")).all()


def test_unknown_methods_are_refused(some):
    with pytest.raises(ValueError, match="one of cosine, euclidean"):
        score_trials(*some, "plda")
