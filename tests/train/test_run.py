"""Training in real processes under torchrun: sameness, SIGKILL and resume, clear failures."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import torch
from processes import alive, children, descendants, finish, kill_tree, start_warm, torchrun, wait_until
from project import REPO
from small_run import SMALL_NETWORK

from eval.__main__ import main as evaluate
from eval.checkpoint.file import read_checkpoint

pytestmark = pytest.mark.slow

STEPS = 30
# What has state of its own besides, or another way through a step.
EVERYTHING = {
    "train.accumulate": "2",
    "train.norm_rows": "4",
    "train.ema": "0.9",
    "train.channels_last": "true",
    "optim.clip": "1",
    "optim.no_decay": "true",
    "optim.weight_decay": "0.01",
}


def options(corpus, folder, **changed):
    chosen = {
        "data.url": corpus.wav,
        "data.crop_frames": "50",
        "data.workers": "1",
        "batch.speakers": "8",
        "batch.utterances_per_speaker": "2",
        "model.name": "tdnn",
        "model.options": json.dumps(SMALL_NETWORK),
        "loss.name": "angleproto",
        "augment.noise.url": corpus.noise,
        "augment.reverberation.url": corpus.rooms,
        "schedule.gamma": "0.9",
        "schedule.every": "2",
        "train.steps": str(STEPS),
        "train.log_every": "1",
        "checkpoint.every": "4",
        "checkpoint.keep": "100",
        "run.folder": str(folder),
    } | {key.replace("__", "."): value for key, value in changed.items()}
    return [word for key, value in chosen.items() for word in (f"--{key}", value)]


def train(corpus, folder, processes=2, **changed):
    return torchrun(processes, "-m", "train", *options(corpus, folder, **changed))


def test_one_process_and_two_see_the_same_global_batches(corpus, tmp_path):
    script = str(REPO / "tests/helpers/dump_batches.py")
    for processes in (1, 2):
        prefix = str(tmp_path / f"world{processes}")
        command = torchrun(processes, script, prefix, "0", "9", *options(corpus, tmp_path))
        status, output = finish(command, tmp_path / "log")
        assert status == 0, output
    whole = np.load(tmp_path / "world1-0.npz")
    halves = [np.load(tmp_path / f"world2-{rank}.npz") for rank in (0, 1)]
    assert whole["audio"].shape == (9, 16, 8240)
    for name in ("audio", "label", "n", "utterance"):
        joined = np.concatenate([half[name] for half in halves], axis=1)
        assert joined.tobytes() == whole[name].tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    status, output = finish(train(corpus, folder / "run", **EVERYTHING), folder / "out")
    assert status == 0, output
    return folder / "run"


def final_state(folder):
    return read_checkpoint(str(folder / f"checkpoints/step-{STEPS:08d}.pt"))


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for part in ("network", "trained", "loss"):
        assert first[part].keys() == second[part].keys()
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), f"{part} {name}"
    for number, moments in first["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, second["optimizer"]["state"][number][name]), (
                f"optimizer {number} {name}"
            )


def test_killed_in_three_ways_and_resumed_it_ends_in_the_same_parameters(corpus, undisturbed, tmp_path):
    """SIGKILL for all processes, for torchrun alone and for a rank alone, each at any step of a third."""
    folder, log = tmp_path / "run", tmp_path / "out"
    metrics = folder / "metrics.jsonl"
    victims = random.sample(["everything", "torchrun", "a rank"], 3)
    for third, victim in enumerate(victims):
        moment = 8 * third + random.randrange(3, 9)  # the message below tells which it was
        print("kill", victim, "after step", moment)
        kill_at(moment, victim, start_warm(train(corpus, folder, **EVERYTHING), log), log, metrics)

    status, output = finish(train(corpus, folder, **EVERYTHING), log)
    assert status == 0, output
    assert "resuming from" in output
    assert_same_state(final_state(undisturbed), final_state(folder))
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1)), "a step is missing from the metrics, or twice in them"
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (undisturbed, folder)
    ]
    assert losses[0] == losses[1]


def kill_at(moment, victim, process, log, metrics):
    def reached():
        assert process.poll() is None, log.read_text()
        return metrics.exists() and metrics.read_text().count("\n") >= moment

    try:
        wait_until(reached, 120, f"step {moment}")
        below = descendants(process.pid)
        assert len(below) >= 4, "two ranks with a worker each were expected"
        if victim == "everything":
            kill_tree(process.pid)
        elif victim == "torchrun":
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.kill(random.choice(children(process.pid)), signal.SIGKILL)
        process.wait(60)
        wait_until(lambda: not alive(below), 30, "the end of all ranks and workers")
    finally:
        kill_tree(process.pid)
    assert process.returncode != 0


def test_several_datasets_by_windows_resume_bit_equal(corpus, tmp_path):
    """Speakers of both are joined: a resumed run must know where each dataset's windows begin."""
    chosen = {
        "data__url": f"[{corpus.wav}, {corpus.flac}]",
        "data__weights": "[3, 1]",
        "data__same_speakers": "joined",
        "data__order": "windows",
        "data__windows__lanes": "2",
        "data__windows__shards": "1",
        "batch__utterances_per_speaker": "1",
        "loss__name": "softmax",
        "train__ema": "0.9",
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    status, output = finish(train(corpus, whole, 1, **chosen), tmp_path / "log")
    assert status == 0, output
    assert "6 of a batch's 8 speakers (75.0 %); a window of shards: " in output
    assert "2 of a batch's 8 speakers (25.0 %); a window of shards: " in output
    assert "16 speakers over all 2 datasets" in output

    shutil.copytree(whole, parts)
    for later in (parts / "checkpoints").glob("step-*.pt"):
        if int(later.stem[5:]) > 12:
            later.unlink()
    status, output = finish(train(corpus, parts, 1, **chosen), tmp_path / "log")
    assert status == 0, output
    assert "at step 12" in output
    assert_same_state(final_state(whole), final_state(parts))
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (whole, parts)
    ]
    for one, two in zip(*lines, strict=True):
        assert [one[key] for key in ("step", "loss", "epochs")] == [
            two[key] for key in ("step", "loss", "epochs")
        ]
    assert lines[0][-1]["epochs"][0] >= 1


