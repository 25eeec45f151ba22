"""`status`: what a run's folder and squeue say, in one row."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watch_fakes import FakeRun, FakeSlurm

from slurm.__main__ import main
from slurm.records.run_folder import RunFolder
from slurm.records.scheduler import Queued
from slurm.watch.rows import Row, seconds_per_step, status_of
from slurm.watch.seen import Seen
from slurm.watch.state import Queue


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs" / "first")


def look(run: FakeRun, queue: Queue = None) -> Row:
    return status_of(Seen.read(run.folder), queue, time.time())


def in_queue(job: str = "12", state: str = "RUNNING", reason: str = "None") -> dict[str, Queued]:
    return {job: Queued(job, state, "n[1-2]", "1:02:03", reason)}


def test_a_job_that_waits_for_the_first_time_is_pending_for_squeues_reason(run: FakeRun) -> None:
    run.job("12")
    row = look(run, in_queue(state="PENDING", reason="Resources"))
    assert (row.state, row.note, row.job, row.restarts) == ("pending", "Resources", "12", None)
    assert row.time_left is None  # not of a job that has not begun


def test_a_running_job_tells_its_progress(run: FakeRun) -> None:
    run.job("12")
    run.attempt("12.0", "stopped", "stopped by a signal", ago=900)
    run.attempt("12.1", saved=400)
    run.state("running")
    run.trained(range(10, 510, 10))
    run.validated(step200=9.5, step400=7.25, step500=8.0)
    row = look(run, in_queue())
    assert (row.state, row.job_state, row.time_left, row.nodes, row.ranks_per_node) == (
        "running", "RUNNING", "1:02:03", 2, 4,
    )  # fmt: skip
    assert (row.step, row.last_step, row.share, row.saved_step, row.restarts) == (500, 1000, 0.5, 400, 1)
    assert (row.loss, row.utterances_per_second, row.data_wait) == (2.5, 512.4, 0.034)
    assert (row.eer_best, row.eer_best_step, row.eer_last, row.eer_last_step) == (7.25, 400, 8.0, 500)
    assert row.seconds_per_step == pytest.approx(0.5)
    assert row.seconds_to_end == pytest.approx(250)


def test_a_job_that_runs_but_has_not_come_to_its_training_is_starting(run: FakeRun) -> None:
    run.job("12")
    run.state("stopped", ago=2000)  # of an earlier job
    run.attempt("12.0")
    assert look(run, in_queue()).note == "starting"


def test_a_requeued_run_waits_and_tells_how_its_last_start_ended(run: FakeRun) -> None:
    run.job("12")
    run.attempt("12.0", "failed", "Traceback …\nRuntimeError: a bad cable")
    run.state("failed")
    row = look(run, in_queue(state="PENDING", reason="BeginTime"))
    assert row.state == "waiting"
    assert row.note == "BeginTime; the last start failed: RuntimeError: a bad cable"


@pytest.mark.parametrize(
    ("outcome", "said", "expected"),
    [
        ("done", "done", "done"),
        (None, "done", "done"),
        ("failed", "failed", "failed"),
        (None, "failed", "failed"),
        ("failed", "running", "failed"),  # a rank that was killed says nothing
        ("stopped", "stopped", "stopped"),
        ("stopped", "running", "stopped"),
        (None, "running", "lost"),
    ],
)
def test_once_out_of_the_queue_the_files_tell(
    run: FakeRun, outcome: str | None, said: str, expected: str
) -> None:
    run.job("12")
    run.attempt("12.0", outcome, "some cause" if outcome == "failed" else None)
    run.state(said)
    run.beat(ago=600)
    assert look(run, {}).state == expected


def test_a_beating_lock_is_a_sign_of_life_and_one_that_stands_still_is_none(run: FakeRun) -> None:
    run.job("12")
    run.attempt("12.0")
    run.state("running", ago=300)
    run.beat(ago=3)
    assert look(run, {}).state == "running"
    run.beat(ago=200)
    lost = look(run, {})
    assert lost.state == "lost"
    assert lost.note is not None
    assert re.fullmatch(r"no sign of life since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lost.note)


def test_without_slurm_a_silent_run_is_unknown_not_lost(run: FakeRun) -> None:
    run.job("12")
    run.attempt("12.0")
    run.state("running", ago=300)
    run.beat(ago=200)
    assert look(run, None).state == "unknown"


def test_what_the_training_said_before_the_newest_job_is_not_of_it(run: FakeRun) -> None:
    run.job("12", ago=5000)
    run.state("done", ago=2000)
    run.job("13", ago=100)
    assert look(run, in_queue("13", "PENDING", "Priority")).state == "pending"
    gone = look(run, {})
    assert (gone.state, gone.note) == ("stopped", "job 13 left the queue before it began: cancelled?")
    run.job("14", ago=50, after="13")
    dropped = "job 14 left the queue before it began: as job 13, for which it waited, failed?"
    assert look(run, {}).note == dropped


def test_a_job_that_never_came_to_our_code_failed_for_what_its_log_says(run: FakeRun) -> None:
    run.job("12")
    run.log("12", 0, "srun: error: n2: task 1: Exited with exit code 1\n")
    run.log("12", 1, "/opt/python: No module named submitit\n")
    row = look(run, {})
    assert (row.state, row.note) == ("failed", "/opt/python: No module named submitit")


def test_a_run_started_by_hand(run: FakeRun) -> None:
    run.state("running")
    run.beat()
    running = look(run, {})
    assert (running.state, running.job, running.world) == ("running", None, 8)
    run.beat(ago=300)
    assert look(run, {}).state == "lost"
    run.failure("OSError: first", rank=1, attempt=None)
    run.failure("lost the others", rank=0, attempt=None, kind="peer", ago=12)
    run.state("failed")
    failed = look(run, {})
    assert (failed.state, failed.note) == ("failed", "rank 1 on n1: OSError: first")


def test_jobs_after_the_training(run: FakeRun) -> None:
    run.job("12")
    done = run.job("13", "eval", after="12")
    run.job("14", "eval")
    run.log("14", 0, "eval: error: no such checkpoint\n")
    run.job("15", "eval", after="12")
    (run.folder.jobs_path / "13_0_result.pkl").write_bytes(b"\x80\x05\x8c\x07success\x94N\x86")
    rows = {row.job: row for row in look(run, in_queue("15", "PENDING", "Dependency")).jobs}
    assert [rows[job].state for job in ("13", "14", "15")] == ["done", "failed", "pending"]
    assert rows["14"].note == "eval: error: no such checkpoint"
    assert rows["15"].note == "Dependency"
    assert rows[done.job].after == "12"


def test_what_ran_in_the_submitting_process_is_done(run: FakeRun) -> None:
    """Its jobs are noted after they ended, and only if they ended well."""
    run.state("done", ago=200)
    run.job("DEBUG_1", cluster="debug", ago=100)
    run.log("DEBUG_1", 0, "")
    run.job("DEBUG_2", "eval", cluster="debug", ago=50, after="DEBUG_1")
    run.log("DEBUG_2", 0, "")
    row = look(run)
    assert (row.state, [job.state for job in row.jobs]) == ("done", ["done", "done"])


def test_attempts_of_an_arrays_element_have_slurms_own_number(run: FakeRun) -> None:
    run.job("12_1")
    run.attempt("14.0", "failed", "first", job="12_1")
    run.attempt("14.1", "failed", "again", job="12_1")
    row = look(run, {})
    assert (row.job, row.state, row.restarts) == ("12_1", "failed", 1)


def test_the_pace_leaves_out_the_time_between_two_starts() -> None:
    lines = [{"step": step, "time": step * 0.5} for step in range(10, 200, 10)]
    later = [{"step": step, "time": 5000 + step * 0.5} for step in range(200, 300, 10)]
    assert seconds_per_step(lines + later) == pytest.approx(0.5)
    assert seconds_per_step(lines[:1]) is None


def test_the_end_of_metrics_is_read_from_a_whole_line_on(run: FakeRun) -> None:
    run.trained(range(10, 510, 10))
    run.validated(step500=3.0)
    path = run.path / "metrics.jsonl"
    everything = run.folder.metrics("train")
    assert [line["step"] for line in everything] == list(range(10, 510, 10))
    sizes = [len(line) for line in path.read_bytes().splitlines(keepends=True)]
    exactly = sizes[-1] + sizes[-2]
    assert run.folder.metrics("train", exactly) == everything[-1:]
    assert run.folder.metrics("train", exactly - 1) == []
    assert run.folder.metrics("train", 10 * path.stat().st_size) == everything


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["metrics.jsonl", "state.json", "jobs/jobs.jsonl", "jobs/attempts.jsonl"]),
    kept=st.floats(0, 1),
    torn=st.binary(max_size=8),
)
def test_files_cut_anywhere_are_read_as_far_as_they_go(
    tmp_path_factory: pytest.TempPathFactory, file: str, kept: float, torn: bytes
) -> None:
    run = FakeRun(tmp_path_factory.mktemp("run"))
    run.job("12")
    run.attempt("12.0", "failed", "why")
    run.state("failed")
    run.trained(range(10, 50, 10))
    run.validated(step40=5.0)
    path = run.path / file
    text = path.read_bytes()
    path.write_bytes(text[: int(kept * len(text))] + torn)
    row = look(run, {})
    whole_lines = path.read_bytes()[: int(kept * len(text))].count(b"\n")
    if file == "metrics.jsonl" and whole_lines:
        assert row.step is not None
        assert row.step >= 10 * min(whole_lines, 4)


def test_chunks_do_not_split_a_validation(run: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run.trained(range(10, 60, 10))
    run.validated(step50=5.0, step60=4.0)
    for size in (1, 7, 64, 300):
        monkeypatch.setattr("slurm.records.lines._CHUNK", size)
        assert [line["eer"] for line in RunFolder(run.path).metrics("validation")] == [5.0, 4.0]


# The command.


def test_many_runs_are_a_table_and_one_squeue(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        made = FakeRun(tmp_path / "runs" / "sweep" / f"lr-{number}")
        made.job(str(20 + number))
    FakeRun(tmp_path / "runs" / "plain").state("done", saved=1000)
    slurm.queue("20|RUNNING|n1|59:00|None", "21|PENDING||1:00:00|Resources", "99|RUNNING|n1|1:00|None")
    assert main(["status"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["RUN", "STATE", "JOB"]
    assert [line.split()[:2] for line in lines] == [
        ["runs/plain", "done"],
        ["runs/sweep/lr-0", "running"],
        ["runs/sweep/lr-1", "pending"],
        ["runs/sweep/lr-2", "stopped"],
    ]
    assert "Resources" in lines[2]
    assert "1000/1000" in lines[0]
    assert len(slurm.calls("squeue")) == 1
    assert main(["status", "runs/sweep"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_notes_go_below_where_the_terminal_is_narrow(
    slurm: FakeSlurm, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        made = FakeRun(tmp_path / "runs" / name)
        made.job("12")
        made.attempt("12.0", "failed", "x" * 200)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 60
    assert lines[2] == "    " + "x" * 55 + "…"


def test_a_folder_that_cannot_be_listed_is_named(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.folder.path.joinpath("config.yaml").touch()
    closed = run.folder.path.parent / "closed"
    closed.mkdir()
    listed = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main(["status", "runs"]) == 0
    printed = capsys.readouterr()
    assert "first" in printed.out
    assert "runs/closed: passed over, cannot be looked into (Permission denied)" in printed.err


def test_one_run_is_told_in_full(slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.job("12")
    run.job("13", "eval", after="12")
    run.state("failed")
    run.attempt("12.0", "stopped", "stopped by a signal", ago=900)
    trace = "Traceback (most recent call last):\n  File x\nOSError: shard-07.tar is damaged"
    run.attempt("12.1", "failed", f"rank 3 on n2: {trace}")
    run.failure("lost the others", rank=0, attempt="12.1", kind="peer", ago=20)
    run.failure(trace, rank=3, host="n2", attempt="12.1", kind="mistake")
    slurm.queue("13|PENDING||1:00|DependencyNeverSatisfied")
    assert main(["status", "runs/first"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("runs/first: failed\n")
    assert re.search(r"13 +eval +pending .*after 12 +DependencyNeverSatisfied", out)
    assert re.search(r"12\.1 +n1 n2 .*steps 0 to 400 +failed +OSError: shard-07.tar is damaged", out)
    assert re.search(r"first cause of the last failure \(rank 3, node n2, .*start 12.1\)", out)
    assert (
        "    Traceback (most recent call last):\n      File x\n    OSError: shard-07.tar is damaged\n" in out
    )
    assert "python -m slurm resume runs/first" in out
    assert "lost the others" not in out


def test_json_holds_all_rows_and_no_nan(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.state("failed")
    run.metrics({"step": 10, "group": "train", "loss": float("nan"), "time": 5})
    assert main(["status", "--json", "runs/first"]) == 0
    [row] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert (row["state"], row["step"], row["loss"], row["jobs"][0]["job"]) == ("failed", 10, None, "12")


def test_without_slurm_the_files_tell_and_it_says_so(
    run: FakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.job("12")
    run.attempt("12.0", "done")
    run.state("done")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["status", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert "first: done" in out
    assert "SLURM's commands are not in PATH here" in out


def test_a_controller_that_refuses_is_named(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    slurm.refuse()
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "first: unknown" in out
    assert "squeue: error: no controller" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "nope is no folder"),
        (["."], "is no run, and there is none below it"),
        ([], "runs is no folder"),
    ],
)
def test_what_is_no_run_is_refused(
    slurm: FakeSlurm, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["status", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_watch_shows_it_again_until_ctrl_c(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.job("12")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            slurm.queue("12|PENDING||1:00|Priority")
        else:
            raise KeyboardInterrupt

    clock = SimpleNamespace(sleep=nap, time=time.time)
    monkeypatch.setattr("slurm.commands.status.time", clock)
    assert main(["status", "--watch", "30"]) == 0
    assert naps == [30, 30]
    assert re.findall(r"first: (\w+)", capsys.readouterr().out) == ["stopped", "pending"]


def test_a_damaged_record_is_passed_over_and_named(run: FakeRun, slurm: FakeSlurm, capsys) -> None:
    run.job("12")
    run.state("running")
    with open(run.folder.jobs_path / "jobs.jsonl", "a") as file:
        file.write('{"job": 13, "kind": null}\n')
    (run.path / "failures" / "hand-1-rank0.json").write_text("[" * 100_000)
    assert main(["status", str(run.path)]) == 0
    said = capsys.readouterr().out
    assert "passed over what cannot be read of jobs/jobs.jsonl: field job: expected `str`" in said
    assert main(["logs", str(run.path)]) == 0


def test_a_failure_before_the_newest_start_is_not_its_cause(run: FakeRun, slurm: FakeSlurm, capsys) -> None:
    run.failure("an old mistake", attempt=None, ago=500.0)
    (run.path / "lock").write_text(json.dumps({"since": time.time() - 100}))
    run.state("failed", ago=50.0)
    assert main(["status", str(run.path)]) == 0
    assert "an old mistake" not in capsys.readouterr().out
    run.failure("a new one", attempt=None, ago=50.0)
    assert main(["status", str(run.path)]) == 0
    assert "a new one" in capsys.readouterr().out


def test_a_run_of_several_ranks_goes_on_by_torchrun(run: FakeRun, slurm: FakeSlurm, capsys) -> None:
    run.state("stopped")  # of 8 ranks
    assert main(["status", str(run.path)]) == 0
    assert "torch.distributed.run --standalone --nproc-per-node 8 -m train" in capsys.readouterr().out


def test_what_records_say_does_not_act_on_the_terminal(run: FakeRun, slurm: FakeSlurm, capsys) -> None:
    run.job("12")
    run.attempt("12.0", "failed", "red \x1b[31m\x07 https://user:secret@host/x")
    run.log("12", 0, "log \x1b]0;title\x07\n")
    for command in ("status", "logs"):
        main([command, str(run.path)])
    said = capsys.readouterr().out
    assert "\\x1b[31m" in said
    assert "\\x1b]0;title" in said
    assert "\x1b" not in said
    assert "secret" not in said


def test_failures_do_not_pile_up(run: FakeRun) -> None:
    for number in range(70):
        run.failure(f"failure {number}", attempt=None, host=f"n{number}", ago=1000.0 - number)
    assert len(list((run.path / "failures").iterdir())) <= 51
