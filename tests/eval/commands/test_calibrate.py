from __future__ import annotations

import json

import numpy as np
import pytest

from eval.__main__ import main
from eval.calibration import load_calibration
from eval.embeddings import Embeddings
from eval.metrics import cllr
from eval.report.outputs import scores_text
from eval.trials import Trials

DIGEST = "5e" * 32


@pytest.fixture
def evaluation(tmp_path):
    """The folder of an evaluation on 200 trials with embeddings; its list, list.txt, lies beside it."""
    random = np.random.default_rng(0)
    names = [f"s{n % 10}/{n:02d}" for n in range(60)]
    left = random.integers(0, 60, 200)
    right = (left + np.where(random.random(200) < 0.4, 10, random.integers(1, 60, 200))) % 60
    label = (left % 10 == right % 10).astype(int)
    seconds = random.uniform(2, 20, 60).astype(np.float32)
    score = 0.3 + 0.1 * (2 * label + random.standard_normal(200) + np.log(seconds[left] * seconds[right]))
    folder = tmp_path / "eval"
    folder.mkdir()
    rows = zip(label.tolist(), left.tolist(), right.tolist(), strict=True)
    (tmp_path / "list.txt").write_text("".join(f"{y} {names[a]} {names[b]}\n" for y, a, b in rows))
    trials = Trials(label.astype(np.int8), left, right, names, "list.txt", "")
    (folder / "scores.txt").write_text(scores_text(score, trials))
    metrics = {"checkpoint_sha256": DIGEST, "scoring": "cosine", "crops": 0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    vectors = random.standard_normal((60, 1, 4)).astype(np.float32)
    Embeddings(tuple(names), vectors, 0, 0, DIGEST, seconds).save(str(folder / "embeddings.npz"))
    return folder, score, label


def run(*words):
    return main(["calibrate", *map(str, words)])


def test_from_an_evaluations_folder_to_ratios(evaluation, tmp_path, capsys):
    folder, score, label = evaluation
    out = tmp_path / "calibration.json"
    words = [folder, "--trials", tmp_path / "list.txt", "--out", out, "--p-target", "0.1", "--c-fa", "2"]
    assert run(*words) == 0
    found = load_calibration(str(out))
    assert (found.made_by, found.scored["scoring"], found.p_target, found.c_fa) == (
        DIGEST,
        "cosine",
        0.1,
        2.0,
    )
    assert (found.trained_on.trial_list, found.trained_on.trials) == ("list.txt", 200)
    found.check(DIGEST, {"scoring": "cosine", "crops": 0})
    plain = cllr(found.apply(score), label)
    shown, said = capsys.readouterr()
    assert f"Cllr                 {plain:8.4f} bits" in shown
    assert said == ""

    words += ["--embeddings", folder / "embeddings.npz", "--quality", "duration", "magnitude"]
    assert run(*words) == 0
    found = load_calibration(str(out))
    assert list(found.quality) == ["duration_log_min", "duration_log_max", "magnitude_min", "magnitude_max"]
    assert found.quality["duration_log_min"] < 0  # longer ones were given higher scores
    assert found.score_threshold is None
    assert float(capsys.readouterr().out.split("Cllr")[1].split()[0]) < plain


def test_a_bare_file_of_scores(evaluation, tmp_path, capsys):
    folder, _, _ = evaluation
    bare = tmp_path / "some" / "scores.txt"
    bare.parent.mkdir()
    bare.write_bytes((folder / "scores.txt").read_bytes())
    assert run(bare, "--out", tmp_path / "calibration.json") == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "first folder is the same" in line]
    assert [line for line in said if "which checkpoint" in line]
    found = load_calibration(str(tmp_path / "calibration.json"))
    assert (found.made_by, found.trained_on.trial_list) == ("", "")
    assert run(folder, "--trials", tmp_path / "list.txt", "--out", tmp_path / "other.json") == 0
    assert load_calibration(str(tmp_path / "other.json")).weight == pytest.approx(found.weight)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--quality", "duration"], "--quality duration: give --embeddings FILE"),
        (["--embeddings", "OTHER"], "--embeddings is where --quality is measured"),
        (["--top", "5"], "--top is of --quality cohort"),
        (["--quality", "cohort", "--embeddings", "OTHER"], "give --cohort FILE"),
        (["--quality", "duration", "--embeddings", "OTHER"], "(abcabcabcabc…) are of another checkpoint"),
        (["--trials", "SHORT"], "199 of its trials are not in"),
        (["--trials", "ABSENT"], "absent.txt"),
    ],
)
def test_mistakes_are_a_line(evaluation, tmp_path, capsys, more, message):
    folder, _, _ = evaluation
    names = ("a/1", "a/2")
    other = Embeddings(names, np.ones((2, 1, 4), np.float32), 0, 0, "abc" * 20, np.ones(2, np.float32))
    other.save(str(tmp_path / "other.npz"))
    lines = (tmp_path / "list.txt").read_text().splitlines(keepends=True)
    pair = [next(line for line in lines if line[0] == label) for label in "01"]
    (tmp_path / "short.txt").write_text("".join(pair))
    places = {"OTHER": "other.npz", "SHORT": "short.txt", "ABSENT": "absent.txt"}
    words = [tmp_path / places[word] if word in places else word for word in more]
    status = run(folder, "--out", tmp_path / "out.json", *words)
    said = capsys.readouterr().err.splitlines()
    assert status == 1
    assert said[-1].startswith("eval calibrate: error: ")
    assert message.removeprefix("199 ") in said[-1]
    assert not (tmp_path / "out.json").exists()


def test_damaged_metrics_are_named(evaluation, tmp_path, capsys):
    folder, _, _ = evaluation
    (folder / "metrics.json").write_text("{")
    assert run(folder, "--out", tmp_path / "out.json") == 1
    assert "metrics.json: not JSON, or cut short" in capsys.readouterr().err
