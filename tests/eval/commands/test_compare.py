"""Evaluations of one list side by side; others, and what is not whole, are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.commands.compare import main
from eval.compare.disagreements import disagreements
from eval.compare.systems import short_names
from eval.evaluate import detection_metrics
from eval.metrics import OperatingPoint
from eval.report.evaluation import Evaluation
from eval.report.outputs import columns_of, scores_text
from eval.trials import read_trials


@pytest.fixture
def folders(tmp_path):
    """Three evaluations of one list, each worse than the one before it."""
    random = np.random.default_rng(0)
    names = [f"id{n // 6:02d}/a {n % 6}.wav" for n in range(60)]
    left, right = np.triu_indices(60, 1)
    label = (left // 6 == right // 6).astype(np.int8)
    lines = [f"{kind}\t{names[a]}\t{names[b]}\n" for kind, a, b in zip(label, left, right, strict=True)]
    (tmp_path / "list.txt").write_text("".join(lines))
    trials = read_trials(str(tmp_path / "list.txt"))
    scores = 2.0 * trials.label + random.standard_normal(len(trials))
    made = []
    for number in range(3):
        scores = scores + 0.8 * number * random.standard_normal(len(trials))
        metrics = detection_metrics(scores, trials.label, [0.05, 0.01]) | {
            "trials": len(trials), "targets": int(label.sum()), "nontargets": int((label == 0).sum()),
            "utterances": 60, "trial_list": trials.name, "trial_list_sha256": trials.digest,
            "scoring": "cosine", "crops": 0, "crop_feature_frames": None,
            "checkpoint": f"runs/{number}.pt", "step": 5,
        }  # fmt: skip
        folder = tmp_path / "evaluations" / f"system{number}"
        speakers = tuple(name[:4] for name in trials.names)
        keep(folder, Evaluation(scores, trials, metrics, {}, speakers=speakers))
        made.append(folder)
    return made


def keep(folder, evaluation):
    """What is read again of the files that write_outputs leaves; the others take seconds to draw."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.txt").write_text(scores_text(evaluation.scores, evaluation.trials))
    (folder / "trials.npz").write_bytes(columns_of(evaluation))
    (folder / "metrics.json").write_text(json.dumps(evaluation.metrics))


def run(folders, out, *more):
    return main([*map(str, folders), "--out", str(out), *more])


