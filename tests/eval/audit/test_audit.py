"""Labels that were swapped on purpose are found, and speakers that are there twice."""

from __future__ import annotations

import numpy as np
import pytest

from eval.audit import similarity
from eval.audit.audit import audit
from eval.audit.similarity import closest_pairs, compare, unit_means
from shard_tools.errors import UserError


def voices(speakers=40, each=10, size=48, noise=0.8, seed=0):
    """Directions of speakers, and utterances around them; float32 (N, 1, D), labels."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((speakers, size))
    labels = np.repeat(np.arange(speakers), each)
    vectors = centres[labels] + noise * random.standard_normal((len(labels), size))
    return vectors[:, None].astype(np.float32), labels


def test_swapped_labels_are_found_and_no_others():
    vectors, truth = voices()
    labels = truth.copy()
    random = np.random.default_rng(1)
    swapped = np.sort(random.permutation(len(labels))[:24])
    labels[swapped] = (labels[swapped] + random.integers(1, 40, 24)) % 40
    found = audit(vectors, labels, 40)
    assert sorted(suspect.row for suspect in found.suspects) == swapped.tolist()
    for suspect in found.suspects:
        assert suspect.rival_label == truth[suspect.row]
        assert suspect.kind == "other speaker"
        assert suspect.rival > suspect.own
    gaps = [suspect.own - suspect.rival for suspect in found.suspects]
    assert gaps == sorted(gaps)
    assert found.pairs == ()


def test_a_speaker_of_whom_many_are_somebody_elses_does_not_hide_them():
    """4 of 10 utterances of speaker 0 are speaker 1's: they are in the mean of the first round."""
    vectors, truth = voices()
    labels = truth.copy()
    labels[10:14] = 0
    found = audit(vectors, labels, 40)
    assert sorted(suspect.row for suspect in found.suspects) == [10, 11, 12, 13]


def test_noise_is_like_nobody():
    vectors, labels = voices()
    vectors[7] = np.random.default_rng(3).standard_normal((1, 48))
    [suspect] = audit(vectors, labels, 40).suspects
    assert (suspect.row, suspect.kind) == (7, "nobody")


def test_a_speaker_under_two_names_is_a_pair_and_not_mislabelled():
    vectors, truth = voices()
    labels = truth.copy()
    labels[:5] = 40  # speaker 0 under two names
    labels[25:30] = 41  # and speaker 2
    found = audit(vectors, labels, 42)
    assert {(pair.first, pair.second) for pair in found.pairs} == {(0, 40), (2, 41)}
    assert found.pairs_in_all == 2
    assert found.suspects == ()
    assert found.pair_threshold is not None
    assert audit(vectors, labels, 42, pair_similarity=0.9999).pairs == ()


def test_similarities_are_those_of_the_definition(monkeypatch):
    vectors, labels = voices(6, 4, 8)
    vectors = np.concatenate([vectors, vectors[::-1]], axis=1)  # two crops
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", 4 * 6 * 5)  # blocks of five utterances
    units = unit_means(vectors)
    trusted = np.ones(24, bool)
    trusted[[1, 5]] = False
    found = compare(units, labels, 6, trusted, {2: np.array([4])})
    for row in range(24):
        crops = vectors[row].astype(np.float64)
        mine = (crops / np.linalg.norm(crops, axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(units[row], mine / np.linalg.norm(mine), atol=1e-6)
        mine = units[row].astype(np.float64)

        def cosine(rows, mine=mine):
            mean = units[rows].astype(np.float64).sum(axis=0)
            return mean @ mine / np.linalg.norm(mean)

        own = labels[row]
        others = np.flatnonzero((labels == own) & trusted & (np.arange(24) != row))
        assert found.own[row] == pytest.approx(cosine(others), abs=1e-6)
        hidden = {own, 4} if own == 2 else {own}
        cohort = {label: cosine((labels == label) & trusted) for label in range(6) if label not in hidden}
        assert found.rival_label[row] == max(cohort, key=lambda label: cohort[label])
        assert found.rival[row] == pytest.approx(max(cohort.values()), abs=1e-6)
        assert found.mean[row] == pytest.approx(np.mean(list(cohort.values())), abs=1e-6)
        assert found.std[row] == pytest.approx(np.std(list(cohort.values())), abs=1e-5)


def test_pairs_are_the_same_in_blocks_of_any_size(monkeypatch):
    means = unit_means(np.random.default_rng(0).standard_normal((30, 1, 4)).astype(np.float32))
    products = np.triu(means @ means.T, 1)
    above = np.argwhere(products > 0.5)
    expected = sorted(((-products[a, b], a, b) for a, b in above.tolist()))[:10]
    for size in (4 * 30, 4 * 30 * 7, 1 << 20):
        monkeypatch.setattr(similarity, "_PAIR_BYTES", size)
        pairs, total = closest_pairs(means, 0.5, 10)
        assert total == len(above)
        assert [(a, b) for a, b, _ in pairs] == [(a, b) for _, a, b in expected]


def test_speakers_with_one_utterance_are_named_and_not_judged():
    vectors, labels = voices(5, 4)
    keep = np.r_[0, 4:20]
    found = audit(vectors[keep], labels[keep], 5)
    assert found.single == (0,)
    assert np.isnan(found.similarities.own[0])
    assert all(suspect.row for suspect in found.suspects)


def test_what_cannot_be_audited():
    vectors, labels = voices(3, 4)
    with pytest.raises(UserError, match="one alone"):
        audit(vectors[:4], labels[:4], 3)
    vectors[2] = np.nan
    with pytest.raises(UserError, match="1 of 12 utterances hold NaN"):
        audit(vectors, labels, 3)
