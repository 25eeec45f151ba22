from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from metrics_recipe import FILE, quality_columns

from eval.calibration import Quality, fit_calibration, load_calibration
from eval.calibration.calibration import TrainedOn
from eval.metrics import OperatingPoint, actual_dcf, cllr, error_rates, min_cllr, min_dcf
from shard_tools.errors import UserError

METRICS = {"scoring": "cosine", "crops": 10, "crop_feature_frames": 400, "eer": 3.0}


def drawn(trials=3000, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(trials) < 0.4).astype(int)
    noise = np.sort(random.uniform(0.5, 2.0, (trials, 2)), axis=1)  # which makes all seem less alike
    scores = 0.3 + 0.1 * (2.5 * labels + random.standard_normal(trials) - noise.sum(axis=1))
    return scores, labels, Quality(("noise_min", "noise_max"), noise)


@pytest.fixture
def fitted():
    scores, labels, quality = drawn()
    point = OperatingPoint(0.01, c_miss=10.0)
    return fit_calibration(scores, labels, quality, point=point, made_by="ab" * 32, metrics=METRICS)


def test_calibrated_scores_cost_hardly_more_than_need_be():
    scores, labels, quality = drawn()
    alone, helped = fit_calibration(scores, labels), fit_calibration(scores, labels, quality)
    held_out, held_labels, held_quality = drawn(seed=1)
    llr = alone.apply(held_out)
    least = min_cllr(error_rates(held_out, held_labels))
    assert least <= cllr(llr, held_labels) < least + 0.02
    assert cllr(helped.apply(held_out, held_quality), held_labels) < least  # what no map of scores reaches


def test_the_threshold_is_the_same_before_and_after():
    scores, labels, _ = drawn()
    found = fit_calibration(scores, labels, point=OperatingPoint(0.3))
    llr = found.apply(scores)
    np.testing.assert_array_equal(llr >= found.threshold, scores >= found.score_threshold)
    rates = error_rates(llr, labels)
    assert actual_dcf(rates, OperatingPoint(0.3)) < min_dcf(rates, 0.3)[0] + 0.05


def test_probabilities_are_those_of_bayes(fitted):
    assert fitted.probability(0.0, 0.5) == pytest.approx(0.5)
    assert fitted.probability(np.log(4.0), 0.2) == pytest.approx(0.5)
    assert fitted.probability([-2000.0, 2000.0], 0.5).tolist() == [0.0, 1.0]
    assert fitted.probability(fitted.threshold) == pytest.approx(1 / 11)  # a miss costs ten times as much
    with pytest.raises(UserError, match="prior 1"):
        fitted.probability(0.0, 1.0)


def test_a_saved_one_is_the_same(fitted, tmp_path):
    url = str(tmp_path / "calibration.json")
    fitted.save(url)
    assert load_calibration(url) == fitted
    kept = json.loads((tmp_path / "calibration.json").read_text())
    assert kept["threshold"] == pytest.approx(np.log(99 / 10))
    assert (kept["made_by"], kept["scored"]["scoring"], kept["scored"]["normalisation"]) == (
        "ab" * 32,
        "cosine",
        None,
    )


def test_quality_that_is_not_there_is_named(fitted):
    with pytest.raises(UserError, match="noise_min, noise_max; here are none"):
        fitted.apply([0.1])
    with pytest.raises(UserError, match="noise_max; here are noise_min"):
        fitted.apply([0.1], Quality(("noise_min",), np.ones((1, 1))))


@pytest.mark.parametrize(
    ("made_by", "changed", "message"),
    [
        ("cd" * 32, {}, "is of the checkpoint abababababab…, the scores of the checkpoint cdcdcdcdcdcd…"),
        ("", {}, "the scores of a checkpoint that is not known"),
        ("ab" * 32, {"scoring": "euclidean"}, "with scoring 'cosine', these have 'euclidean'"),
        ("ab" * 32, {"normalisation": "as"}, "with normalisation none, these have 'as'"),
        ("ab" * 32, {"crops": 0, "crop_feature_frames": None}, "with crops 10, these have 0"),
    ],
)
def test_scores_of_another_kind_are_refused(fitted, made_by, changed, message):
    fitted.check("ab" * 32, METRICS)
    with pytest.raises(UserError, match=message):
        fitted.check(made_by, METRICS | changed)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], "4 trials are parted without error"),
        ([0.0, 1.0, 2.0, 3.0, 1.5], [1, 1, 0, 0, 1], "parted without error"),
        ([2.0, 0.0, 3.0, 1.0], [0, 1, 0, 1], "parted without error"),
        ([0.0, 1.0, 2.0, 3.0], [1, 0, 1, 0], "weight came out as -"),
        ([1.0, 1.0, 1.0], [0, 1, 1], "the score is the same in all 3 trials"),
    ],
)
def test_what_cannot_be_calibrated(scores, labels, message):
    with pytest.raises(UserError, match=message):
        fit_calibration(scores, labels)


def test_a_measure_that_never_changes_is_named():
    scores, labels, _ = drawn(100)
    with pytest.raises(UserError, match="the crop_max is the same in all 100 trials"):
        fit_calibration(scores, labels, Quality(("crop_max",), np.full((100, 1), 4.0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "else"}, "field format is 'else'"),
        ({"version": 2}, "field version is 2, this release reads 1"),
        ({"weight": "much"}, "field weight: expected `float`, got `str`"),
        ({"weight": -1.0}, "field weight: -1.0 is not above 0"),
        ({"prior": 1.5}, "field prior: "),
        ({"quality": {"noise_min": None}}, "field quality"),
        ({"trained_on": {}}, "field trained_on: "),
        ({"kind": "forest"}, "field kind: "),
    ],
)
def test_damage_is_named(fitted, tmp_path, change, message):
    path = tmp_path / "calibration.json"
    fitted.save(str(path))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_calibration(str(path))


def test_what_is_no_calibration_at_all(fitted, tmp_path):
    path = tmp_path / "calibration.json"
    fitted.save(str(path))
    whole = path.read_bytes()
    for data in (
        b"",
        whole[:-20],
        b"[1]",
        b"\xff\xfe",
        whole.replace(b'"weight": ', b'"weight": NaN, "w": '),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"calibration\.json"):
            load_calibration(str(path))


def test_applied_as_wespeaker_applies_its_own(fitted):
    theirs = json.loads(FILE.read_text())["calibration"]["stopped"]
    columns = quality_columns()
    names = tuple(f"q{n}" for n in range(12))
    ours = dataclasses.replace(
        fitted,
        weight=theirs["weights"][0],
        offset=theirs["offset"],
        quality=dict(zip(names, theirs["weights"][1:], strict=True)),
        trained_on=TrainedOn("", "", 600, 240),
    )
    llr = ours.apply(columns[:, 0], Quality(names, columns[:, 1:]))
    np.testing.assert_allclose(llr[:20], theirs["llr"], rtol=0, atol=1e-6)