def test_a_cut_checkpoint_is_passed_over(corpus, undisturbed, tmp_path):
    folder = tmp_path / "run"
    status, output = finish(train(corpus, folder, **EVERYTHING, train__steps="8"), tmp_path / "out")
    assert status == 0, output
    newest = folder / "checkpoints/step-00000008.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    status, output = finish(train(corpus, folder, **EVERYTHING), tmp_path / "out")
    assert status == 0, output
    assert "step-00000008.pt: the checkpoint is cut short" in output
    assert "resuming from" in output
    assert "step-00000004.pt at step 4" in output
    assert_same_state(final_state(undisturbed), final_state(folder))


def test_a_validated_run_leaves_what_was_promised(corpus, tmp_path):
    folder = tmp_path / "run"
    changed = {"validation__trials": str(corpus.trials), "validation__data": str(corpus.folder / "wav")}
    changed |= {
        "validation__every": "5",
        "checkpoint__keep": "2",
        "train__precision": "bf16",
        "train__steps": "10",
    }
    status, output = finish(train(corpus, folder, **changed), tmp_path / "out")
    assert status == 0, output
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validated = [record for record in records if record["group"] == "validation"]
    assert [record["step"] for record in validated] == [5, 10]
    best = json.loads((folder / "checkpoints/best.json").read_text())
    assert best["eer"] == min(record["eer"] for record in validated)
    assert (folder / "checkpoints" / best["checkpoint"]).exists()
    trained = [record for record in records if record["group"] == "train"]
    for name in ("loss", "accuracy", "lr", "utterances_per_second", "data_wait", "epoch"):
        assert all(isinstance(record[name], (int, float)) for record in trained), name
    assert (folder / "log.txt").read_text().count("EER") == 2
    assert list(folder.glob("events.out.tfevents.*"))
    assert "url: " in (folder / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("processes", "changed", "message"),
    [
        (3, {}, "batch.speakers 8 cannot be shared by 3 processes: set it to 6 or 9"),
        (1, {"batch__speakers": "17"}, "batch.speakers asks for 17 speakers"),
        (2, {"loss__options": '{"margn": 0.2}'}, "margn"),
        (1, {"model__name": "resnetse"}, "resnetse34l"),
        (1, {"data__url": "/nowhere"}, "/nowhere/manifest.json"),
        (1, {"run__folder": "/proc/here"}, "run.folder /proc/here cannot be written"),
        (1, {"optim__lr": "1e30"}, "lower optim.lr"),
    ],
)
def test_mistakes_end_every_rank_with_one_clear_line(corpus, tmp_path, processes, changed, message):
    status, output = finish(train(corpus, tmp_path / "run", processes, **changed), tmp_path / "out", 90)
    assert status != 0
    who = "train[rank" if processes > 1 else "train: "
    said = [line for line in output.splitlines() if who in line and "error:" in line]
    first, last = said[0], said[-1]
    assert message in first
    assert len(said) == min(processes, 2), output
    if processes > 1:
        assert last.split(": ", 1)[1].endswith(first), "torchrun should repeat the cause, last of all"
    assert "\n  File " not in output.split(first)[0], "a traceback came before the message"


