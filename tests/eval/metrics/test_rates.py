from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import equal_error_rate, error_rates, min_dcf

# Whole numbers: ties are common, and maps of them are exact.
trials = st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def split(rows):
    scores, labels = zip(*rows, strict=True)
    return np.array(scores, dtype=float), np.array(labels)


def test_operating_points_worked_by_hand():
    rates = error_rates([0.1, 0.4, 0.4, 0.8], [0, 1, 0, 1])
    np.testing.assert_array_equal(rates.thresholds, [0.1, 0.4, 0.8, np.inf])
    np.testing.assert_array_equal(rates.false_accept, [1.0, 0.5, 0.0, 0.0])
    np.testing.assert_array_equal(rates.false_reject, [0.0, 0.0, 0.5, 1.0])
    # Between thresholds 0.4 and 0.8 the rates go from (0.5, 0) to (0, 0.5): they meet half way.
    assert equal_error_rate(rates) == pytest.approx((0.25, 0.6))


def test_rates_at_a_threshold_count_scores_that_equal_it():
    scores, labels = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 1, 0, 1])
    rates = error_rates(scores, labels)
    for threshold in (0.0, 0.1, 0.2, 0.4, 0.5, 0.8, 0.9, np.inf):
        accepted = scores >= threshold
        assert rates.at(threshold) == (accepted[labels == 0].mean(), (~accepted[labels == 1]).mean())


@pytest.mark.slow
@given(trials)
def test_operating_points_are_those_of_scikit_learn(rows):
    from sklearn.metrics import roc_curve

    scores, labels = split(rows)
    rates = error_rates(scores, labels)
    fpr, tpr, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_array_equal(rates.thresholds, thresholds[::-1])
    np.testing.assert_allclose(rates.false_accept, fpr[::-1])
    np.testing.assert_allclose(rates.false_reject, 1 - tpr[::-1], atol=1e-12)


@pytest.mark.slow
@given(trials)
def test_eer_lies_where_the_polygon_crosses_the_diagonal(rows):
    from sklearn.metrics import roc_curve

    scores, labels = split(rows)
    fpr, tpr, _ = roc_curve(labels, scores)
    crossings = []
    for x0, y0, x1, y1 in zip(fpr[:-1], 1 - tpr[:-1], fpr[1:], 1 - tpr[1:], strict=True):
        if (y0 - x0) * (y1 - x1) <= 0 and (y0 - x0) != (y1 - x1):
            part = (y0 - x0) / ((y0 - x0) - (y1 - x1))
            crossings.append(x0 + part * (x1 - x0))
    eer, _ = equal_error_rate(error_rates(scores, labels))
    assert eer == pytest.approx(crossings[0], abs=1e-12)


@pytest.mark.slow
@given(trials)
def test_eer_threshold_lies_between_the_operating_points_on_both_sides(rows):
    scores, labels = split(rows)
    rates = error_rates(scores, labels)
    _, threshold = equal_error_rate(rates)
    assert scores.min() <= threshold <= scores.max()
    accept, reject = rates.at(np.nextafter(threshold, np.inf))  # a little stricter
    assert reject >= accept
    accept, reject = rates.at(np.max(scores[scores < threshold], initial=scores.min()))  # one score laxer
    assert reject <= accept


