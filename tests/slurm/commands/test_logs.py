"""`logs`: the cause first, then what the nodes printed, and what they add."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watch_fakes import FakeRun, FakeSlurm

from slurm.__main__ import main
from slurm.commands import logs as logs_command
from slurm.watch.first_cause import likely_cause
from slurm.watch.logs import Follower, node_logs, tail, unfinished


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs" / "first")


class Scene:
    """What happens between two looks of `logs -f`: a step each time it sleeps; Ctrl-C after the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Callable[[], object]] = []
        self._clock = 0.0
        clock = SimpleNamespace(sleep=self._sleep, monotonic=lambda: self._clock, time=time.time)
        monkeypatch.setattr(logs_command, "time", clock)

    def play(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def _sleep(self, _: float) -> None:
        self._clock += 100.0  # so that every look asks squeue too
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_the_cause_of_a_failed_start_stands_above_the_ends_of_the_logs(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.attempt("12.0", "failed", "an old one", ago=900)
    run.failure("an old one", attempt="12.0", ago=800)
    run.attempt("12.1", "failed", "rank 3 on n2: Traceback\nOSError: shard-07.tar")
    run.failure("lost the others", rank=0, attempt="12.1", kind="peer", ago=20)
    run.failure("Traceback\n  a line\nOSError: shard-07.tar", rank=3, host="n2", attempt="12.1")
    run.log("12", 1, "second node\n")
    run.log("12", 0, "".join(f"line {number}\n" for number in range(100)) + "cut sho")
    assert main(["logs", "runs/first", "-n", "2"]) == 0
    out = capsys.readouterr().out
    top, _, rest = out.partition("==> ")
    assert re.search(r"First cause of the last failure \(rank 3, node n2, .*start 12.1\)", top)
    assert "\nTraceback\n  a line\nOSError: shard-07.tar\n" in top
    assert "an old one" not in out
    assert "lost the others" not in out
    assert rest == (
        "node 0: runs/first/jobs/12_0_log.out <==\nline 98\nline 99\ncut sho\n\n"
        "==> node 1: runs/first/jobs/12_1_log.out <==\nsecond node\n\n"
    )


def test_no_cause_once_it_runs_again_and_none_of_a_stop(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.attempt("12.0", "failed", "a bad cable", ago=900)
    run.log("12", 0, "srun: error: something\n")
    run.attempt("12.1")
    slurm.queue("12|RUNNING|n1|1:00|None")
    assert main(["logs", "runs/first"]) == 0
    assert "ause" not in capsys.readouterr().out
    run.folder.end_attempt("12.1", "stopped", "stopped by a signal")
    slurm.queue()
    assert main(["logs", "runs/first"]) == 0
    assert "ause" not in capsys.readouterr().out


def test_where_nobody_left_a_record_the_logs_are_searched(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.attempt("12.0")
    run.log("12", 0, "srun: error: n2: task 1: Exited with exit code 1\n")
    path = run.log("12", 1, "/opt/python: No module named submitit\nmore\n")
    assert main(["logs", "runs/first"]) == 0
    out = capsys.readouterr().out
    assert f"Likely cause (nobody left a record; from runs/first/jobs/{path.name})" in out
    assert out.index("No module named submitit") < out.index("==>")


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        (["fine", "srun: error: n1: task 0: Killed", "fine"], "srun: error: n1: task 0: Killed"),
        (
            ["slurmstepd: error: execve(): python: No such file or directory", "srun: error: n1: Exited"],
            "slurmstepd: error: execve(): python: No such file or directory",
        ),
        (
            ["srun: error: n1", "slurmstepd: error: *** JOB 12 CANCELLED AT 5 DUE TO TIME LIMIT ***"],
            "slurmstepd: error: *** JOB 12 CANCELLED AT 5 DUE TO TIME LIMIT ***",
        ),
        (["slurmstepd-n1: error: y", "slurmstepd: error: 1 oom_kill"], "slurmstepd: error: 1 oom_kill"),
        (["train: error: run.folder is full", "srun: error: n1"], "train: error: run.folder is full"),
        (["KeyError: 'x'", "slurmstepd: error: STEP CANCELLED"], "KeyError: 'x'"),
        (["old: error: x", "Starting with JobEnvironment(1)", "srun: error: new"], "srun: error: new"),
        (["all is well", "0 errors"], None),
    ],
)  # fmt: skip
def test_the_most_telling_line_of_a_log(run: FakeRun, lines: list[str], telling: str | None) -> None:
    job = run.job("12")
    run.log("12", 0, "\n".join(lines) + "\n")
    found = likely_cause(job)
    assert (found.text if found else None) == telling


def test_of_a_pending_job_it_says_why_there_is_nothing(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    slurm.queue("12|PENDING||1:00:00|Resources")
    assert main(["logs", "runs/first"]) == 0
    assert "job 12 (train) is pending (Resources): no log yet" in capsys.readouterr().out


def test_which_job_and_which_node(slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run.job("12")
    run.log("12", 0, "old\n")
    run.job("13")
    run.log("13", 0, "new, first\n")
    run.log("13", 1, "new, second\n")

    def shown(*arguments: str) -> list[str]:
        assert main(["logs", "runs/first", *arguments]) == 0
        return re.findall(r"^(?:old|new.*)$", capsys.readouterr().out, re.M)

    assert shown() == ["new, first", "new, second"]
    assert shown("--node", "1") == ["new, second"]
    assert shown("--job", "12") == ["old"]
    assert main(["logs", "runs/first", "--job", "99"]) == 1
    assert "its jobs are 12, 13" in capsys.readouterr().err


def test_a_run_started_by_hand_has_its_own_log(
    slurm: FakeSlurm, run: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run.state("failed")
    run.failure("OSError: no", rank=1, attempt=None)
    (run.path / "log.txt").write_text("step 1\n")
    assert main(["logs", "runs/first"]) == 0
    out = capsys.readouterr().out
    assert out.index("OSError: no") < out.index("==> runs/first/log.txt <==\nstep 1\n")


def test_only_files_of_nodes_are_the_jobs(run: FakeRun) -> None:
    job = run.job("12")
    for node in (10, 2):
        run.log("12", node, "x")
    run.log("12_3", 0, "of an array's element")
    assert [node for node, _ in node_logs(job)] == [2, 10]


# Following.


def test_following_through_a_requeue_to_the_end(
    slurm: FakeSlurm, run: FakeRun, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    slurm.queue("12|PENDING||1:00|Priority")

    def begins() -> None:
        slurm.queue("12|RUNNING|n[1-2]|1:00|None")
        run.attempt("12.0", ago=300)
        run.state("running", ago=290)
        run.log("12", 0, "one\n")
        run.log("12", 1, "two\nha")

    def is_requeued() -> None:
        run.log("12", 1, "lf\n")
        run.folder.end_attempt("12.0", "stopped", "stopped by a signal")
        slurm.queue("12|PENDING||1:00|BeginTime")

    def is_done() -> None:
        run.attempt("12.1", ago=1)
        run.state("done", saved=1000, ago=0)
        run.folder.end_attempt("12.1", "done")
        run.log("12", 0, "the end, without a newline")
        slurm.queue()

    scene.play(begins, is_requeued, is_done)
    assert main(["logs", "-f", "runs/first"]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^\d \| .*$", out, re.M) == [
        "0 | one", "1 | two", "1 | half", "0 | the end, without a newline",
    ]  # fmt: skip
    assert "-- waiting: BeginTime" in out
    assert out.rstrip().splitlines()[-1].startswith("-- runs/first: done; step 1000 of 1000; ")


def test_following_ends_with_the_cause_and_status_1(
    slurm: FakeSlurm, run: FakeRun, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.attempt("12.0")
    run.log("12", 0, "one\n")
    slurm.queue("12|RUNNING|n1|1:00|None")

    def fails() -> None:
        run.log("12", 0, "two\n")
        run.failure("OSError: the cause", rank=1, attempt="12.0")
        run.folder.end_attempt("12.0", "failed", "rank 1 on n1: OSError: the cause")
        slurm.queue()

    scene.play(fails)
    assert main(["logs", "-f", "runs/first"]) == 1
    out = capsys.readouterr().out
    assert out.index("one") < out.index("two") < out.index("OSError: the cause") < out.index("first: failed")
    assert out.count("OSError: the cause") == 1


def test_a_failed_job_that_is_in_the_queue_still_is_followed_on(
    slurm: FakeSlurm, run: FakeRun, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.attempt("12.0", "failed", "a bad cable")
    run.state("failed")
    slurm.queue("12|COMPLETING|n1|1:00|None")
    scene.play(lambda: run.log("12", 0, "more\n"))
    assert main(["logs", "-f", "runs/first"]) == 130  # by Ctrl-C
    assert "more" in capsys.readouterr().out


def test_a_job_that_took_over_is_followed_too(
    slurm: FakeSlurm, run: FakeRun, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    run.job("12")
    run.log("12", 0, "of the first\n")
    slurm.queue("12|RUNNING|n1|1:00|None")

    def resumed() -> None:
        run.job("13", ago=0)
        run.log("13", 0, "of the second\n")
        slurm.queue("13|RUNNING|n1|1:00|None")

    scene.play(resumed, lambda: None)
    assert main(["logs", "-f", "runs/first"]) == 130
    assert "of the second" in capsys.readouterr().out


def test_a_file_cut_short_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    follower = Follower()
    follower.start_at(path, 4)
    assert list(follower.new_lines([path])) == [(path, "two")]
    path.write_text("new\n")
    assert list(follower.new_lines([path])) == [(path, "new")]
    replaced = tmp_path / "replaced"
    replaced.write_text("another file\n")
    os.replace(replaced, path)
    assert list(follower.new_lines([path])) == [(path, "another file")]


def test_a_progress_bar_is_shown_as_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b" 1%\r 2%\r100%\r\nnext\r\n")
    assert tail(path, 5)[0] == ["100%", "next"]


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.text(
            st.characters(
                codec="utf-8", exclude_characters="\r\n", exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp")
            ),
            max_size=12,
        ),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_however_a_log_is_written_each_line_is_shown_once_and_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    data = "".join(f"{line}\n" for line in lines).encode()
    follower, shown = Follower(), []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        with open(path, "ab") as file:
            file.write(data[begin:end])
        shown += [line for _, line in follower.new_lines([path])]
    assert shown == lines


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.text("ab", max_size=30), max_size=30),
    asked=st.integers(0, 40),
    rest=st.text("c", max_size=5),
    block=st.integers(1, 50),
)
def test_the_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], asked: int, rest: str, block: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    whole = "".join(f"{line}\n" for line in lines)
    path.write_text(whole + rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slurm.watch.logs._BLOCK", block)
        shown, end = tail(path, asked)
        assert unfinished(path, end)[:5] == rest[: min(block, 5)]
    assert shown == lines[max(0, len(lines) - asked) :]
    assert end == len(whole)
