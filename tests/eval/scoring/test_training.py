from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of, speakers

from eval.scoring import training
from eval.scoring.training import (
    mean_of,
    require_speakers,
    require_utterances,
    scatter,
    usable,
    utterance_vectors,
)
from shard_tools.errors import UserError


@pytest.mark.parametrize("rows", [7, 1000])
def test_scatter_is_that_of_all_rows_at_once(rows, monkeypatch):
    monkeypatch.setattr(training, "_ROWS", rows)
    vectors, labels = speakers(6, 5)
    order = np.random.default_rng(0).permutation(len(labels))
    vectors, labels = vectors[order], labels[order]
    embeddings = embeddings_of(np.stack([vectors, vectors + 2], axis=1))  # two crops, whose mean counts
    exact = vectors.astype(np.float64) + 1
    mean = mean_of(utterance_vectors(embeddings))
    np.testing.assert_allclose(mean, exact.mean(axis=0))
    found = scatter(utterance_vectors(embeddings), labels, mean)
    means = np.array([exact[labels == speaker].mean(axis=0) for speaker in range(6)])
    within = (exact - means[labels]).T @ (exact - means[labels])
    np.testing.assert_allclose(found.within, within, atol=1e-5)
    np.testing.assert_allclose(found.between, 5 * (means - mean).T @ (means - mean), atol=1e-5)
    assert found.counts.tolist() == [5] * 6


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, "nothing says who speaks in the training set; give shards, or paths"),
        ([4, 4, 4, 4], "all 4 utterances of the training set are of one speaker; it takes two or more"),
        ([1, 2, 3, 4], "each of the 4 speakers of the training set has one utterance; .* give two or more"),
    ],
)
def test_training_sets_without_two_of_a_speaker_are_refused(labels, reason):
    labels = None if labels is None else np.array(labels)
    with pytest.raises(UserError, match=f"scoring lda.*{reason}"):
        require_speakers(embeddings_of(np.ones((4, 3))), labels, "lda")


def test_labels_are_numbered_and_one_utterance_is_too_few():
    labels = np.array([9, 9, 3, 70])
    assert require_speakers(embeddings_of(np.ones((4, 3))), labels, "lda").tolist() == [1, 1, 0, 2]
    with pytest.raises(UserError, match=r"scoring centred: the training set has 1 utterance"):
        require_utterances(embeddings_of(np.ones((1, 3))), "centred")
    with pytest.raises(UserError, match="'u2' holds numbers that are not finite"):
        require_utterances(embeddings_of([[1.0], [1.0], [np.nan]]), "centred")


def test_a_singular_covariance_is_refused_with_the_remedy_which_works():
    covariance = np.diag([4.0, 2.0, 0.0])
    with pytest.raises(UserError, match=r"within-speaker covariance .* singular \(rank 2 of 3 .* shrinkage"):
        usable(covariance, "within-speaker", "plda", 0.0)
    np.testing.assert_allclose(usable(covariance, "", "", 0.5), np.diag([3.0, 2.0, 1.0]))
    with pytest.raises(UserError, match="rank 0 of 3"):  # all utterances alike: nothing helps but others
        usable(np.zeros((3, 3)), "total", "whitening", 0.5)
