from __future__ import annotations

import pytest

from eval.scoring import SCORERS, build_scorer, learns, needs_training, options_of
from models.options import ModelError


def test_what_each_learns_from_is_known_beforehand():
    assert {name: learns(name) for name in SCORERS} == {
        "cosine": "nothing",
        "euclidean": "nothing",
        "centred": "utterances",
        "whitening": "utterances",
        "lda": "speakers",
        "plda": "speakers",
    }
    assert [name for name in SCORERS if not needs_training(name)] == ["cosine", "euclidean"]


def test_options_are_typed_and_listed():
    assert build_scorer("plda", {"iterations": 3}).iterations == 3
    assert options_of("cosine") == []
    assert options_of("lda")[0] == "dimension: a whole number from 0 to 65536 (default 0)"


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("dot", {}, "unknown scoring 'dot'; there are: centred, cosine, euclidean, lda, plda, whitening"),
        ("cosine", {"dimension": 3}, "scoring 'cosine' has no option 'dimension'; its options: none at all"),
        ("lda", {"dimension": -1}, "option 'dimension' is -1, it must be a whole number"),
        ("plda", {"shrinkage": 2}, "option 'shrinkage' is 2.0, it must be a number .* from 0 to 1"),
    ],
)
def test_other_names_and_options_are_refused(name, options, reason):
    with pytest.raises(ModelError, match=reason):
        build_scorer(name, options)
