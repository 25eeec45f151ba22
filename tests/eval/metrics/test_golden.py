"""The public implementations' own figures, made by tests/golden/make_metrics.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from metrics_recipe import FILE, LISTS, POINTS, scores

from eval.metrics import equal_error_rate, error_rates, min_dcf, voxceleb_trainer_eer

GOLDEN = json.loads(FILE.read_text())["lists"]
UNTIED = [name for name, (*_, decimals) in LISTS.items() if decimals is None]


@pytest.mark.parametrize("name", LISTS)
def test_eer_of_the_voxceleb_trainer(name):
    rates = error_rates(*scores(name))
    assert 100 * voxceleb_trainer_eer(rates) == pytest.approx(GOLDEN[name]["trainer"]["eer"], abs=1e-6)


@pytest.mark.parametrize("name", UNTIED)
def test_eer_of_wespeaker_is_the_interpolated_one(name):
    eer, _ = equal_error_rate(error_rates(*scores(name)))
    assert eer == pytest.approx(GOLDEN[name]["wespeaker"]["eer"], abs=1e-6)


@pytest.mark.parametrize("name", UNTIED)
@pytest.mark.parametrize("theirs", ["trainer", "wespeaker"])
def test_min_dcf(name, theirs):
    rates = error_rates(*scores(name))
    ours = [min_dcf(rates, *point)[0] for point in POINTS]
    np.testing.assert_allclose(ours, GOLDEN[name][theirs]["min_dcf"], rtol=0, atol=1e-6)


def test_of_tied_trials_they_accept_some_which_no_threshold_can():
    rates = error_rates(*scores("tied"))
    ours = np.array([min_dcf(rates, *point)[0] for point in POINTS])
    theirs = np.array(GOLDEN["tied"]["wespeaker"]["min_dcf"])
    assert (theirs <= ours + 1e-12).all()
    assert (theirs < ours - 1e-6).any()
