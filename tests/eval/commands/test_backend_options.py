"""Training sets, cohorts and calibrations on the command line; what does not fit costs a line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import write_checkpoint

from eval.__main__ import main
from eval.calibration import load_calibration
from eval.embeddings import Embeddings, load_embeddings
from eval.scoring import build_scorer
from eval.scoring.norm import normalise, speaker_means
from eval.speakers import numbered, speakers_of
from eval.trials import read_trials


@pytest.fixture(scope="module")
def folder(tmp_path_factory, voices):
    """c.pt, and e.npz: the voices' embeddings by it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder / "c.pt")
    words = ["--data", str(voices.folder), "--out", str(folder / "e.npz"), "--device", "cpu"]
    assert main(["embed", str(folder / "c.pt"), *words]) == 0
    return folder


@pytest.fixture
def evaluate(folder, voices, tmp_path):
    def run(*more, out="out"):
        words = ["--trials", str(voices.trials), "--out", str(tmp_path / out), "--bootstrap", "20"]
        return main(["--embeddings", str(folder / "e.npz"), *words, *map(str, more)])

    return run


def scores_in(path):
    return np.array([float(line.split()[0]) for line in (path / "scores.txt").read_text().splitlines()])


def metrics_in(path):
    return json.loads((path / "metrics.json").read_text())


@pytest.fixture
def made_up(tmp_path):
    """Words that score 200 trials of the embeddings of 15 speakers, made up."""
    random = np.random.default_rng(0)
    names = tuple(f"s{n % 15}/{n:02d}" for n in range(60))
    vectors = random.standard_normal((15, 1, 8))[np.arange(60) % 15] + random.standard_normal((60, 1, 8))
    Embeddings(names, vectors.astype(np.float32), 0, 0, "someone").save(str(tmp_path / "made.npz"))
    pairs = [(a, b) for a in range(60) for b in range(a) if a % 15 == b % 15 or random.random() < 0.1]
    lines = [f"{int(a % 15 == b % 15)} {names[a]} {names[b]}\n" for a, b in pairs]
    (tmp_path / "made.txt").write_text("".join(lines))
    words = ["--embeddings", str(tmp_path / "made.npz"), "--trials", str(tmp_path / "made.txt")]
    return [*words, "--out", str(tmp_path / "out"), "--bootstrap", "50"]


@pytest.mark.slow
def test_a_cohort_normalises(made_up, tmp_path):
    cohort = ["--norm", "as", "--cohort", str(tmp_path / "made.npz"), "--top", "7"]
    assert main([*made_up, *cohort]) == 0
    embeddings, trials = load_embeddings(str(tmp_path / "made.npz")), read_trials(str(tmp_path / "made.txt"))
    scorer = build_scorer("cosine")
    means = speaker_means(embeddings, numbered(speakers_of(embeddings.names)))
    plain = scorer.score(embeddings, trials)
    expected = normalise("as", scorer, plain, embeddings, trials, means, 7).scores
    np.testing.assert_allclose(scores_in(tmp_path / "out"), expected, rtol=1e-6)
    said = "as-norm, top 7, cohort of 15: speakers of made.npz"
    assert metrics_in(tmp_path / "out")["normalisation"] == said
    assert main([*made_up, *cohort, "--cohort-of", "utterances"]) == 0
    assert "cohort of 60" in metrics_in(tmp_path / "out")["normalisation"]


@pytest.mark.slow
def test_a_cohort_or_training_set_of_audio_is_embedded(folder, evaluate, voices, tmp_path, capsys):
    words = [str(folder / "c.pt"), "--trials", str(voices.trials), "--data", str(voices.folder)]
    words += ["--out", str(tmp_path / "audio"), "--device", "cpu", "--bootstrap", "0"]
    more = ["--norm", "s", "--cohort", str(voices.folder), "--scoring", "centred"]
    assert main([*words, *more, "--training-set", str(voices.folder)]) == 0
    assert "12 of 12 embeddings were made before" in capsys.readouterr().err
    more[3] = str(folder / "e.npz")
    assert evaluate(*more, "--training-set", folder / "e.npz") == 0
    np.testing.assert_allclose(scores_in(tmp_path / "audio"), scores_in(tmp_path / "out"), atol=1e-4)
    assert metrics_in(tmp_path / "out")["scoring"] == "centred"