@pytest.mark.slow
@given(trials, st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_monotone_maps_of_the_scores_change_nothing(rows, p_target):
    scores, labels = split(rows)
    plain = error_rates(scores, labels)
    for mapped in (3 * scores + 7, scores**3, np.exp2(scores)):
        rates = error_rates(mapped, labels)
        assert equal_error_rate(rates)[0] == equal_error_rate(plain)[0]
        assert min_dcf(rates, p_target)[0] == min_dcf(plain, p_target)[0]


@pytest.mark.slow
@given(trials, st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_swapping_the_classes_and_the_sign_swaps_the_errors(rows, p_target):
    scores, labels = split(rows)
    plain, swapped = error_rates(scores, labels), error_rates(-scores, 1 - labels)
    assert equal_error_rate(swapped)[0] == pytest.approx(equal_error_rate(plain)[0], abs=1e-12)
    assert min_dcf(swapped, 1 - p_target, c_miss=2, c_fa=3)[0] == pytest.approx(
        min_dcf(plain, p_target, c_miss=3, c_fa=2)[0], abs=1e-12
    )


@pytest.mark.slow
@given(trials, st.randoms(use_true_random=False))
def test_the_order_of_trials_does_not_matter(rows, random):
    shuffled = rows[:]
    random.shuffle(shuffled)
    first, second = error_rates(*split(rows)), error_rates(*split(shuffled))
    assert equal_error_rate(first) == equal_error_rate(second)
    assert min_dcf(first, 0.05) == min_dcf(second, 0.05)


@pytest.mark.slow
@given(trials, st.sampled_from([0.01, 0.05, 0.3]), st.sampled_from([1.0, 10.0]))
def test_min_dcf_is_the_least_cost_of_all_thresholds(rows, p_target, c_miss):
    scores, labels = split(rows)
    costs = {}
    for threshold in [*np.unique(scores), np.inf]:
        miss = np.mean(scores[labels == 1] < threshold)
        accept = np.mean(scores[labels == 0] >= threshold)
        costs[threshold] = c_miss * p_target * miss + (1 - p_target) * accept
    cost, threshold = min_dcf(error_rates(scores, labels), p_target, c_miss=c_miss)
    assert cost == pytest.approx(min(costs.values()) / min(c_miss * p_target, 1 - p_target))
    assert costs[threshold] == pytest.approx(min(costs.values()))
    assert cost <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("scores", "labels", "eer"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 0.0),  # parted
        ([1, 2, 3, 4], [1, 1, 0, 0], 1.0),  # parted the wrong way round
        ([5, 5, 5, 5, 5], [0, 1, 0, 1, 1], 0.5),  # one tie: accept all or none
        ([1, 2], [1, 0], 1.0),
        ([1, 2], [0, 1], 0.0),
    ],
)
def test_extremes(scores, labels, eer):
    rates = error_rates(scores, labels)
    assert equal_error_rate(rates)[0] == pytest.approx(eer)
    if eer == 0.0:
        assert rates.at(equal_error_rate(rates)[1]) == (0.0, 0.0)
        assert min_dcf(rates, 0.01)[0] == 0.0


def test_rejecting_everything_can_be_best_and_has_no_finite_threshold():
    cost, threshold = min_dcf(error_rates([1.0, 2.0, 3.0], [1, 1, 0]), 0.01)
    assert cost == pytest.approx(1.0)
    assert threshold == np.inf


def test_against_the_voxceleb_trainers_definitions():
    random = np.random.default_rng(0)
    labels = (random.random(4000) < 0.3).astype(int)
    scores = random.standard_normal(4000) + 1.5 * labels
    rates = error_rates(scores, labels)

    closest = np.argmin(np.abs(rates.false_reject - rates.false_accept))
    theirs = max(rates.false_reject[closest], rates.false_accept[closest])
    assert 0 <= theirs - equal_error_rate(rates)[0] < 1 / 1200

    # Its minDCF walks over the sorted trials and never considers accepting all of them.
    order = np.argsort(scores)
    miss = np.cumsum(labels[order]) / labels.sum()
    accept = 1 - np.cumsum(1 - labels[order]) / (1 - labels).sum()
    for p_target in (0.05, 0.01):
        cost = np.min(p_target * miss + (1 - p_target) * accept) / p_target
        assert min_dcf(rates, p_target)[0] == pytest.approx(cost)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1, 1], "both classes"),
        ([1.0, 2.0], [0, 0], "both classes"),
        ([], [], "both classes"),
        ([1.0, np.nan], [0, 1], "1 of 2 scores are not finite"),
        ([1.0, np.inf], [0, 1], "not finite"),
        ([1.0, 2.0], [0, 2], "0 or 1"),
        ([1.0], [0, 1], "one length"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        error_rates(np.array(scores, dtype=float), np.array(labels, dtype=int))


@pytest.mark.parametrize("p_target", [0.0, 1.0, -0.1, 1.5])
def test_p_target_must_be_a_probability(p_target):
    with pytest.raises(ValueError, match="p_target"):
        min_dcf(error_rates([1, 2], [0, 1]), p_target)
