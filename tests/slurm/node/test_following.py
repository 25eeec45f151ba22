"""Whether a run that follows another one may begin, asked on its first node."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from slurm.node import following, training
from slurm.node.place import Place
from slurm.node.training import Training, run_node
from slurm.records import local_jobs
from slurm.records.run_folder import Job, RunFolder

HERE = Place("7", 0, 0, (socket.gethostname(),), on_slurm=False)


@pytest.fixture(autouse=True)
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.Signals, "listen", lambda self: None)
    monkeypatch.setattr(following, "_POLL_S", 0.01)


def note(run: Path, state: str, saved: int, last: int = 10) -> None:
    run.mkdir(exist_ok=True)
    text = json.dumps({"state": state, "saved_step": saved, "last_step": last, "attempt": "7.0", "time": 1.0})
    (run / "state.json").write_text(text)


def started(tmp_path: Path) -> tuple[int, bool]:
    """The exit status of the second run's node, and whether its training was started."""
    python, mark = tmp_path / "python", tmp_path / "trained"
    done = '{"state": "done", "saved_step": 5, "last_step": 5, "attempt": "7.0"}'
    python.write_text(f"#!/bin/bash\ntouch {mark}\necho '{done}' > {tmp_path}/second/state.json\n")
    python.chmod(0o755)
    first = str(tmp_path / "first")
    status = run_node(Training(str(tmp_path / "second"), (), 1, python=str(python), follows=first), HERE)
    return status, mark.exists()


@pytest.mark.slow
def test_after_a_run_that_is_done_it_trains(tmp_path):
    note(tmp_path / "first", "done", 10)
    assert started(tmp_path) == (0, True)


@pytest.mark.parametrize(("state", "saved"), [("failed", 5), ("running", 5), ("done", 5)])
def test_after_any_other_it_does_not_and_says_so_in_a_line(tmp_path, capsys, state, saved):
    note(tmp_path / "first", state, saved)
    assert started(tmp_path) == (1, False)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"failed: not begun, as {tmp_path}/first is {state}, at step 5 of 10" in line
    [attempt] = RunFolder(tmp_path / "second").attempts()
    assert attempt.outcome == "failed"


@pytest.mark.slow
def test_one_that_has_begun_goes_on_whatever_became_of_the_other(tmp_path):
    note(tmp_path / "first", "running", 5)
    note(tmp_path / "second", "stopped", 3)
    assert started(tmp_path) == (0, True)


@pytest.mark.slow
def test_on_this_machine_it_waits_for_the_process(tmp_path, monkeypatch):
    note(tmp_path / "first", "running", 5)
    RunFolder(tmp_path / "first").add_job(Job("9", "train", 1, 1, "x", "local"))
    answers = iter([True, True, False])

    def alive(job: Job) -> bool:
        going = next(answers)
        if not going:
            note(tmp_path / "first", "done", 10)
        return going

    monkeypatch.setattr(local_jobs, "alive", alive)
    assert started(tmp_path) == (0, True)


def test_the_last_word_of_another_node_may_take_its_time(tmp_path, monkeypatch):
    note(tmp_path / "first", "running", 5)
    seen = iter([False, False, True])
    monkeypatch.setattr(RunFolder, "is_done", lambda self: next(seen))
    on_slurm = Place("7", 0, 0, ("a",))
    assert (
        following.await_end(str(tmp_path / "first"), on_slurm, RunFolder(tmp_path / "x"), training.Signals())
        is None
    )
