"""`cancel`: which jobs it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from watch_fakes import FakeRun, FakeSlurm

from slurm.__main__ import main


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs" / "first")


def test_the_jobs_that_wait_or_run_are_ended_dependents_first(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for job, kind in (("11", "train"), ("12", "train"), ("13", "eval")):
        run.job(job, kind)
    slurm.queue("12|RUNNING|n1|1:00|None", "13|PENDING||1:00|Dependency", "14|RUNNING|n2|1:00|None")
    assert main(["cancel", "runs/first"]) == 0
    assert slurm.calls("scancel") == ["13", "12"]
    # Before: what the ranks' launcher does when they have saved must find the way back closed.
    assert slurm.calls("scontrol") == ["update JobId=13 Requeue=0", "update JobId=12 Requeue=0"]
    assert slurm.order().index("scontrol") < slurm.order().index("scancel")
    out = capsys.readouterr().out
    assert "cancelled job 12 (train, RUNNING)" in out
    assert "cancelled job 13 (eval, PENDING)" in out
    assert "KillWait" in out
    assert "python -m slurm resume runs/first" in out
    assert main(["cancel", "runs/first"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    assert slurm.calls("scancel") == ["13", "12"]


def test_a_job_that_has_not_begun_has_no_ranks_to_save(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    slurm.queue("12|PENDING||1:00|Resources")
    assert main(["cancel", "runs/first"]) == 0
    assert slurm.calls("scancel") == ["12"]
    assert "KillWait" not in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_refused_before_any_job_ends(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    slurm.queue("12|RUNNING|n1|1:00|None")
    for path, said in (("bin", "bin is no run, and there is none below it"), ("runs", "but a folder of 1")):
        assert main(["cancel", "runs/first", path]) == 1
        assert said in capsys.readouterr().err
    assert slurm.calls("scancel") == []


def test_without_slurm_it_says_where_to_go(
    run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.job("12")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["cancel", str(run.path)]) == 1
    assert "scancel is not in PATH here" in capsys.readouterr().err


def test_a_job_on_this_machine_is_told_and_another_process_of_its_number_is_not(
    slurm: FakeSlurm, run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sleep = "import time; time.sleep(60)"
    ours = subprocess.Popen([sys.executable, "-c", sleep, "submitit.local._local", str(run.folder.jobs_path)])
    other = subprocess.Popen([sys.executable, "-c", sleep])
    try:
        run.job(str(other.pid), cluster="local")
        assert main(["cancel", "runs/first"]) == 0
        assert "nothing to cancel" in capsys.readouterr().out
        run.job(str(ours.pid), cluster="local")
        assert main(["cancel", "runs/first"]) == 0
        assert f"told job {ours.pid}" in capsys.readouterr().out
        assert ours.wait(30) == -15
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()
