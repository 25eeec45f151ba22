from __future__ import annotations

import math

import numpy as np
import pytest

from eval.metrics import OperatingPoint, actual_dcf, error_rates, min_dcf


def test_actual_dcf_worked_by_hand():
    point = OperatingPoint(0.2, c_miss=2.0, c_fa=1.0)
    assert point.bayes_threshold == pytest.approx(math.log(2.0))  # 0.8 / 0.4
    rates = error_rates([-1.0, 0.5, 0.8, 3.0], [0, 1, 0, 1])
    # Half of the targets lie below log 2 = 0.69, half of the others above it.
    assert actual_dcf(rates, point) == pytest.approx((0.4 * 0.5 + 0.8 * 0.5) / 0.4)


def test_a_ratio_at_the_bayes_threshold_is_accepted():
    point = OperatingPoint(0.5)
    assert actual_dcf(error_rates([0.0, -1.0], [1, 0]), point) == 0.0


def test_true_ratios_cost_hardly_more_than_the_best_threshold():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20000)
    rates = error_rates(
        3.0 * (random.standard_normal(40000) + 3.0 * labels - 1.5), labels
    )  # N(0, 1), N(3, 1)
    shifted = error_rates(3.0 * (random.standard_normal(40000) + 3.0 * labels), labels)
    for p_target in (0.05, 0.5, 0.9):
        point = OperatingPoint(p_target)
        least, _ = min_dcf(rates, p_target)
        assert least <= actual_dcf(rates, point) < least + 0.02
        assert actual_dcf(shifted, point) > least + 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0,), "p_target"),
        ((1.0,), "p_target"),
        ((math.nan,), "p_target"),
        ((0.1, 0.0), "c_miss"),
        ((0.1, -1.0), "c_miss"),
        ((0.1, 1.0, math.inf), "c_fa"),
    ],
)
def test_what_is_no_operating_point(values, message):
    with pytest.raises(ValueError, match=message):
        OperatingPoint(*values)


def test_names_tell_operating_points_apart():
    points = [(0.05,), (0.01, 10.0), (0.01, 1.0, 10.0), (0.01, 10.0, 2.0)]
    names = [OperatingPoint(*point).name for point in points]
    assert names == ["0.05", "0.01 c_miss=10", "0.01 c_fa=10", "0.01 c_miss=10 c_fa=2"]
