from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from processes import answer
from project import REPO

from eval.__main__ import main
from eval.embeddings import load_embeddings
from eval.scoring import build_scorer
from eval.trials import read_trials
from shard_tools.pack.packing import PackOptions, pack

REAL = REPO.parent / "shared" / "data" / "librispeech-mini"


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


@pytest.mark.slow
@pytest.mark.pictures
def test_results_and_summary(arguments, tmp_path, capsys):
    assert run(arguments, "--crops", "2", "--crop-frames", "30", "--p-target", "0.1") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["step"], metrics["checkpoint"]) == (42, arguments["checkpoint"])
    assert (metrics["crops"], metrics["crop_feature_frames"], metrics["device"]) == (2, 30, "cpu")
    assert list(metrics["min_dcf"]) == ["0.1"]
    assert metrics["versions"]["torch"] == torch.__version__
    assert len((tmp_path / "out" / "scores.txt").read_text().splitlines()) == 66
    assert (tmp_path / "out" / "det.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "report.html").stat().st_size > 20_000  # with pictures
    shown = capsys.readouterr()
    assert f"EER {metrics['eer']:>26.3f} %".split() == shown.out.splitlines()[1].split()[:3]
    assert "minDCF(p_target=0.1)" in shown.out
    assert "trials.txt: 66 trials" in shown.out
    assert str(tmp_path / "out" / "report.html") in shown.out
    assert "12/12" in shown.err


@pytest.mark.slow
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


def lists_of(voices, tmp_path):
    lines = voices.trials.read_text().splitlines()
    (tmp_path / "hard.txt").write_text("\n".join(lines[:40]))
    (tmp_path / "blind.txt").write_text("\n".join(line[2:] for line in lines[30:]))
    return [str(voices.trials), str(tmp_path / "hard.txt"), str(tmp_path / "blind.txt")]


@pytest.mark.slow
def test_several_lists_in_one_run(arguments, voices, tmp_path, capsys):
    lists = lists_of(voices, tmp_path)
    words = [arguments["checkpoint"], "--data", str(voices.folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu", "--trials", *lists]) == 0
    shown = capsys.readouterr()
    assert "12/12" in shown.err  # each utterance once
    out = tmp_path / "out"
    assert json.loads((out / "hard" / "metrics.json").read_text())["trials"] == 40
    assert json.loads((out / "trials" / "metrics.json").read_text())["trials"] == 66
    assert not (out / "blind" / "det.png").exists()
    blind = json.loads((out / "blind" / "metrics.json").read_text())
    assert "eer" not in blind
    assert (blind["targets"], blind["nontargets"]) == (None, None)  # which it does not say
    assert "blind.txt: 36 trials without labels" in shown.out
    whole = (out / "trials" / "scores.txt").read_text().splitlines()
    assert (out / "hard" / "scores.txt").read_text().splitlines() == whole[:40]
    assert (out / "blind" / "scores.txt").read_text().splitlines() == whole[30:]


def test_lists_of_one_name_are_refused(arguments, voices, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "trials.txt").write_text(voices.trials.read_text())
    words = [arguments["checkpoint"], "--data", str(voices.folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--trials", str(voices.trials), str(tmp_path / "b" / "trials.txt")]) == 1
    assert "two lists are called trials.txt" in capsys.readouterr().err


@pytest.mark.slow
def test_embeddings_that_were_kept_are_taken_by_the_next_evaluation(arguments, voices, tmp_path, capsys):
    cache = ["--cache", str(tmp_path / "cache")]
    assert run(arguments, *cache) == 0
    first = (tmp_path / "out" / "scores.txt").read_text()
    capsys.readouterr()
    assert run(arguments | {"--out": str(tmp_path / "again")}, *cache, "--scoring", "euclidean") == 0
    assert "12 of 12 embeddings were made before" in capsys.readouterr().err
    assert run(arguments | {"--out": str(tmp_path / "third")}, *cache) == 0
    assert (tmp_path / "third" / "scores.txt").read_text() == first
    capsys.readouterr()
    assert run(arguments | {"--out": str(tmp_path / "third")}, "--no-cache") == 0
    assert "made before" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["npz", "ark", "scp"])
def test_scores_without_a_network(arguments, tmp_path, ending):
    file = tmp_path / f"e.{ending}"
    saved = str(file.with_suffix(".ark") if ending == "scp" else file)
    assert run(arguments, "--crops", "2", "--crop-frames", "30", "--save-embeddings", saved) == 0
    words = ["--embeddings", str(file), "--trials", arguments["--trials"], "--out", str(tmp_path / "again")]
    assert main(words) == 0
    again = (tmp_path / "again" / "scores.txt").read_text()
    assert again == (tmp_path / "out" / "scores.txt").read_text()
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert metrics["crops"] == 2
    assert "checkpoint" not in metrics


@pytest.mark.slow
def test_embeddings_of_another_checkpoint_or_of_too_few(arguments, checkpoint, voices, tmp_path, capsys):
    file = tmp_path / "e.npz"
    assert run(arguments, "--save-embeddings", str(file)) == 0
    words = ["--embeddings", str(file), "--trials", arguments["--trials"], "--out", str(tmp_path / "again")]
    assert main([checkpoint, *words]) == 0
    options = {"channels": 16, "embedding_size": 8}
    other = write_checkpoint(tmp_path / "other.pt", "tdnn", options)
    capsys.readouterr()
    assert main([other, *words]) == 1
    assert "embeddings of the checkpoint" in capsys.readouterr().err
    (tmp_path / "more.txt").write_text(voices.trials.read_text() + "0 s0/00.wav s9/00.wav\n")
    assert main([*words, "--trials", str(tmp_path / "more.txt")]) == 1
    assert "no embedding of 's9/00.wav'; embed it too" in capsys.readouterr().err
    assert main(["--embeddings", str(file), "--trials", arguments["--trials"]]) == 1
    assert "give --out too" in capsys.readouterr().err
    assert main(["--trials", arguments["--trials"]]) == 1
    assert "give a CHECKPOINT, or --embeddings FILE" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "text", "shape"),
    [
        (
            ["--protocol", "mean", "--crops", "3", "--crop-frames", "30"],
            "mean of 3 crops of 30 frames",
            (12, 1),
        ),
        (["--crop-frames", "20", "--hop", "10"], "mean of windows of 20 frames every 10", (12, 1)),
        (["--crops", "3", "--crop-frames", "30"], "3 crops of 30 frames", (12, 3)),
        ([], "whole utterances", (12, 1)),
    ],
)
def test_protocols(arguments, tmp_path, words, text, shape):
    file = tmp_path / "e.npz"
    assert run(arguments, *words, "--save-embeddings", str(file)) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["protocol"] == text
    saved = load_embeddings(str(file))
    assert saved.vectors.shape == (*shape, 16)
    assert saved.protocol == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "mean"], "--protocol mean: takes --crops N"),
        (["--protocol", "windows", "--hop", "10", "--crops", "2"], "--protocol windows: takes"),
        (["--protocol", "whole", "--crops", "2"], "--protocol whole: takes no --crops"),
        (["--protocol", "whole", "--crop-frames", "30"], "--protocol whole: takes no --crop-frames"),
        (["--crop-frames", "30"], "--crop-frames 30: give --crops N"),
        (["--crops", "2", "--hop", "3", "--protocol", "crops"], "no --hop"),
    ],
)
def test_options_of_protocols_that_do_not_fit_together(arguments, capsys, words, said):
    assert run(arguments, *words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_speakers_who_were_in_the_training_are_named(arguments, checkpoint, voices, tmp_path, capsys):
    shards = str(tmp_path / "shards")
    pack(str(voices.folder), shards, options=PackOptions(utterances_per_shard=8))
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["data"] = {"url": [shards]}
    torch.save(saved, tmp_path / "c.pt")
    assert run(arguments | {"checkpoint": str(tmp_path / "c.pt"), "--data": shards}) == 0
    assert "4 of the 4 speakers were in the training" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["speakers_in_training"] == ["s0", "s1", "s2", "s3"]
    lists, words = lists_of(voices, tmp_path), [str(tmp_path / "c.pt"), "--device", "cpu", "--bootstrap", "0"]
    first = tmp_path / "first.txt"
    first.write_text("1 s0/00.wav s0/01.flac\n0 s0/00.wav s1/00.wav\n")
    out, trials = str(tmp_path / "each"), [str(first), lists[0]]
    assert main([*words, "--trials", *trials, "--data", str(voices.folder), "--out", out]) == 0
    found = json.loads((tmp_path / "each" / "first" / "metrics.json").read_text())
    assert found["speakers_in_training"] == ["s0", "s1"]  # of this list, not of all
    folder = tmp_path / "parent"
    shutil.copytree(voices.folder, folder / "wav")
    first.write_text("1 wav/s0/00.wav wav/s0/01.flac\n0 wav/s0/00.wav wav/s1/00.wav\n")
    assert main([*words, "--trials", str(first), "--data", str(folder), "--out", out]) == 0
    # The first folder is nobody, as the labels show: nothing is known of the speakers.
    assert "speakers_in_training" not in json.loads((tmp_path / "each" / "metrics.json").read_text())
    saved["config"]["data"] = {"url": str(tmp_path / "moved")}
    torch.save(saved, tmp_path / "c.pt")
    assert run(arguments | {"checkpoint": str(tmp_path / "c.pt")}) == 0
    assert "speakers_in_training" not in json.loads((tmp_path / "out" / "metrics.json").read_text())


@pytest.mark.slow
def test_data_in_several_places(arguments, voices, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(voices.folder / "s0", half / "s0")
    shards = str(tmp_path / "shards")
    pack(str(voices.folder), shards)
    words = [arguments["checkpoint"], "--trials", arguments["--trials"], "--device", "cpu"]
    assert main([*words, "--data", str(half), shards, "--out", str(tmp_path / "several")]) == 0
    assert run(arguments) == 0
    several = (tmp_path / "several" / "scores.txt").read_text()
    found = [float(line.split()[0]) for line in several.splitlines()]
    expected = [float(line.split()[0]) for line in (tmp_path / "out" / "scores.txt").read_text().splitlines()]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def start_ranks(arguments, out, *more):
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "eval",
    ]
    words += [
        arguments["checkpoint"],
        "--trials",
        arguments["--trials"],
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    return answer([*words, *more])


@pytest.mark.slow
def test_ranks_write_what_one_process_does_and_leave_when_one_fails(arguments, voices, tmp_path):
    assert run(arguments, "--batch-utterances", "2") == 0
    done = start_ranks(arguments, tmp_path / "two", "--data", str(voices.folder), "--batch-utterances", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "two" / "scores.txt").read_text() == (tmp_path / "out" / "scores.txt").read_text()
    assert done.stdout.count("EER") == 1
    folder = tmp_path / "wav"
    shutil.copytree(voices.folder, folder)
    (folder / "s2/00.wav").write_bytes(b"RIFF")
    done = start_ranks(arguments, tmp_path / "bad", "--data", str(folder))
    assert done.returncode != 0
    assert "eval: error: " in done.stderr
    assert "s2/00.wav" in done.stderr
    assert not (tmp_path / "bad" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--crops", "10"], "--crops: nothing is embedded with --embeddings"),
        (["--data", "wav"], "--data: nothing is embedded"),
        (["--no-cache"], "--no-cache: nothing is embedded"),
        (["--which", "best"], "--which best chooses among the checkpoints of a CHECKPOINT: give one"),
        (["--audio-links"], "--audio-links: the audio is not at hand"),
    ],
)
def test_options_without_effect_on_embeddings(voices, tmp_path, capsys, words, message):
    whole = ["--embeddings", "x.npz", "--trials", str(voices.trials), "--out", str(tmp_path)]
    assert main([*whole, *words]) == 1
    assert message in capsys.readouterr().err


def test_files_that_could_not_be_written_are_refused_first(arguments, voices, tmp_path, capsys):
    named = tmp_path / "wav" / "a b"
    shutil.copytree(voices.folder / "s0", named)
    (tmp_path / "t.txt").write_text("1\ta b/00.wav\ta b/01.flac\n0\ta b/00.wav\ta b/02.flac\n")
    blanks = arguments | {"--trials": str(tmp_path / "t.txt"), "--data": str(tmp_path / "wav")}
    for given, file, said in (
        (arguments, "e.scp", "must end in .npz or .ark"),
        (arguments, "/dev/null/e.npz", "/dev/null/e.npz"),
        (blanks, str(tmp_path / "e.ark"), "'a b/00.wav' holds blanks"),
    ):
        assert run(given, "--save-embeddings", file) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "embedding:" not in error
    assert run(arguments, "--cache", "/dev/null/cache") == 1
    error = capsys.readouterr().err
    assert error.startswith("eval: error: /dev/null/cache")  # without a word of progress


def test_why_there_are_no_intervals_is_said(arguments, voices, tmp_path, capsys):
    shutil.copytree(voices.folder / "s0", tmp_path / "flat")
    (tmp_path / "t.txt").write_text("1 00.wav 01.flac\n0 00.wav 02.flac\n")
    flat = arguments | {"--trials": str(tmp_path / "t.txt"), "--data": str(tmp_path / "flat")}
    assert run(flat) == 0
    assert "no intervals: the speakers are not known" in capsys.readouterr().out


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


@pytest.mark.slow
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
    assert "--device is cuda, but torch finds no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--crops", "-1"],
        ["--crop-frames", "0"],
        ["--p-target", "1"],
        ["--scoring", "nobody"],
        ["--operating-points", "0.5,1"],
        ["--operating-points", "0.5,-1,1"],
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
@pytest.mark.exhaustive
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
