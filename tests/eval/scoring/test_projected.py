from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of, speakers, trials_of

from eval.scoring import build_scorer
from shard_tools.errors import UserError


@pytest.fixture(scope="module")
def sets():
    """Training vectors and labels, evaluated ones, and all pairs of the latter."""
    vectors, labels = speakers()
    others, _ = speakers(4, 3, seed=1)
    left, right = np.triu_indices(len(others), 1)
    return vectors, labels, others, trials_of(left, right, [f"u{row}" for row in range(len(others))])


def cosines(vectors, trials):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (units[trials.left] * units[trials.right]).sum(axis=1)


def score(name, sets, **options):
    vectors, labels, others, trials = sets
    scorer = build_scorer(name, options).fit(embeddings_of(vectors), labels)
    return scorer.score(embeddings_of(others), trials)


def test_centred_is_cosine_without_the_mean_of_the_training_set(sets):
    vectors, _, others, trials = sets
    expected = cosines(others - vectors.astype(np.float64).mean(axis=0), trials)
    np.testing.assert_allclose(score("centred", sets), expected, rtol=0, atol=1e-6)


def test_crops_are_projected_one_by_one_and_all_their_pairs_count(sets):
    vectors, _, others, _ = sets
    crops = np.stack([others[:6], others[6:]], axis=1)  # of 6 utterances
    trials = trials_of([0, 1], [3, 2], [f"u{row}" for row in range(6)])
    found = build_scorer("centred").fit(embeddings_of(vectors)).score(embeddings_of(crops), trials)
    around = crops - vectors.astype(np.float64).mean(axis=0)
    units = around / np.linalg.norm(around, axis=2, keepdims=True)
    expected = [(units[a] @ units[b].T).mean() for a, b in ((0, 3), (1, 2))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_whitening_makes_the_covariance_the_identity(sets):
    vectors, _, others, trials = sets
    mean, covariance = vectors.mean(axis=0), np.cov(vectors.T.astype(np.float64), bias=True)
    # Cosines are those of Mahalanobis's inner product, whatever rotation whitens.
    inner = (others - mean) @ np.linalg.inv(covariance) @ (others - mean).T
    length = np.sqrt(np.diag(inner))
    expected = inner[trials.left, trials.right] / length[trials.left] / length[trials.right]
    np.testing.assert_allclose(score("whitening", sets), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dimension", [0, 2])
def test_lda_is_scikit_learns(sets, dimension):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    vectors, labels, others, trials = sets
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=dimension or None)
    theirs.fit(vectors.astype(np.float64), labels)
    projected = (others - vectors.astype(np.float64).mean(axis=0)) @ theirs.scalings_[:, : dimension or 5]
    expected = cosines(projected, trials)
    np.testing.assert_allclose(score("lda", sets, dimension=dimension), expected, rtol=0, atol=1e-6)


def test_what_cannot_be_projected_is_refused(sets):
    vectors, labels, others, trials = sets
    embeddings = embeddings_of(others)
    for name in ("centred", "whitening", "lda", "plda"):
        with pytest.raises(UserError, match=f"scoring {name} learns from a training set, and none was given"):
            build_scorer(name).score(embeddings, trials)
        scorer = build_scorer(name).fit(embeddings_of(vectors), labels)
        with pytest.raises(UserError, match="has learnt from embeddings of 5 dimensions, and these have 3"):
            scorer.score(embeddings_of(others[:, :3]), trials)
    with pytest.raises(UserError, match="dimension is 6; 30 speakers and 5 dimensions allow 5 at most"):
        score("lda", sets, dimension=6)
    three = embeddings_of(vectors[:24])  # of 3 speakers
    with pytest.raises(UserError, match="dimension is 3; 3 speakers and 5 dimensions allow 2 at most"):
        build_scorer("lda", {"dimension": 3}).fit(three, labels[:24])
    with pytest.raises(UserError, match=r"scoring lda: the within-speaker .* singular \(rank 1 of 5"):
        build_scorer("lda").fit(embeddings_of(vectors[7:10]), labels[7:10])
    with pytest.raises(UserError, match=r"scoring whitening: the total .* singular \(rank 3 of 5"):
        build_scorer("whitening").fit(embeddings_of(vectors[:4]))
