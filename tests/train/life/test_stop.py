"""A signal ends a run after a step that all ranks agree on, with a checkpoint; started again it goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from processes import children, descendants, finish, kill_tree, start, start_warm, torchrun, wait_until
from small_run import SMALL_NETWORK

from eval.checkpoint.file import read_checkpoint

pytestmark = pytest.mark.slow

STEPS = 60


def options(corpus, folder: Path, **changed: str) -> list[str]:
    chosen = {
        "data.url": corpus.wav,
        "data.crop_frames": "50",
        "data.workers": "1",
        "batch.speakers": "8",
        "batch.utterances_per_speaker": "2",
        "augment.noise.url": corpus.noise,
        "model.name": "tdnn",
        "model.options": json.dumps(SMALL_NETWORK),
        "loss.name": "angleproto",
        "train.steps": str(STEPS),
        "train.log_every": "1",
        "checkpoint.every": "1000",
        "run.folder": str(folder),
    } | {key.replace("__", "."): value for key, value in changed.items()}
    return [word for key, value in chosen.items() for word in (f"--{key}", value)]


def last_step(folder: Path) -> int:
    try:
        return int(json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    except (OSError, IndexError, ValueError):
        return 0


def state(folder: Path) -> dict:
    return json.loads((folder / "state.json").read_text())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_without_torchrun_the_exit_status_says_to_start_again(corpus, tmp_path, number) -> None:
    begin = start if number == signal.SIGTERM else start_warm
    process = begin([sys.executable, "-m", "train", *options(corpus, tmp_path)], tmp_path / "out")
    try:
        wait_until(lambda: last_step(tmp_path) >= 5, 90, "step 5")
        os.kill(process.pid, number)
        assert process.wait(60) == 75
    finally:
        kill_tree(process.pid)
    said = (tmp_path / "out").read_text()
    stopped = state(tmp_path)
    assert stopped["state"] == "stopped"
    assert 5 <= stopped["saved_step"] < STEPS
    assert f"stopped by {signal.Signals(number).name} after step {stopped['saved_step']} of {STEPS}" in said
    assert (tmp_path / f"checkpoints/step-{stopped['saved_step']:08d}.pt").exists()
    assert not (tmp_path / "lock").exists()


def test_one_rank_is_told_and_both_leave_after_the_same_step(corpus, tmp_path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    status, said = finish(torchrun(2, "-m", "train", *options(corpus, whole)), tmp_path / "out")
    assert status == 0, said

    process = start_warm(torchrun(2, "-m", "train", *options(corpus, parts)), tmp_path / "out")
    try:
        wait_until(lambda: last_step(parts) >= random.randint(3, 20), 90, "a few steps")
        below = descendants(process.pid)
        ranks = children(process.pid)
        assert len(ranks) == 2
        # What a cluster sends goes to the reading processes too, and perhaps to one rank more than once.
        for pid in set(below) - set(ranks):
            os.kill(pid, signal.SIGTERM)
        for _ in range(3):
            os.kill(random.choice(ranks), signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "out").read_text()
    finally:
        kill_tree(process.pid)
    stopped = state(parts)
    assert stopped["state"] == "stopped"
    assert 0 < stopped["saved_step"] < STEPS

    status, said = finish(torchrun(2, "-m", "train", *options(corpus, parts)), tmp_path / "out")
    assert status == 0, said
    assert state(parts)["state"] == "done"
    one, two = (read_checkpoint(str(run / f"checkpoints/step-{STEPS:08d}.pt")) for run in (whole, parts))
    for name, value in one["network"].items():
        assert torch.equal(value, two["network"][name]), name
    steps = [json.loads(line)["step"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


def test_a_validation_that_was_cut_off_is_made_up_for(corpus, tmp_path) -> None:
    validation = {"validation__trials": str(corpus.trials), "validation__data": f"{corpus.folder}/wav"}
    chosen = options(corpus, tmp_path, train__steps="4", data__workers="0", **validation)
    command = [sys.executable, "-m", "train", *chosen]
    assert finish(command, tmp_path / "out")[0] == 0
    rates = tmp_path / "checkpoints/step-00000004.json"
    found = rates.read_text()
    # As it lies there between the steps' end and the validation's.
    rates.unlink()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"validation"' not in line]
    (tmp_path / "metrics.jsonl").write_text("".join(line + "\n" for line in kept))
    assert finish(command, tmp_path / "out")[0] == 0
    assert rates.read_text() == found
    assert sum('"validation"' in line for line in (tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    wrote = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "step 4: wrote" in line]
    assert len(wrote) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_saves_and_leaves(corpus, tmp_path, processes) -> None:
    words = ["-m", "train", *options(corpus, tmp_path, train__steps="100000")]
    command = [sys.executable, *words] if processes == 1 else torchrun(processes, *words)
    process = start_warm(command, tmp_path / "out", group=True)  # as a terminal starts it
    try:
        wait_until(lambda: last_step(tmp_path) >= 5, 90, "step 5")
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(60)
    finally:
        kill_tree(process.pid)
    stopped = state(tmp_path)
    said = (tmp_path / "log.txt").read_text()
    assert stopped["state"] == "stopped", said
    assert stopped["saved_step"] >= 5
    assert f"stopped by SIGINT after step {stopped['saved_step']} of 100000" in said
    assert status == (75 if processes == 1 else status)
    assert "Traceback" not in said


def test_a_second_ctrl_c_leaves_at_once(corpus, tmp_path) -> None:
    """The first one waits for a step that takes as long as its data, which do not come."""
    changed = {"train__steps": "100000", "data__workers": "0"}
    command = [sys.executable, "-m", "train", *options(corpus, tmp_path, **changed)]
    process = start_warm(command, tmp_path / "out")
    try:
        wait_until(lambda: last_step(tmp_path) >= 5, 90, "step 5")
        os.kill(process.pid, signal.SIGSTOP)  # in the midst of a step
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        wait_until(lambda: b"again, to leave at once" in (tmp_path / "out").read_bytes(), 30, "its word")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) in (75, 130)  # it may have been through with its step before
    finally:
        kill_tree(process.pid)
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert state(tmp_path)["state"] == "stopped"


def test_a_rank_without_its_companions_is_told_so(corpus, tmp_path) -> None:
    command = [sys.executable, "-m", "train", *options(corpus, tmp_path / "run")]
    status, said = finish(command, tmp_path / "out", RANK="1")
    assert status == 1
    assert said.splitlines()[-1].startswith(
        "train[rank 1]: error: RANK is 1 in the environment, and WORLD_SIZE"
    )
    assert "Traceback" not in said


def test_a_folder_that_is_moved_away_ends_the_run_in_a_line(corpus, tmp_path) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    command = [sys.executable, "-m", "train", *options(corpus, folder, train__steps="100000")]
    process = start_warm(command, tmp_path / "out")
    try:
        wait_until(lambda: last_step(folder) >= 5, 90, "step 5")
        folder.rename(away)
        assert process.wait(60) == 1
    finally:
        kill_tree(process.pid)
    said = (tmp_path / "out").read_text()
    assert "was moved or deleted while the run wrote to it" in said
    assert "Traceback" not in said
    assert not folder.exists()
