from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eval.metrics import OperatingPoint, cllr, detection_metrics, equal_error_rate, error_rates


def drawn():
    random = np.random.default_rng(2)
    labels = (random.random(3000) < 0.4).astype(np.int8)
    return random.standard_normal(3000) + 2.0 * labels, labels


def test_every_figure_is_named_and_ready_for_json():
    scores, labels = drawn()
    found = detection_metrics(scores, labels, [0.05, OperatingPoint(0.01, c_miss=10.0)], calibrated=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["eer"] == 100 * equal_error_rate(error_rates(scores, labels))[0]
    assert found["eer_convex_hull"] <= found["eer"] <= found["eer_voxceleb_trainer"]
    for name in ("min_dcf", "min_dcf_threshold", "actual_dcf", "operating_points"):
        assert list(found[name]) == ["0.05", "0.01 c_miss=10"]
    assert found["operating_points"]["0.01 c_miss=10"] == {"p_target": 0.01, "c_miss": 10.0, "c_fa": 1.0}
    assert list(found["frr_at_far"]) == ["1", "0.1", "0.01"]
    assert found["frr_at_far"]["1"] <= found["frr_at_far"]["0.1"] <= found["frr_at_far"]["0.01"]
    assert found["cllr"] == cllr(scores, labels)
    assert found["min_cllr"] < found["cllr"]
    assert set(found["definitions"]) >= {"eer", "eer_convex_hull", "eer_voxceleb_trainer", "actual_dcf"}
    assert set(found["units"]) == {"eer", "min_dcf", "frr_at_far", "min_cllr", "actual_dcf", "cllr"}


def test_scores_that_are_no_ratios_have_no_actual_cost():
    found = detection_metrics(*drawn(), [0.05])
    assert not {"actual_dcf", "cllr"} & (set(found) | set(found["units"]) | set(found["definitions"]))


def test_a_threshold_that_rejects_everything_is_none():
    found = detection_metrics(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0], np.int8), [0.01])
    assert found["min_dcf"]["0.01"] == pytest.approx(1.0)
    assert found["min_dcf_threshold"]["0.01"] is None
    assert found["frr_at_far"]["1"] == 100.0
    assert found["frr_at_far_threshold"]["1"] is None
    assert math.isfinite(found["eer_threshold"])