@pytest.mark.parametrize(
    ("processes", "changed"), [(2, EVERYTHING), pytest.param(4, {}, marks=pytest.mark.exhaustive)]
)
def test_the_logged_error_rates_are_those_of_eval(corpus, tmp_path, processes, changed):
    """Every rank measures the network that the checkpoint has: BatchNorm's statistics are those of all."""
    folder = tmp_path / "run"
    validation = {"validation__trials": str(corpus.trials), "validation__data": f"{corpus.folder}/wav"}
    command = train(
        corpus, folder, processes, train__steps="8", validation__every="4", **validation, **changed
    )
    status, output = finish(command, tmp_path / "out")
    assert status == 0, output
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    logged = {line["step"]: line["eer"] for line in lines if line["group"] == "validation"}
    assert sorted(logged) == [4, 8]
    for step, eer in logged.items():
        out = tmp_path / f"eval-{step}"
        words = ["--trials", str(corpus.trials), "--data", f"{corpus.folder}/wav", "--out", str(out)]
        url = str(folder / f"checkpoints/step-{step:08d}.pt")
        assert evaluate([url, *words, "--device", "cpu"]) == 0
        assert json.loads((out / "metrics.json").read_text())["eer"] == pytest.approx(eer, abs=0.005)
        beside = json.loads((folder / f"checkpoints/step-{step:08d}.json").read_text())
        assert beside["eer"] == eer


def test_a_shared_head_resumes_the_same_and_without_being_shared(corpus, tmp_path):
    changed = {"loss__name": "aamsoftmax_subcentre", "train__steps": "8", "schedule__every": "1"}
    # Adam would make steps of its rate out of the rounding of gradients that are 0.
    changed |= {"loss__options": "{margin_ends: 0.5, centres: 2}", "optim__name": "sgd", "optim__lr": "0.01"}
    changed["train__ema"] = "0.9"

    def trained(name, sharded, of=None):
        folder = tmp_path / name
        if of is not None:
            (folder / "checkpoints").mkdir(parents=True)
            shutil.copy(of / "checkpoints/step-00000004.pt", folder / "checkpoints")
        command = train(corpus, folder, loss__sharded=sharded, **changed)
        status, output = finish(command, tmp_path / "out")
        assert status == 0, output
        assert (of is not None) == ("resuming from" in output)
        return folder, read_checkpoint(str(folder / "checkpoints/step-00000008.pt"))

    whole, undisturbed = trained("whole", "true")
    _, again = trained("again", "true", whole)
    assert_same_state(undisturbed, again)
    _, unshared = trained("unshared", "false", whole)
    assert unshared["loss"]["weight"].shape == (2 * unshared["speakers"], 16)
    for part in ("network", "loss"):
        for name, tensor in undisturbed[part].items():
            torch.testing.assert_close(unshared[part][name], tensor, rtol=0, atol=1e-5, msg=name)
