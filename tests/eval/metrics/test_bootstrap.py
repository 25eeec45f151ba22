from __future__ import annotations

import json

import numpy as np
import pytest

from eval.metrics import detection_metrics
from eval.metrics.bootstrap import bias_corrected, bootstrap, paired_test, sides_of
from eval.metrics.resampling import Resampled, multiplicities


def listed(speakers=30, seed=0, spread=0.6):
    """Scores, labels and sides of a list whose speakers differ in how well they are told from others."""
    random = np.random.default_rng(seed)
    own = np.repeat(np.arange(speakers), 20)
    left = random.integers(0, speakers, 1500)
    right = (left + random.integers(1, speakers, 1500)) % speakers
    ease = spread * random.standard_normal(speakers)
    scores = np.concatenate((2.4 + ease[own], spread * (ease[left] + ease[right])))
    labels = np.concatenate((np.ones(len(own), np.int8), np.zeros(len(left), np.int8)))
    sides = np.concatenate((np.stack((own, own), 1), np.stack((left, right), 1)))
    return scores + random.standard_normal(len(scores)), labels, sides


def test_every_interval_holds_its_figure_and_is_ready_for_json():
    scores, labels, sides = listed()
    found = bootstrap(scores, labels, sides, [0.05, 0.3], calibrated=True, draws=200)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    figures = detection_metrics(scores, labels, [0.05, 0.3], calibrated=True)
    intervals = found["intervals"]
    assert set(intervals) == {"eer", "min_dcf", "frr_at_far", "actual_dcf", "cllr"}
    for name in ("eer", "cllr"):
        assert intervals[name]["low"] < figures[name] < intervals[name]["high"]
    for name in ("min_dcf", "frr_at_far", "actual_dcf"):
        assert set(intervals[name]) == set(figures[name])
        for key, ends in intervals[name].items():
            assert ends["low"] <= figures[name][key] <= ends["high"]
    how = found["bootstrap"]
    assert (how["draws"], how["speakers"], how["confidence"], how["seed"]) == (200, 30, 0.95, 0)


def test_the_same_seed_gives_the_same_interval_in_any_order_of_trials():
    scores, labels, sides = listed()
    first = bootstrap(scores, labels, sides, [0.05], draws=20)
    order = np.random.default_rng(1).permutation(len(scores))
    assert bootstrap(scores[order], labels[order], sides[order], [0.05], draws=20) == first
    assert bootstrap(scores, labels, sides[:, ::-1], [0.05], draws=20) == first
    assert bootstrap(scores, labels, sides, [0.05], draws=20, seed=1) != first


def test_speakers_that_differ_widen_the_interval():
    scores, labels, sides = listed(spread=1.0)
    together = bootstrap(scores, labels, sides, [0.05], draws=200)["intervals"]["eer"]
    # Trials drawn one by one, as if no two had a speaker in common.
    alone = np.repeat(np.arange(len(scores))[:, None], 2, axis=1)
    one = Resampled(scores, labels, alone, [])
    drawn = [one.figures(multiplicities(0, draw, one.speakers))[0] for draw in range(200)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert together["high"] - together["low"] > 1.5 * (high - low)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda labels, sides: (labels, None), "speakers are not known"),
        (lambda labels, sides: (1 - labels, sides), "contradict each other in 2100 of 2100 trials"),
    ],
)
def test_without_speakers_there_is_a_reason(change, reason):
    scores, labels, sides = listed()
    labels, sides = change(labels, sides)
    found = bootstrap(scores, labels, sides, [0.05], draws=5)
    assert found["intervals"] is None
    assert reason in found["bootstrap"]["reason"]
    paired = paired_test(scores, scores, labels, sides, [0.05], draws=5)
    assert paired["differences"] is None
    assert reason in paired["bootstrap"]["reason"]


def test_too_few_speakers_have_no_interval():
    scores, labels = np.array([1.0, 2.0, 0.0, 3.0]), np.array([1, 1, 0, 0])
    sides = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])
    found = bootstrap(scores, labels, sides, [0.05], draws=100)  # half of the draws are of one speaker
    assert found["intervals"] is None
    assert found["bootstrap"]["reason"].startswith("2 speakers are too few: ")


def test_intervals_move_by_what_the_list_lies_off_the_draws():
    drawn = np.random.default_rng(0).standard_normal((20000, 4)) + np.array([0.0, 1.0, 0.0, 7.0])
    drawn[:, 3] = 7.0
    low, high = bias_corrected(drawn, np.array([0.0, 1.0, 0.5, 7.0]), 0.9)
    # Normal draws whose median is 0.5 sigma too low: both ends go up by twice that.
    np.testing.assert_allclose(low, [-1.645, -0.645, -0.645, 7.0], atol=0.06)
    np.testing.assert_allclose(high, [1.645, 2.645, 2.645, 7.0], atol=0.12)
    low, high = bias_corrected(drawn, np.full(4, 100.0), 0.9)  # never so high
    np.testing.assert_array_equal(high[:3] >= np.quantile(drawn, 0.999, axis=0)[:3], True)


def test_a_system_differs_from_itself_by_nothing():
    scores, labels, sides = listed()
    found = paired_test(scores, 3 * scores + 1, labels, sides, [0.05], draws=50)["differences"]
    for value in (found["eer"], found["min_dcf"]["0.05"]):
        assert value["difference"] == pytest.approx(0.0, abs=1e-12)
        assert value["low"] == pytest.approx(0.0, abs=1e-12)
        assert value["p"] == 1.0


def test_a_worse_system_is_told_from_a_better_one_and_not_by_chance():
    scores, labels, sides = listed()
    noise = np.random.default_rng(3).standard_normal(len(scores))
    found = paired_test(scores, scores + 1.5 * noise, labels, sides, [0.05], draws=200)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    eer = found["differences"]["eer"]
    both = [detection_metrics(s, labels, [])["eer"] for s in (scores, scores + 1.5 * noise)]
    assert eer["difference"] == pytest.approx(both[1] - both[0])
    assert 0 < eer["low"] < eer["difference"] < eer["high"]
    assert eer["p"] == 2 / 201
    back = paired_test(scores + 1.5 * noise, scores, labels, sides, [0.05], draws=200)["differences"]["eer"]
    assert (back["difference"], back["p"]) == (-eer["difference"], eer["p"])
    assert (back["low"], back["high"]) == pytest.approx((-eer["high"], -eer["low"]))


def test_a_paired_difference_is_sharper_than_the_figures_themselves():
    scores, labels, sides = listed(spread=1.0)
    other = scores + 0.1 * np.random.default_rng(4).standard_normal(len(scores))
    alone = bootstrap(scores, labels, sides, [0.05], draws=200)["intervals"]["eer"]
    paired = paired_test(scores, other, labels, sides, [0.05], draws=200)["differences"]["eer"]
    assert paired["high"] - paired["low"] < 0.5 * (alone["high"] - alone["low"])


def test_sides_are_the_speakers_of_the_utterances():
    sides = sides_of(np.array([0, 2]), np.array([1, 3]), np.array([7, 7, 8, 9]))
    np.testing.assert_array_equal(sides, [[7, 7], [8, 9]])
    assert sides_of(np.array([0]), np.array([1]), None) is None
