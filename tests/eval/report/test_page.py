from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from eval.embeddings import Embeddings
from eval.evaluate import detection_metrics
from eval.metrics import equal_error_rate, error_rates
from eval.report import outputs
from eval.report.breakdown import by_gender, by_length, by_nationality, group_of, worst_speakers
from eval.report.evaluation import Evaluation, Person
from eval.report.figures import figures_table
from eval.report.outputs import prepare_folder, scores_text, write_outputs
from eval.report.page import _intervals_absent, build_report, operating_points
from eval.report.plots import _point_text, calibration_plot, det_curve, score_digits, score_histogram
from eval.report.worst import WORST, worst_trials
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

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.images, self.links = [], "", [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href"):
                (self.images if tag in ("img", "source") else self.links).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def whole(count=400, **changed):
    """An evaluation of which all is known: 10 speakers of 5 utterances, labels as theirs."""
    random = np.random.default_rng(3)
    names = [f"id{n // 5:02d}/{n % 5}.wav" for n in range(50)]
    left, right = random.integers(0, 50, (2, count))
    right[::3] = left[::3] // 5 * 5 + right[::3] % 5
    label = (left // 5 == right // 5).astype(np.int8)
    scores = random.standard_normal(count) + 1.5 * label
    trials = Trials(label, left, right, names, "list.txt", "cd" * 32)
    metrics = evaluation()[2] | detection_metrics(scores, label, [0.05, 0.01])
    embeddings = Embeddings(
        tuple(names), random.standard_normal((50, 2, 8)).astype(np.float32), 2, 100, "ef" * 32,
        random.uniform(1, 22, 50).astype(np.float32),
    )  # fmt: skip
    speakers = tuple(name[:4] for name in names)
    meta = {f"id{n:02d}": Person("mf"[n % 2], ["USA", "UK", "Chile"][n % 3]) for n in range(9)}
    made = Evaluation(scores, trials, metrics, CONFIG, embeddings, speakers, meta)
    return replace(made, **changed)


@pytest.mark.slow
def test_the_page_is_whole_and_needs_no_other_file():
    scores, trials, metrics = evaluation()
    page = Page(build_report(Evaluation(scores, trials, metrics, CONFIG)))
    assert len(page.images) == 4
    assert all(image.startswith("data:image/svg+xml;base64,") for image in page.images)
    assert page.links == []
    dark, light = (base64.b64decode(image.partition(",")[2]).decode() for image in page.images[:2])
    assert "#ffffff" in light
    assert "#ffffff" not in dark
    assert "#1f2937" not in dark
    assert f"{metrics['eer']:.2f} %" in page.text
    for p_target, cost in metrics["min_dcf"].items():
        assert f"p_target = {p_target}" in page.text
        assert f"{cost:.4f}" in page.text
    assert "10 crops of 400 feature frames" in page.text
    assert "runs/x.pt, step 12,000" in page.text
    assert "seed: 12345" in page.text
    assert "veri<test>.txt" in page.text
    assert "No intervals: this evaluation made none." in page.text
    for why in ("by speaker: the utterances' speakers are not known", "by duration", "Map of embeddings"):
        assert why in page.text
    for label in (0, 1):
        worst = worst_trials(scores, trials, metrics["eer_threshold"], label)[0]
        assert trials.names[trials.left[worst]] in page.text


@pytest.mark.slow
def test_all_that_is_known_is_on_the_page():
    made = whole()
    metrics = dict(made.metrics) | {
        "intervals": {"eer": {"low": 12.25, "high": 23.5}, "min_dcf": {"0.05": {"low": 0.1, "high": 0.2}}},
        "bootstrap": {"confidence": 0.95},
        "calibration": {"file": "calibration.json"},
        "cllr": 0.4321,
    }
    name = made.trials.names[made.trials.left[worst_trials(made.scores, made.trials, 0.7, 0)[0]]]
    page = Page(build_report(replace(made, metrics=metrics, audio={name: "audio/000.wav"})))
    assert "95 % interval 12.25 to 23.50 %" in page.text
    assert "interval 0.1000 to 0.2000" in page.text
    assert "0.4321" in page.text
    assert "No intervals" not in page.text
    assert "Not shown" not in page.text
    assert len(page.images) == 8
    assert "audio/000.wav" in page.links
    for text in ("both male", "two genders", "both Chile", "both unknown", "2 to 4 s", "20 s and more"):
        assert text in page.text
    for text in ("Worst speakers", "50 utterances along their two principal", "ab" * 32, "ef" * 32):
        assert text in page.text
    assert "9 of 10 speakers the meta file knows" in page.text


def test_why_there_are_no_intervals_is_said():
    for reason in ({"intervals_absent": "too few"}, {"intervals": None, "bootstrap": {"reason": "too few"}}):
        assert _intervals_absent(reason) == "too few"
    assert _intervals_absent({"intervals": {"eer": {"low": 1.0, "high": 2.0}}}) is None


@pytest.mark.slow
def test_of_a_list_without_labels_there_are_scores_alone(tmp_path):
    made = whole()
    rates = ("eer", "eer_threshold", "min_dcf", "min_dcf_threshold", "targets", "nontargets")
    metrics = {name: value for name, value in made.metrics.items() if name not in rates}
    made = replace(made, metrics=metrics, trials=replace(made.trials, label=np.full(400, -1, np.int8)))
    page = Page(build_report(made))
    assert "the list has no labels" in page.text
    assert "EER" not in page.text
    assert "Worst false" not in page.text
    (tmp_path / "det.png").write_bytes(b"of an earlier list")
    prepare_folder(str(tmp_path))
    write_outputs(str(tmp_path), made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json", "report.html", "scores.txt", "trials.npz"
    ]  # fmt: skip


@pytest.mark.slow
def test_speakers_that_the_list_contradicts_are_not_believed():
    made = whole(speakers=("test",) * 50)
    page = Page(build_report(made))
    assert "trials contradict the speakers by folder or shard" in page.text
    assert "Worst speakers" not in page.text
    assert whole().contradiction is None


def test_groups_hold_what_they_say():
    made = whole()
    trials, speakers, label = made.trials, made.speakers, made.trials.label
    for groups in (
        dict(by_gender(trials, speakers, made.meta)),
        dict(by_nationality(trials, speakers, made.meta)),
        dict(by_length(trials, made.embeddings.seconds)),
    ):
        assert np.array_equal(sum(mask.astype(int) for mask in groups.values()), np.ones(400))
    mask = dict(by_gender(trials, speakers, made.meta))["both female"]
    for trial in range(400):
        both = {int(speakers[side[trial]][2:]) for side in (trials.left, trials.right)}
        assert mask[trial] == all(number % 2 == 1 and number != 9 for number in both)
    group = group_of("", made.scores, label, mask, 0.5)
    assert group.targets == int((label[mask] == 1).sum())
    assert group.false_reject == np.mean(made.scores[mask & (label == 1)] < 0.5)
    assert group.false_accept == np.mean(made.scores[mask & (label == 0)] >= 0.5)
    own = error_rates(made.scores[mask], label[mask])
    assert group.eer == equal_error_rate(own)[0]
    mixed = group_of("", made.scores, label, mask & (label == 0), 0.5)
    assert (mixed.eer, mixed.false_reject) == (None, None)


def test_speakers_are_counted_with_all_their_trials():
    made = whole()
    trials, at = made.trials, 0.5
    found = worst_speakers(made.scores, trials, made.speakers, at, 100)
    assert [each.badness for each in found] == sorted((each.badness for each in found), reverse=True)
    for each in found:
        sides = [
            np.array([made.speakers[row] == each.name for row in side])
            for side in (trials.left, trials.right)
        ]
        mine = sides[0] | sides[1]
        target = mine & (trials.label == 1)
        assert each.targets == target.sum()
        assert each.false_rejects == (target & (made.scores < at)).sum()
        assert each.nontargets == (mine & ~target).sum()
        assert each.false_accepts == (mine & ~target & (made.scores >= at)).sum()


def test_calibration_of_few_trials_can_be_drawn():
    assert b"<svg" in calibration_plot(
        np.array([-3.0, 0.1, 2.0, 4.0]), np.array([0, 1, 0, 1], np.int8), "svg"
    )


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


@pytest.mark.slow
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
    whole_text = _point_text(operating_points(rates, metrics)[1], 4)  # as the PNG, which stands alone, has it
    assert f"at {100 * accept:.2f} % false accepts, {100 * reject:.2f} % false rejects" in whole_text


@pytest.mark.slow
def test_a_det_of_many_trials_stays_small():
    scores, trials, metrics = evaluation(count=200_000)
    rates = error_rates(scores, trials.label)
    assert len(det_curve(rates, operating_points(rates, metrics), "", "svg", digits=4)) < 200_000


@pytest.mark.slow
def test_equal_scores_can_be_drawn():
    _, trials, metrics = evaluation()
    same = np.full(len(trials), 0.5)
    metrics = metrics | detection_metrics(same, trials.label, [0.05])
    assert "50.00 %" in build_report(Evaluation(same, trials, metrics, CONFIG))


def test_decimals_follow_the_range_of_the_scores():
    assert score_digits(np.array([-1.0, 1.0])) == 4
    assert score_digits(np.array([0.9999, 0.99992])) == 8
    assert score_digits(np.array([1.0, 1.0])) == 4


@pytest.mark.slow
def test_files(tmp_path):
    scores, trials, metrics = evaluation()
    out = tmp_path / "a" / "b"
    prepare_folder(str(out))
    write_outputs(str(out), Evaluation(scores, trials, metrics, CONFIG))
    assert sorted(path.name for path in out.iterdir()) == [
        "det.png",
        "metrics.json",
        "report.html",
        "scores.txt",
        "trials.npz",
    ]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    lines = [line.split(" ") for line in (out / "scores.txt").read_text().splitlines()]
    np.testing.assert_array_equal([float(line[0]) for line in lines], scores)
    assert lines[7][1:] == [trials.names[trials.left[7]], trials.names[trials.right[7]]]
    assert scores_text(scores, trials).endswith("\n")


def test_nothing_is_written_of_metrics_that_are_no_numbers(tmp_path):
    scores, trials, metrics = evaluation()
    with pytest.raises(ValueError, match="JSON"):
        write_outputs(str(tmp_path), Evaluation(scores, trials, metrics | {"step": float("nan")}, CONFIG))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_of_scores_that_are_not_finite(tmp_path):
    scores, trials, metrics = evaluation()
    scores[[5, 9]] = np.nan
    with pytest.raises(UserError, match="2 of 400 scores are not finite, first that of trial 6"):
        write_outputs(str(tmp_path), Evaluation(scores, trials, metrics, CONFIG))
    assert list(tmp_path.iterdir()) == []


def test_scores_of_paths_with_blanks_are_parted_by_tabs():
    trials = Trials(np.array([1], np.int8), np.array([0]), np.array([1]), ["a b", "c"], "t", "")
    assert scores_text(np.array([0.5]), trials) == "0.5\ta b\tc\n"


@pytest.mark.slow
def test_credentials_do_not_reach_the_page():
    scores, trials, metrics = evaluation()
    config = {"data": {"url": "https://user:secret@host/x?sig=veiled"}}
    metrics = metrics | {"checkpoint": "https://user:secret@host/c.pt"}
    page = build_report(Evaluation(scores, trials, metrics, config))
    assert "secret" not in page
    assert "veiled" not in page
    assert "https://***@host/x" in page


@pytest.mark.slow
def test_metrics_of_an_earlier_evaluation_do_not_outlive_it(tmp_path, monkeypatch):
    scores, trials, metrics = evaluation()
    write_outputs(str(tmp_path), Evaluation(scores, trials, metrics, CONFIG))
    prepare_folder(str(tmp_path))
    assert not (tmp_path / "metrics.json").exists()
    monkeypatch.setattr(outputs, "build_report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_outputs(str(tmp_path), Evaluation(scores, trials, metrics, CONFIG))
    assert not (tmp_path / "metrics.json").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        prepare_folder(str(tmp_path / "file"))


def test_the_figures_table_has_what_metrics_json_has():
    scores, trials, _ = evaluation()
    metrics = detection_metrics(scores, trials.label, [0.05], calibrated=True)
    metrics["intervals"] = {"frr_at_far": {"1": {"low": 10.0, "high": 20.0}}}
    rows = {row[0]: row[1:] for row in figures_table(metrics).rows}
    assert rows["actual DCF, p_target = 0.05"][0] == f"{metrics['actual_dcf']['0.05']:.4f}"
    rate, at = metrics["frr_at_far"]["1"], metrics["frr_at_far_threshold"]["1"]
    assert rows["FRR at FAR 1 %"] == [f"{rate:.2f} %", "10.00 to 20.00 %", f"{at:.4f}"]
    assert rows["EER, convex hull"][0] == f"{metrics['eer_convex_hull']:.3f} %"
    assert rows["Cllr, bits"][0] == f"{metrics['cllr']:.4f}"
