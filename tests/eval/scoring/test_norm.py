from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of, speakers, trials_of
from scoring_recipe import FOLDER, TOP, cohort, trial_embeddings, trials

from eval.scoring import build_scorer, dot
from eval.scoring.norm import KINDS, normalise, speaker_means
from shard_tools.errors import UserError


@pytest.fixture(scope="module")
def given():
    """Scorer, raw scores, embeddings, trials and cohort of the golden file."""
    embeddings, pairs = embeddings_of(trial_embeddings()), trials()
    listed = trials_of(pairs[:, 0], pairs[:, 1], embeddings.names)
    scorer = build_scorer("cosine")
    return scorer, scorer.score(embeddings, listed), embeddings, listed, embeddings_of(cohort(), "c")


@pytest.mark.parametrize(("kind", "top"), [("as", TOP), ("s", 2)])
def test_scores_and_statistics_are_wespeakers(given, kind, top, monkeypatch):
    monkeypatch.setattr(dot, "_BLOCK_BYTES", 1000)
    golden, pairs = np.load(FOLDER / "scoring.npz"), trials()
    found = normalise(kind, *given, top)
    mean, std = golden[f"{kind}/mean"][pairs], golden[f"{kind}/std"][pairs]
    np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.std, std, rtol=0, atol=1e-6)
    expected = ((given[1][:, None] - mean) / std).mean(axis=1)
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-6)
    # Their program works in float32, and writes five digits.
    np.testing.assert_allclose(found.scores, golden[f"{kind}/scores"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["cosine", "euclidean", "centred", "lda", "plda"])
def test_every_kind_and_scorer_is_what_its_definition_says(name):
    train, labels = speakers()
    others, _ = speakers(4, 3, seed=1)
    embeddings, members = embeddings_of(others), embeddings_of(train[::9], "c")
    scorer = build_scorer(name).fit(embeddings_of(train), labels)
    listed = trials_of([0, 3, 7], [1, 9, 2], embeddings.names)
    both = embeddings_of(np.concatenate([others, train[::9]]))
    rows, columns = np.meshgrid(np.arange(12), 12 + np.arange(len(members)), indexing="ij")
    cross = scorer.score(both, trials_of(rows.ravel(), columns.ravel(), both.names)).reshape(12, -1)
    raw = scorer.score(embeddings, listed)
    each = {
        kind: [
            (raw - cross[side].mean(axis=1)) / cross[side].std(axis=1) for side in (listed.left, listed.right)
        ]
        for kind, cross in (("s", cross), ("as", np.sort(cross, axis=1)[:, -4:]))
    }
    expected = {
        "z": each["s"][0],
        "t": each["s"][1],
        "s": np.mean(each["s"], 0),
        "as": np.mean(each["as"], 0),
    }
    for kind in KINDS:
        found = normalise(kind, scorer, raw, embeddings, listed, members, 4)
        np.testing.assert_allclose(found.scores, expected[kind], rtol=1e-4, atol=1e-4)
        assert found.mean.shape == found.std.shape == (3, 2)


def test_cohorts_that_cannot_serve_are_refused(given):
    scorer, raw, embeddings, listed, _ = given
    with pytest.raises(UserError, match=r"the 41 highest .*, and the cohort has 40; .* a top of 2 to 40"):
        normalise("as", *given, 41)
    with pytest.raises(UserError, match="the 300 highest"):
        normalise("as", *given)
    with pytest.raises(UserError, match="the cohort has 1 member"):
        normalise("s", scorer, raw, embeddings, listed, embeddings_of(cohort()[:1]))
    alike = embeddings_of(np.repeat(cohort()[:1], 5, axis=0))
    with pytest.raises(UserError, match=r"the cohort scores the same with 'u0' \(and with 11 other"):
        normalise("s", scorer, raw, embeddings, listed, alike)
    broken = cohort()
    broken[3, 0] = np.nan
    with pytest.raises(UserError, match="'c3' holds numbers that are not finite"):
        normalise("s", scorer, raw, embeddings, listed, embeddings_of(broken, "c"))
    with pytest.raises(ValueError, match="one of z, t, s, as"):
        normalise("asnorm", *given)


def test_a_cohort_of_just_the_top_is_s_norm(given):
    whole, top = normalise("s", *given), normalise("as", *given, 40)
    np.testing.assert_array_equal(whole.scores, top.scores)


def test_speaker_means_are_of_all_crops_as_they_are():
    vectors = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
    found = speaker_means(embeddings_of(vectors), np.array([7, 2, 7, 7, 2, 30]))
    assert (found.names, found.crops, found.vectors.shape) == (("2", "7", "30"), 1, (3, 1, 3))
    expected = [vectors[rows].mean(axis=(0, 1)) for rows in ([1, 4], [0, 2, 3], [5])]
    np.testing.assert_allclose(found.vectors[:, 0], expected, rtol=1e-6)
    assert speaker_means(embeddings_of(vectors[:, 0]), np.zeros(6, np.int64)).crops == 0
