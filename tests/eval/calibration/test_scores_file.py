from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from eval.calibration.scores_file import read_scores, scored_trials
from eval.trials import read_trials
from shard_tools.errors import UserError

LIST = "1 a/1 a/2\n0 a/1 b/1\n0 a/2 b/1\n1 b/1 b/2\n"
SCORES = "0.9 a/1 a/2\n-0.1 a/1 b/1\n2e-1 a/2 b/1\n0.8 b/1 b/2\n"


@pytest.fixture
def files(tmp_path):
    def write(scores=SCORES, trials=LIST):
        (tmp_path / "scores.txt").write_bytes(scores.encode() if isinstance(scores, str) else scores)
        (tmp_path / "trials.txt").write_text(trials)
        return str(tmp_path / "scores.txt"), str(tmp_path / "trials.txt")

    return write


def pairs(trials):
    return [(trials.names[a], trials.names[b]) for a, b in zip(trials.left, trials.right, strict=True)]


def test_labels_come_from_the_list_in_any_order(files):
    scores, trials = scored_trials(*files())
    np.testing.assert_array_equal(scores, [0.9, -0.1, 0.2, 0.8])
    lines = LIST.splitlines(keepends=True)
    scores, trials = scored_trials(*files(trials="".join(lines[::-1])))
    np.testing.assert_array_equal(scores, [0.8, 0.2, -0.1, 0.9])
    np.testing.assert_array_equal(trials.label, [1, 0, 0, 1])


def test_without_a_list_first_folders_say_who_speaks(files):
    url, _ = files()
    _, trials = scored_trials(url, None)
    np.testing.assert_array_equal(trials.label, [1, 0, 0, 1])
    assert pairs(trials) == [("a/1", "a/2"), ("a/1", "b/1"), ("a/2", "b/1"), ("b/1", "b/2")]
    url, _ = files("0.9 a1 a2\n")
    with pytest.raises(UserError, match="give --trials FILE"):
        scored_trials(url, None)
    url, _ = files("0.9 a/1 a/2\n")
    with pytest.raises(UserError, match="no non-target trials"):
        scored_trials(url, None)


def test_paths_with_blanks_are_parted_by_tabs(files):
    url, listed = files("0.5\ta b/1\ta b/2\n0.1\ta b/1\tc/1\n", "1\ta b/1\ta b/2\n0\ta b/1\tc/1\n")
    scores, trials = scored_trials(url, listed)
    assert pairs(trials)[0] == ("a b/1", "a b/2")
    np.testing.assert_array_equal(scores, [0.5, 0.1])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ("", "is empty"),
        (b"\xff\xfe1", "not UTF-8"),
        ("0.5 a/1\n", "line 1: expected 'score path path', found '0.5 a/1'"),
        ("0.5 a/1 b/1\nhigh a/1 b/1\n", "line 2: expected 'score path path', found 'high a/1 b/1'"),
        ("0.5 a/1 b/1 target\n", "line 1: expected"),
        ("0.5 a/1 b/1\nnan a/1 b/2\ninf a/1 b/3\n", "line 2: nan is no score; 2 of 3 scores are not finite"),
    ],
)
def test_damaged_scores(files, scores, message):
    url, _ = files(scores)
    with pytest.raises(UserError, match=re.escape(message)):
        read_scores(url)


def test_lists_that_do_not_match(files):
    more = "".join(f"0 a/1 x/{n}\n" for n in range(12))
    with pytest.raises(
        UserError, match=r"12 of its trials have no score .*'a/1 x/9' and 2 more; give the list"
    ):
        scored_trials(*files(trials=LIST + more))
    with pytest.raises(
        UserError, match=r"scores\.txt: 1 of its trials are not in .*: 'b/1 b/2'; give the list"
    ):
        scored_trials(*files(trials=LIST[: LIST.rindex("1 b/1")]))


def test_a_list_without_labels_is_refused(files, monkeypatch):
    url, listed = files()
    trials = read_trials(listed)
    unlabelled = replace(trials, label=np.full(4, -1, np.int8))
    monkeypatch.setattr("eval.calibration.scores_file.read_trials", lambda _: unlabelled)
    with pytest.raises(UserError, match="has no labels"):
        scored_trials(url, listed)
