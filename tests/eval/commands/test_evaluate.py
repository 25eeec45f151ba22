from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from project import REPO

from eval.__main__ import main
from eval.embeddings import load_embeddings
from eval.scoring import build_scorer
from eval.trials import read_trials
from models.registry import build_network

REAL = REPO.parent / "shared" / "data" / "librispeech-mini"


def write_checkpoint(path, name, options):
    torch.manual_seed(0)
    torch.save(
        {
            "format": "voxshard-checkpoint",
            "version": 1,
            "step": 42,
            "config": {"model": {"name": name, "options": options}, "run": {"seed": 1}},
            "network": build_network(name, options).state_dict(),
        },
        path,
    )
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder / "step-42.pt", "tdnn", {"channels": 16, "embedding_size": 16})


@pytest.fixture
def arguments(checkpoint, voices, tmp_path):
    return {
        "checkpoint": checkpoint,
        "--trials": str(voices.trials),
        "--data": str(voices.folder),
        "--out": str(tmp_path / "out"),
        "--device": "cpu",
    }


def run(arguments, *more):
    words = [arguments["checkpoint"]]
    for name, value in arguments.items():
        if name.startswith("--"):
            words += [name, value]
    return main([*words, *more])


def test_results_and_summary(arguments, tmp_path, capsys):
    assert run(arguments, "--crops", "2", "--crop-frames", "30", "--p-target", "0.1") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["step"], metrics["checkpoint"]) == (42, arguments["checkpoint"])
    assert (metrics["crops"], metrics["crop_feature_frames"], metrics["device"]) == (2, 30, "cpu")
    assert list(metrics["min_dcf"]) == ["0.1"]
    assert metrics["versions"]["torch"] == torch.__version__
    assert len((tmp_path / "out" / "scores.txt").read_text().splitlines()) == 66
    shown = capsys.readouterr()
    assert f"EER {metrics['eer']:>26.3f} %".split() == shown.out.splitlines()[1].split()
    assert "minDCF(p_target=0.1)" in shown.out
    assert "trials.txt: 66 trials" in shown.out
    assert str(tmp_path / "out" / "report.html") in shown.out
    assert "12/12" in shown.err


def test_embeddings_are_saved_and_give_the_same_scores(arguments, checkpoint, tmp_path):
    file = tmp_path / "embeddings.npz"
    assert run(arguments, "--crops", "2", "--crop-frames", "30", "--save-embeddings", str(file)) == 0
    saved = load_embeddings(str(file))
    assert saved.vectors.shape == (12, 2, 16)
    assert (saved.crops, saved.crop_feature_frames) == (2, 30)
    with open(checkpoint, "rb") as made_by:
        assert saved.made_by == hashlib.sha256(made_by.read()).hexdigest()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["checkpoint_sha256"] == saved.made_by
    scores = build_scorer("cosine").score(saved, read_trials(arguments["--trials"]))
    lines = (tmp_path / "out" / "scores.txt").read_text().splitlines()
    assert scores.tolist() == [float(line.split()[0]) for line in lines]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("checkpoint", "nowhere.pt", "nowhere.pt"),
        ("--trials", "nowhere.txt", "nowhere.txt"),
        ("--data", "nowhere", "nowhere: no such folder"),
        ("--out", "/dev/null/out", "/dev/null/out"),
    ],
)
def test_mistakes_cost_one_line(arguments, capsys, name, value, message):
    assert run(arguments | {name: value}) == 1
    error = capsys.readouterr().err
    assert error.startswith("eval: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_crops_that_would_fill_the_memory(arguments, capsys):
    assert run(arguments, "--crops", "1000", "--crop-frames", "400") == 1
    assert "lower one of them" in capsys.readouterr().err


def test_units_stand_beside_the_numbers(arguments, tmp_path):
    assert run(arguments) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["units"]["eer"] == "percent"


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("voxshard ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(arguments, capsys):
    assert run(arguments | {"--device": "cuda"}) == 1
    assert "--device cuda" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--crops", "-1"],
        ["--crop-frames", "0"],
        ["--p-target", "1"],
        ["--scoring", "plda"],
        ["--threads", "0"],
        ["--threads", "100000"],
        ["--crops", "100000000"],
        ["--crops", "1e8"],
        ["--crop-frames", "100000000"],
        ["--batch-utterances", "100000000"],
        ["--p-target", "nan"],
        ["--data", ""],
        ["--out", " "],
    ],
)
def test_wrong_values_are_refused(arguments, capsys, wrong):
    with pytest.raises(SystemExit) as caught:
        run(arguments, *wrong)
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_stereo_and_other_rates_are_refused_by_name(arguments, voices, tmp_path, capsys):
    import soundfile

    for name in voices.lengths:
        path = tmp_path / "wav" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((voices.folder / name).read_bytes())
    soundfile.write(tmp_path / "wav" / "s2/00.wav", np.zeros((8000, 2), np.int16), 8000)
    assert run(arguments | {"--data": str(tmp_path / "wav")}) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "s2/00.wav" in error
    assert "8000 Hz, 2 channels" in error
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert "--crop-frames" in shown


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real recordings are not at {REAL}")
def test_random_weights_on_real_speech(tmp_path, capsys):
    options = {"embedding_size": 512, "pooling": "sap", "n_mels": 40, "log_input": True}
    checkpoint = write_checkpoint(tmp_path / "c.pt", "resnetse34l", options)
    trials, data = str(REAL / "lists/veri_test.txt"), str(REAL / "wav")
    words = ["--trials", trials, "--data", data, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([checkpoint, *words]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["trials"], metrics["targets"], metrics["utterances"]) == (4950, 450, 100)
    assert 18 < metrics["eer"] < 28
