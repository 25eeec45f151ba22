"""What a training writes for its launcher, the launcher reads: both sides' own code over one folder."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import answer

from shard_tools import run_records
from shard_tools.run_records import FailureKind, RunState, State
from slurm.node import outcome
from slurm.records.run_folder import RunFolder
from train.life.failure import tell_run_folder
from train.life.lock import hold
from train.life.state import write_state


@pytest.fixture
def started_by_a_launcher(monkeypatch):
    monkeypatch.setenv(run_records.ATTEMPT_VARIABLE, "12.1")
    monkeypatch.setenv(run_records.NODE_VARIABLE, "n7")
    monkeypatch.setenv("RANK", "3")


def test_before_a_training_there_is_nothing(tmp_path):
    run = RunFolder(tmp_path)
    assert (run.state(), run.failures(), run.began(), run.beat()) == ({}, [], 0.0, None)
    assert run.damaged == {}


@pytest.mark.parametrize("state", get_args(RunState))
def test_the_state_is_read_as_it_was_written(state, tmp_path, started_by_a_launcher):
    write_state(str(tmp_path), state, saved_step=40, last_step=600, world=4)
    run = RunFolder(tmp_path)
    found = run.state()
    assert found.keys() == State.__dataclass_fields__.keys()
    assert abs(found.pop("time") - time.time()) < 60
    assert found == {
        "state": state,
        "saved_step": 40,
        "last_step": 600,
        "world": 4,
        "attempt": "12.1",
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    assert run.saved_step() == 40
    assert run.damaged == {}


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_a_ranks_failure_is_read_as_it_was_written(kind, tmp_path, started_by_a_launcher):
    tell_run_folder(str(tmp_path), kind, "train: error: it broke\n")
    run = RunFolder(tmp_path)
    [failure] = run.failures("12.1")
    assert (failure.kind, failure.rank, failure.host, failure.attempt) == (kind, 3, "n7", "12.1")
    assert failure.message == "train: error: it broke\n"
    assert abs(failure.time - time.time()) < 60
    assert run.failures("12.2") == []
    assert run.damaged == {}


def test_of_several_the_cause_comes_first(tmp_path, monkeypatch):
    for rank, kind in enumerate(("peer", "crash", "peer")):
        monkeypatch.setenv("RANK", str(rank))
        tell_run_folder(str(tmp_path), kind, kind)
        time.sleep(0.005)  # their times are kept to the millisecond
    assert [failure.rank for failure in RunFolder(tmp_path).failures()] == [1, 0, 2]


@pytest.mark.slow
@given(text=st.text())
def test_whatever_a_failure_says_can_be_read(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tell_run_folder(str(folder), "crash", text)
    run = RunFolder(folder)
    assert len(run.failures()) == 1
    assert run.damaged == {}


def test_a_lock_says_since_when_and_that_its_holder_lives(tmp_path):
    before = time.time()
    run = RunFolder(tmp_path)
    with hold(str(tmp_path), beat=0.05):
        assert before <= run.began() <= time.time()
        first = run.beat()
        assert first is not None
        deadline = time.monotonic() + 30
        while run.beat() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert run.beat() is None
    assert run.damaged == {}


@pytest.mark.slow
def test_a_stop_means_the_same_on_both_sides(tmp_path: Path):
    """The training's program and the launcher's decision end with one status."""
    code = "import train.__main__ as m, sys; sys.exit(m.STOPPED)"
    assert answer([sys.executable, "-c", code]).returncode == outcome.STOPPED == 75


def test_what_was_written_by_another_hand_is_named(tmp_path):
    (tmp_path / run_records.STATE).write_text('{"state": "sleeping"}')
    (tmp_path / run_records.FAILURES).mkdir()
    (tmp_path / run_records.FAILURES / "x.json").write_text('{"time": "soon"}')
    run = RunFolder(tmp_path)
    assert (run.state(), run.failures()) == ({}, [])
    assert run.damaged.keys() == {"state.json", "failures/x.json"}
