from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from eval.evaluate import detection_metrics
from eval.metrics import error_rates
from eval.report import outputs
from eval.report.outputs import prepare_folder, scores_text, write_outputs
from eval.report.page import WORST, build_report, operating_points, worst_trials
from eval.report.plots import det_curve, score_digits, score_histogram
from eval.trials import Trials
from shard_tools.errors import UserError

CONFIG = {"run": {"seed": 12345}, "model": {"name": "tdnn", "options": {}}}


def evaluation(count=400, shift=1.5, seed=0):
    random = np.random.default_rng(seed)
    label = (np.arange(count) % 3 == 0).astype(np.int8)
    scores = random.standard_normal(count) + shift * label
    left, right = random.integers(0, 50, (2, count))
    names = [f"<i>{n}</i>&/{n}.wav" for n in range(50)]  # names are text, not HTML
    trials = Trials(label, left, right, names, "veri<test>.txt", "ab" * 32)
    metrics = detection_metrics(scores, label, [0.05, 0.01]) | {
        "trials": count,
        "targets": int(label.sum()),
        "nontargets": count - int(label.sum()),
        "utterances": 50,
        "trial_list": trials.name,
        "trial_list_sha256": trials.digest,
        "scoring": "cosine",
        "crops": 10,
        "crop_feature_frames": 400,
        "checkpoint": "runs/x.pt",
        "step": 12000,
    }
    return scores, trials, metrics


