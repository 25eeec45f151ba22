from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of, trials_of
from scoring_recipe import FOLDER, plda_trials, training

from eval.scoring import build_scorer
from eval.scoring.two_covariance import two_covariance
from shard_tools.errors import UserError


@pytest.fixture(scope="module")
def pairs():
    """Embeddings of both sides, and trials of all pairs of the one with the other."""
    left, right = plda_trials()
    embeddings = embeddings_of(np.concatenate([left, right]))
    rows, others = np.meshgrid(np.arange(5), 5 + np.arange(7), indexing="ij")
    return embeddings, trials_of(rows.ravel(), others.ravel(), embeddings.names)


@pytest.mark.parametrize("name", ["full", "subspace", "converged"])
def test_scores_of_a_model_are_speechbrains(pairs, name):
    golden = np.load(FOLDER / "scoring.npz")
    covariances = (golden[f"plda {name}/{part}"] for part in ("mean", "between", "within"))
    scorer = build_scorer("plda", {"length_norm": False}).use(two_covariance(*covariances))
    np.testing.assert_allclose(scorer.score(*pairs), golden[f"plda {name}/scores"].ravel(), rtol=0, atol=1e-6)


def test_a_model_of_ours_scores_as_speechbrains_of_the_same_training_set(pairs):
    golden = np.load(FOLDER / "scoring.npz")
    vectors, labels = training()
    scorer = build_scorer("plda", {"length_norm": False, "iterations": 200})
    scores = scorer.fit(embeddings_of(vectors), labels).score(*pairs)
    np.testing.assert_allclose(scores, golden["plda converged/scores"].ravel(), rtol=1e-6, atol=1e-6)


def test_scores_are_ratios_of_likelihoods_of_what_fit_prepared(pairs):
    from scipy.stats import multivariate_normal

    embeddings, trials = pairs
    vectors, labels = training()
    scorer = build_scorer("plda", {"dimension": 3}).fit(embeddings_of(vectors), labels)
    found = scorer._prepared(embeddings.vectors[:, 0].astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    model = scorer.model
    assert len(model.psi) == 3
    between, within = model.between, model.within
    mean = np.tile(model.mean, 2)
    one = np.block([[between + within, between], [between, between + within]])
    two = np.kron(np.eye(2), between + within)
    both = np.concatenate([found[trials.left], found[trials.right]], axis=1)
    expected = multivariate_normal(mean, one).logpdf(both) - multivariate_normal(mean, two).logpdf(both)
    np.testing.assert_allclose(scorer.score(embeddings, trials), expected, rtol=0, atol=1e-8)


def test_crops_are_averaged(pairs):
    embeddings, trials = pairs
    vectors, labels = training()
    shift = np.array([0.5, -0.5], np.float32)[:, None]
    crops = embeddings_of(embeddings.vectors + shift)
    train = embeddings_of(vectors[:, None] + shift)
    expected = build_scorer("plda").fit(embeddings_of(vectors), labels).score(embeddings, trials)
    found = build_scorer("plda").fit(train, labels).score(crops, trials)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_the_way_against_others_is_that_of_trials(pairs):
    embeddings, trials = pairs
    scorer = build_scorer("plda").fit(
        *[f(x) for f, x in zip((embeddings_of, np.asarray), training(), strict=True)]
    )
    matrix = np.concatenate([block for _, block in scorer.against(embeddings, np.arange(12), embeddings)])
    np.testing.assert_allclose(matrix[trials.left, trials.right], scorer.score(embeddings, trials), atol=1e-9)


def test_too_few_utterances_are_refused_and_shrinkage_mends_it():
    vectors, labels = training()
    few = embeddings_of(vectors[:7]), labels[:7]  # 3 and 4 of two speakers
    with pytest.raises(UserError, match=r"scoring plda: the within-speaker .* \(rank 5 of 6 .* shrinkage"):
        build_scorer("plda").fit(*few)
    scorer = build_scorer("plda", {"shrinkage": 0.1}).fit(*few)
    assert np.isfinite(scorer.score(few[0], trials_of([0], [1], few[0].names))).all()