@pytest.mark.slow
def test_intervals_and_operating_points(made_up, tmp_path, capsys):
    assert main([*made_up, "--operating-points", "0.1,10,1", "0.05,1,1"]) == 0
    metrics = metrics_in(tmp_path / "out")
    assert list(metrics["min_dcf"]) == ["0.05", "0.01", "0.1 c_miss=10"]
    interval = metrics["intervals"]["eer"]
    assert interval["low"] < metrics["eer"] < interval["high"]
    assert f"[{interval['low']:.3f}, {interval['high']:.3f}]" in capsys.readouterr().out
    assert main([*made_up, "--bootstrap", "0"]) == 0
    assert "intervals" not in metrics_in(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["whitening", "lda", "plda"])
def test_what_learns_is_fitted(made_up, tmp_path, scoring):
    assert main([*made_up, "--scoring", scoring, "--training-set", str(tmp_path / "made.npz")]) == 0
    embeddings, trials = load_embeddings(str(tmp_path / "made.npz")), read_trials(str(tmp_path / "made.txt"))
    fitted = build_scorer(scoring).fit(embeddings, numbered(speakers_of(embeddings.names)))
    expected = fitted.score(embeddings, trials)
    np.testing.assert_allclose(scores_in(tmp_path / "out"), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_from_an_evaluation_to_calibrated_scores_and_a_decision(evaluate, folder, voices, tmp_path, capsys):
    assert evaluate() == 0
    out = str(tmp_path / "calibration.json")
    words = [str(tmp_path / "out"), "--trials", str(voices.trials), "--out", out]
    words += ["--quality", "duration", "--embeddings", str(folder / "e.npz")]
    assert main(["calibrate", *words]) == 0
    assert evaluate("--calibration", out, out="calibrated") == 0
    metrics = metrics_in(tmp_path / "calibrated")
    assert metrics["calibrated"]
    assert metrics["cllr"] < 1
    assert evaluate("--calibration", out, "--scoring", "euclidean", out="other") == 1
    assert "the calibration is of scores with scoring 'cosine'" in capsys.readouterr().err
    words = [str(folder / "c.pt"), "--trials", str(voices.trials), "--data", str(voices.folder)]
    words += ["--device", "cpu", "--out", str(tmp_path / "cut"), "--calibration", out]
    assert main([*words, "--crops", "2", "--crop-frames", "30"]) == 1
    error = capsys.readouterr().err
    assert "the calibration is of scores with protocol 'whole utterances'" in error
    assert "embedding:" not in error  # before the long work
    recordings = [str(voices.folder / name) for name in ("s0/00.wav", "s0/01.flac")]
    assert main(["verify", str(folder / "c.pt"), *recordings, "--calibration", out, "--device", "cpu"]) == 0
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line)
    ratio = float(shown["log"].split()[1])
    first = scores_in(tmp_path / "calibrated")[0]
    assert ratio == pytest.approx(first, abs=1e-3)
    found = load_calibration(out)
    assert float(shown["probability"].split()[0]) == pytest.approx(float(found.probability(first)), abs=1e-3)
    assert shown["decision"].startswith("one speaker" if ratio >= found.threshold else "two speakers")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--scoring", "plda"], "--scoring plda learns from speakers: give --training-set too"),
        (["--training-set", "x.npz"], "--scoring cosine learns nothing: leave --training-set out"),
        (["--norm", "z"], "--norm needs --cohort too"),
        (["--cohort", "x.npz"], "--cohort needs --norm too"),
        (["--norm", "as", "--cohort", "E"], "AS-norm takes the 300 highest scores"),
        (["--norm", "z", "--cohort", "nowhere"], "with --embeddings it must be embeddings too"),
        (["--scoring-options", "a"], "expected NAME=VALUE"),
        (["--scoring-options", "a=1"], "--scoring-options: "),
        (["--calibration", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_does_not_fit_is_a_line(evaluate, folder, tmp_path, capsys, more, said):
    assert evaluate(*[str(folder / "e.npz") if word == "E" else word for word in more]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("eval: error: ")
    assert said in error
    assert not (tmp_path / "out" / "metrics.json").exists()