class Page(HTMLParser):
    """Collects the text, and checks that tags close in order and that nothing is loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.images = [], "", []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "src":
                self.images.append(value)
            assert name != "href"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_needs_no_other_file():
    scores, trials, metrics = evaluation()
    page = Page()
    page.feed(build_report(scores, trials, error_rates(scores, trials.label), metrics, CONFIG))
    assert page.open == []
    assert len(page.images) == 2
    assert all(image.startswith("data:image/svg+xml;base64,") for image in page.images)
    assert f"{metrics['eer']:.2f} %" in page.text
    for p_target, cost in metrics["min_dcf"].items():
        assert f"p_target = {p_target}" in page.text
        assert f"{cost:.4f}" in page.text
    assert "10 crops of 400 feature frames" in page.text
    assert "runs/x.pt, step 12,000" in page.text
    assert "seed: 12345" in page.text
    assert "veri<test>.txt" in page.text
    for label in (0, 1):
        worst = worst_trials(scores, trials, metrics["eer_threshold"], label)[0]
        assert trials.names[trials.left[worst]] in page.text


def test_worst_trials_are_errors_at_the_threshold_the_worst_first():
    scores, trials, metrics = evaluation()
    threshold = metrics["eer_threshold"]
    accepts = worst_trials(scores, trials, threshold, 0)
    rejects = worst_trials(scores, trials, threshold, 1)
    nontarget, target = np.sort(scores[trials.label == 0])[::-1], np.sort(scores[trials.label == 1])
    np.testing.assert_array_equal(scores[accepts], nontarget[:WORST])
    np.testing.assert_array_equal(scores[rejects], target[:WORST])
    assert set(trials.label[accepts]) == {0}
    assert set(trials.label[rejects]) == {1}
    few = worst_trials(scores, trials, nontarget[2], 0)  # only three are accepted here
    np.testing.assert_array_equal(scores[few], nontarget[:3])


@pytest.mark.parametrize(
    ("count", "shift"), [(400, 0.0), (4, 40.0), (400, -40.0)]
)  # chance, perfect, inverse
def test_figures_of_any_system(shift, count):
    scores, trials, metrics = evaluation(count, shift)
    rates = error_rates(scores, trials.label)
    points = operating_points(rates, metrics)
    png = det_curve(rates, points, "title", "png", digits=4)
    assert png.startswith(b"\x89PNG")
    assert det_curve(rates, points, "title", "png", digits=4) == png
    svg = score_histogram(scores, trials.label, metrics["eer_threshold"], "svg")
    assert b"<svg" in svg
    assert score_histogram(scores, trials.label, metrics["eer_threshold"], "svg") == svg


def test_det_names_its_operating_points():
    scores, trials, metrics = evaluation()
    rates = error_rates(scores, trials.label)
    svg = det_curve(rates, operating_points(rates, metrics), "A title", "svg", digits=4).decode()
    for text in (
        "A title",
        f"EER {metrics['eer']:.2f} %",
        f"minDCF(p_target=0.01) {metrics['min_dcf']['0.01']:.4f}",
    ):
        assert text in svg
    accept, reject = rates.at(metrics["min_dcf_threshold"]["0.05"])
    assert f"at {100 * accept:.2f} % false accepts, {100 * reject:.2f} % false rejects" in svg


def test_a_det_of_many_trials_stays_small():
    scores, trials, metrics = evaluation(count=200_000)
    rates = error_rates(scores, trials.label)
    assert len(det_curve(rates, operating_points(rates, metrics), "", "svg", digits=4)) < 200_000


def test_equal_scores_can_be_drawn():
    _, trials, metrics = evaluation()
    same = np.full(len(trials), 0.5)
    metrics = metrics | detection_metrics(same, trials.label, [0.05])
    assert "50.00 %" in build_report(same, trials, error_rates(same, trials.label), metrics, CONFIG)


def test_decimals_follow_the_range_of_the_scores():
    assert score_digits(np.array([-1.0, 1.0])) == 4
    assert score_digits(np.array([0.9999, 0.99992])) == 8
    assert score_digits(np.array([1.0, 1.0])) == 4


def test_files(tmp_path):
    scores, trials, metrics = evaluation()
    out = tmp_path / "a" / "b"
    prepare_folder(str(out))
    write_outputs(str(out), scores, trials, metrics, CONFIG)
    assert sorted(path.name for path in out.iterdir()) == [
        "det.png",
        "metrics.json",
        "report.html",
        "scores.txt",
    ]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    lines = [line.split(" ") for line in (out / "scores.txt").read_text().splitlines()]
    np.testing.assert_array_equal([float(line[0]) for line in lines], scores)
    assert lines[7][1:] == [trials.names[trials.left[7]], trials.names[trials.right[7]]]
    assert scores_text(scores, trials).endswith("\n")


def test_nothing_is_written_of_metrics_that_are_no_numbers(tmp_path):
    scores, trials, metrics = evaluation()
    with pytest.raises(ValueError, match="JSON"):
        write_outputs(str(tmp_path), scores, trials, metrics | {"step": float("nan")}, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_scores_of_paths_with_blanks_are_parted_by_tabs():
    trials = Trials(np.array([1], np.int8), np.array([0]), np.array([1]), ["a b", "c"], "t", "")
    assert scores_text(np.array([0.5]), trials) == "0.5\ta b\tc\n"


def test_credentials_do_not_reach_the_page():
    scores, trials, metrics = evaluation()
    config = {"data": {"url": "https://user:secret@host/x?sig=hidden"}}
    metrics = metrics | {"checkpoint": "https://user:secret@host/c.pt"}
    page = build_report(scores, trials, error_rates(scores, trials.label), metrics, config)
    assert "secret" not in page
    assert "hidden" not in page
    assert "https://***@host/x" in page


def test_metrics_of_an_earlier_evaluation_do_not_outlive_it(tmp_path, monkeypatch):
    scores, trials, metrics = evaluation()
    write_outputs(str(tmp_path), scores, trials, metrics, CONFIG)
    prepare_folder(str(tmp_path))
    assert not (tmp_path / "metrics.json").exists()
    monkeypatch.setattr(outputs, "build_report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_outputs(str(tmp_path), scores, trials, metrics, CONFIG)
    assert not (tmp_path / "metrics.json").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        prepare_folder(str(tmp_path / "file"))
