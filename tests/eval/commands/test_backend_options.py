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
def test_a_cohort_normalises(made_up, tmp_path, capsys):
    cohort = ["--norm", "as", "--cohort", str(tmp_path / "made.npz"), "--top", "7"]
    assert main([*made_up, *cohort]) == 0
    warning = capsys.readouterr().err
    assert "15 speakers of made.txt are in the cohort too (s0, s1, s10, s11, s12, …)" in warning
    embeddings, trials = load_embeddings(str(tmp_path / "made.npz")), read_trials(str(tmp_path / "made.txt"))
    scorer = build_scorer("cosine")
    means = speaker_means(embeddings, numbered(speakers_of(embeddings.names)))
    plain = scorer.score(embeddings, trials)
    expected = normalise("as", scorer, plain, embeddings, trials, means, 7).scores
    np.testing.assert_allclose(scores_in(tmp_path / "out"), expected, rtol=1e-6)
    said = metrics_in(tmp_path / "out")["normalisation"]
    assert said.startswith("as-norm, top 7, cohort of 15: speakers of 60 utterances, whole utterances, ")
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
def test_a_calibration_by_cohort(made_up, tmp_path, capsys):
    """What was fitted is what is applied; of another cohort, training set or normalisation it is refused."""
    file = str(tmp_path / "made.npz")
    scoring = ["--scoring", "lda", "--training-set", file, "--scoring-options", "dimension=5"]
    assert main([*made_up, *scoring]) == 0
    plain = scores_in(tmp_path / "out")
    out, cohort = str(tmp_path / "c.json"), ["--cohort", file, "--top", "4", "--cohort-of", "utterances"]
    words = ["calibrate", str(tmp_path / "out"), "--trials", str(tmp_path / "made.txt"), "--out", out]
    words += ["--embeddings", file, "--quality", "magnitude", "cohort", *cohort]
    assert main(words) == 1
    assert "the scores are lda scores: give their --training-set too" in capsys.readouterr().err
    assert main([*words, "--training-set", file]) == 0
    fitted = float(capsys.readouterr().out.split("Cllr")[1].split()[0])
    calibration = load_calibration(out)
    assert list(calibration.quality)[2:] == [
        f"cohort_{a}_{b}" for a in ("mean", "std") for b in ("min", "max")
    ]

    assert main([*made_up, *scoring, "--calibration", out, *cohort]) == 0
    assert metrics_in(tmp_path / "out")["cllr"] == pytest.approx(fitted, abs=1e-4)
    scorer = build_scorer("lda", {"dimension": 5})
    embeddings, trials = load_embeddings(file), read_trials(str(tmp_path / "made.txt"))
    scorer = scorer.fit(embeddings, numbered(speakers_of(embeddings.names)))
    unit = embeddings.vectors[:, 0] - scorer.mean
    unit = unit @ scorer.matrix
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    best = np.sort(unit @ unit.T, axis=1)[:, -4:]
    rows = embeddings.rows(trials.names)
    sides = np.stack([rows[trials.left], rows[trials.right]])
    mean, std = np.sort(best.mean(axis=1)[sides], axis=0), np.sort(best.std(axis=1)[sides], axis=0)
    long = np.sort(np.linalg.norm(embeddings.vectors[:, 0], axis=1)[sides], axis=0)
    weights = np.array(list(calibration.quality.values()))
    expected = calibration.weight * plain + weights @ np.concatenate([long, mean, std]) + calibration.offset
    np.testing.assert_allclose(scores_in(tmp_path / "out"), expected, atol=1e-5)
    assert main([*words, "--training-set", file]) == 1
    assert "these scores are calibrated" in capsys.readouterr().err

    for more, said in (
        ([*scoring], "needs the quality measure cohort: give --cohort"),
        ([*scoring, *cohort[:3], "5", *cohort[4:]], "with quality_cohort 'top 4 of 60: utterances"),
        ([*scoring[:4], *cohort], "with scoring_options 'dimension=5 shrinkage=0.0'"),
        ([*scoring, *cohort, "--norm", "s"], "with normalisation none"),
    ):
        assert main([*made_up, *more, "--calibration", out]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_speakers_of_shards_stay_known_without_them(made_up, tmp_path):
    """Of embeddings whose names all begin with one folder."""
    embeddings = load_embeddings(str(tmp_path / "made.npz"))
    who = speakers_of(embeddings.names)
    moved = tuple(f"train/{name}" for name in embeddings.names)
    renamed = Embeddings(moved, embeddings.vectors, 0, 0, "someone", speakers=who)
    renamed.save(str(tmp_path / "moved.npz"))
    lines = [line.split() for line in (tmp_path / "made.txt").read_text().splitlines()]
    (tmp_path / "moved.txt").write_text("".join(f"{y} train/{a} train/{b}\n" for y, a, b in lines))
    words = [word.replace("made.", "moved.") for word in made_up]
    assert main([*words, "--scoring", "lda", "--training-set", str(tmp_path / "moved.npz")]) == 0
    metrics = metrics_in(tmp_path / "out")
    assert metrics["bootstrap"]["speakers"] == 15
    assert main([*made_up, "--scoring", "lda", "--training-set", str(tmp_path / "made.npz")]) == 0
    assert metrics_in(tmp_path / "out")["eer"] == metrics["eer"]
    assert load_embeddings(str(tmp_path / "moved.npz")).take(moved[3:5]).speakers == who[3:5]


def test_a_broken_cohort_member_is_named(made_up, tmp_path, capsys):
    everyone = load_embeddings(str(tmp_path / "made.npz"))
    everyone.vectors[3] = np.nan
    everyone.save(str(tmp_path / "broken.npz"))
    assert main([*made_up, "--norm", "s", "--cohort", str(tmp_path / "broken.npz")]) == 1
    assert "the embedding of 's3' holds numbers that are not finite" in capsys.readouterr().err


@pytest.mark.slow
def test_identification_among_enrolled_speakers(made_up, tmp_path, capsys):
    """Two utterances of each speaker are enrolled, and not looked for."""
    everyone = load_embeddings(str(tmp_path / "made.npz"))
    everyone.take(everyone.names[:30]).save(str(tmp_path / "enrolled.npz"))
    assert main([*made_up, "--enrolment", str(tmp_path / "enrolled.npz")]) == 0
    found = metrics_in(tmp_path / "out")["identification"]
    units = everyone.vectors[:, 0] / np.linalg.norm(everyone.vectors[:, 0], axis=1, keepdims=True)
    means = units[:15] + units[15:30]
    likeness = units[30:] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    first = 100 * np.mean(likeness.argmax(axis=1) == np.arange(30) % 15)
    assert found["top_k"]["1"] == pytest.approx(first)
    assert (found["test_utterances"], found["enrolled_speakers"]) == (30, 15)
    ends = found["intervals"]["top_k"]["1"]
    assert ends["low"] <= first <= ends["high"]
    said = f"identification of 30 utterances among 15 speakers: top 1 {first:.2f} %"
    assert said in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{ends['low']:.2f} to {ends['high']:.2f} %" in page
    assert main([*made_up, "--enrolment", str(tmp_path / "made.npz")]) == 1
    assert "it has all of the trials' utterances: enrol others" in capsys.readouterr().err


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
        (["--cohort", "x.npz"], "--cohort needs --norm too, or a --calibration"),
        (["--norm", "as", "--cohort", "E"], "the 300 highest scores"),
        (["--top", "5"], "--top 5 is of --norm as"),
        (["--norm", "z", "--cohort", "E", "--top", "5"], "--top 5 is of --norm as"),
        (["--cohort-of", "speakers"], "--cohort-of speakers needs --cohort too"),
        (["--bootstrap", "3"], "--bootstrap 3: 20 draws or more"),
        (["--norm", "z", "--cohort", "nowhere"], "with --embeddings it must be embeddings too"),
        (["--scoring-options", "a"], "expected NAME=VALUE"),
        (["--scoring-options", "a=1"], "--scoring-options: "),
        (["--scoring-options", "a=1", "a=2"], "a is given twice"),
        (["--calibration", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_does_not_fit_is_a_line(evaluate, folder, tmp_path, capsys, more, said):
    assert evaluate(*[str(folder / "e.npz") if word == "E" else word for word in more]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("eval: error: ")
    assert said in error
    assert not (tmp_path / "out" / "metrics.json").exists()