@pytest.mark.slow
def test_systems_are_compared_with_the_first(folders, tmp_path, capsys):
    assert run(folders, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [system["name"] for system in found["systems"]] == ["system0", "system1", "system2"]
    assert [pair["second"] for pair in found["pairs"]] == ["system1", "system2"]
    said = capsys.readouterr().out
    for system in found["systems"]:
        assert f"EER {system['eer']:7.3f} %" in said
    page = (tmp_path / "out" / "compare.html").read_text()
    for text in ("DET curves", "Disagreements: system0 and system2", "Paired test", "runs/2.pt"):
        assert text in page
    counts = found["pairs"][1]["disagreements"]
    assert counts["only_first_right"] > counts["only_second_right"]
    for one in counts["worst"]:
        assert one["label"] == int(one["left"][:4] == one["right"][:4])
        line = (folders[0] / "scores.txt").read_text().splitlines()[one["trial"] - 1]
        assert line == f"{one['first']!r}\t{one['left']}\t{one['right']}"


@pytest.mark.slow
def test_a_paired_test_with_costs_and_speakers_that_one_of_them_knows(folders, tmp_path, capsys):
    points = [OperatingPoint(0.01, 10.0), OperatingPoint(0.05)]
    for folder in folders[:2]:
        scores = np.array(
            [float(line.split()[0]) for line in (folder / "scores.txt").read_text().splitlines()]
        )
        columns = dict(np.load(folder / "trials.npz"))
        kept = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(
            json.dumps(kept | detection_metrics(scores, columns["label"], points))
        )
    unknown = columns | {"speaker": np.empty(0, np.int32)}
    np.savez(folders[0] / "trials.npz", **unknown)
    assert run(folders[:2], tmp_path / "out") == 0
    [pair] = json.loads((tmp_path / "out" / "compare.json").read_text())["pairs"]
    value = pair["differences"]["min_dcf"]["0.01 c_miss=10"]
    assert value["low"] < value["difference"] < value["high"]
    eer = pair["differences"]["eer"]
    said = f"system1 against system0: EER {eer['difference']:+.3f} % (p = {eer['p']:.3f})"
    assert said in capsys.readouterr().out
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "minDCF(0.01 c_miss=10)" in page
    assert "minDCF 0.05" in page
    assert f"{eer['difference']:+.4f}" in page

    kept["operating_points"]["0.05"] = {"p_target": 2}
    (folders[1] / "metrics.json").write_text(json.dumps(kept))
    assert run(folders[:2], tmp_path / "out") == 1


def test_disagreements_are_counted_from_each_ones_threshold():
    label = np.array([1, 1, 0, 0])
    found = disagreements(np.array([5.0, 1.0, 4.0, 0.0]), np.array([0.2, 0.9, 0.1, 0.0]), label, (2.0, 0.5))
    assert (found.only_first, found.only_second) == (1, 2)
    assert set(found.rows.tolist()) == {0, 1, 2}


def edit(folder: Path, **changed):
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_other_lists_and_what_is_not_whole_are_refused(folders, tmp_path, capsys):
    first, second, third = folders
    digest = json.loads((first / "metrics.json").read_text())["trial_list_sha256"]

    def refused(*said, which=(first, second), more=()):
        assert run(which, tmp_path / "out", *more) == 1
        error = capsys.readouterr().err
        for text in said:
            assert text in error
        assert not (tmp_path / "out").exists()

    refused("alone is given", which=(first,))
    refused("given twice", which=(first, first))
    refused("given twice", which=(first, f"{first}/"))
    edit(third, trial_list_sha256="f" * 64, trial_list="other.txt")
    refused(digest, "f" * 64, "other.txt", which=(first, third))
    refused("scores.txt, line 3: the score is nan", which=(first, damaged(second, "nan")))
    refused("scores.txt, line 3: 'x' is no score", which=(first, damaged(second, "x")))
    (second / "scores.txt").write_text("0.5 a b\n")
    refused("1 scores, and metrics.json says 1770 trials")
    (second / "scores.txt").unlink()
    refused(f"{second / 'scores.txt'}: does not exist")
    (second / "metrics.json").write_text("{")
    refused("metrics.json: not JSON")
    (second / "metrics.json").unlink()
    refused(f"{second / 'metrics.json'}: does not exist", "is no finished evaluation")


def damaged(folder, word):
    lines = (folder / "scores.txt").read_text().splitlines()
    lines[2] = f"{word} {lines[2].split(None, 1)[1]}"
    (folder / "scores.txt").write_text("\n".join(lines))
    return folder


def test_folders_of_before_take_the_list(folders, tmp_path, capsys):
    for folder in folders:
        (folder / "trials.npz").unlink()
    assert run(folders[:2], tmp_path / "out") == 1
    assert "--trials list.txt" in capsys.readouterr().err
    assert run(folders[:2], tmp_path / "out", "--trials", str(tmp_path / "list.txt")) == 0
    (tmp_path / "other.txt").write_text("1 a b\n0 a c\n")
    assert run(folders[:2], tmp_path / "out2", "--trials", str(tmp_path / "other.txt")) == 1
    assert "give that list" in capsys.readouterr().err


def test_a_list_without_labels_is_refused(folders, tmp_path, capsys):
    trials = read_trials(str(tmp_path / "list.txt"))
    unlabelled = replace(trials, label=np.full(len(trials), -1, np.int8))
    for folder in folders[:2]:
        (folder / "trials.npz").unlink()
        metrics = json.loads((folder / "metrics.json").read_text())
        keep(folder, Evaluation(np.zeros(len(trials)), unlabelled, metrics, {}))
    assert run(folders[:2], tmp_path / "out") == 1
    assert "has no labels" in capsys.readouterr().err


def test_names_are_as_short_as_tell_them_apart():
    assert short_names(["runs/a/eval", "runs/b/eval/"]) == ["a/eval", "b/eval"]
    assert short_names(["x/a", "y/b"]) == ["a", "b"]
