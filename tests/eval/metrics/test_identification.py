from __future__ import annotations

import json

import numpy as np
import pytest

from eval.embeddings import Embeddings
from eval.metrics import identification
from eval.metrics.identification import identification_metrics
from shard_tools.errors import UserError


def embeddings(vectors, prefix):
    vectors = np.asarray(vectors, np.float32)
    vectors = vectors[:, None] if vectors.ndim == 2 else vectors
    crops = vectors.shape[1] if vectors.shape[1] > 1 else 0
    return Embeddings(tuple(f"{prefix}{n}" for n in range(len(vectors))), vectors, crops, 200 if crops else 0)


def test_worked_by_hand():
    # Two utterances of a (one long: length must not count), one of b, one of c.
    enrolment = embeddings([[10, 0, 0], [0.6, 0.8, 0], [0, 1, 0], [0, 0, 1]], "e")
    tests = embeddings([[0.9, 0.1, 0], [0.3, 0.9, 0.1], [0.8, 0.1, 0.3]], "t")
    found = identification_metrics(
        enrolment, ["a", "a", "b", "c"], tests, ["a", "a", "c"], top=(1, 2), draws=50
    )
    # The first is a's; the second is more like b than a; of the third c comes second, before b.
    assert found["top_k"] == pytest.approx({"1": 100 / 3, "2": 100.0})
    assert found["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert (found["enrolled_speakers"], found["test_utterances"]) == (3, 3)
    assert found["intervals"]["top_k"]["2"] == {"low": 100.0, "high": 100.0}
    assert found["intervals"]["top_k"]["1"] == {"low": 0.0, "high": 50.0}  # c has none right, a half
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_against_each_test_by_itself(monkeypatch):
    random = np.random.default_rng(0)
    centres = random.standard_normal((12, 1, 8))
    own = np.arange(60) % 12

    def drawn(prefix):
        return embeddings(centres[own] + 1.2 * random.standard_normal((60, 3, 8)), prefix)

    enrolment, tests = drawn("e"), drawn("t")
    names = [f"s{number}" for number in own]

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    # Each utterance's mean has length 1 before they are averaged.
    models = [
        unit(unit(unit(enrolment.vectors.astype(float))[own == s].mean(axis=1)).mean(axis=0))
        for s in range(12)
    ]
    sides = unit(tests.vectors.astype(float)).mean(axis=1)
    ranks = [1 + sum(side @ m > side @ models[s] for m in models) for side, s in zip(sides, own, strict=True)]
    for chunk in (identification._CHUNK_BYTES, 8 * 12 * 7):
        monkeypatch.setattr(identification, "_CHUNK_BYTES", chunk)
        found = identification_metrics(enrolment, names, tests, names, top=(1, 5), draws=10)
        assert found["top_k"] == pytest.approx({str(k): 100 * np.mean(np.array(ranks) <= k) for k in (1, 5)})


def test_a_speaker_who_is_just_as_like_comes_first():
    enrolment, tests = embeddings([[1, 0], [1, 0]], "e"), embeddings([[1, 0]], "t")
    found = identification_metrics(enrolment, ["a", "b"], tests, ["a"], top=(1, 2))
    assert found["top_k"] == {"1": 0.0, "2": 100.0}
    assert found["intervals"] is None
    assert "one speaker" in found["bootstrap"]["reason"]


def test_speakers_who_are_not_enrolled_are_named():
    enrolment, tests = embeddings([[1, 0]], "e"), embeddings(np.ones((13, 2)), "t")
    spoken = ["a", *(f"x{n}" for n in range(12))]
    with pytest.raises(
        UserError, match=r"12 speakers of the test utterances are not enrolled: x0, .* and 2 more"
    ):
        identification_metrics(enrolment, ["a"], tests, spoken)
    with pytest.raises(UserError, match="top 0"):
        identification_metrics(enrolment, ["a"], tests, ["a"] * 13, top=(0,))
