"""One node's part of a training, without SLURM: how it ends, and what it leaves in the run folder."""

from __future__ import annotations

import ast
import socket
from pathlib import Path

import pytest
from project import REPO

from shard_tools.run_records import STOPPED
from slurm.errors import SlurmError
from slurm.node import outcome, training
from slurm.node.place import Place
from slurm.node.rendezvous import port_of, torchrun
from slurm.node.training import Training, run_node
from slurm.programs import KNOWS_SAFE
from slurm.records import scheduler
from slurm.records.run_folder import Attempt, RunFolder

HERE = socket.gethostname()
SLURM = REPO / "slurm"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DECISION_S", "ACCOUNT_S", "RECORD_S", "STAY_S", "GRACE_S"):
        monkeypatch.setattr(outcome, name, 0.5)
    monkeypatch.setattr(training.Signals, "listen", lambda self: None)


def place(index: int = 0, nodes: tuple[str, ...] = (HERE,)) -> Place:
    return Place("7", 0, index, nodes, on_slurm=False)


def stand_in(tmp_path: Path, script: str) -> str:
    """A Python for the job that runs a script in place of torchrun."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return str(path)


def state(run: Path, word: str) -> str:
    return f"""echo '{{"state": "{word}", "saved_step": 5, "attempt": "7.0"}}' > {run}/state.json"""


@pytest.mark.slow
def test_done(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training(str(run), (), 1, python=stand_in(tmp_path, state(run, "done")))
    assert run_node(training, place()) == 0
    [attempt] = RunFolder(run).attempts()
    assert (attempt.outcome, attempt.saved_before, attempt.saved_after) == ("done", 0, 5)


@pytest.mark.slow
def test_a_failure_after_the_end_takes_nothing_from_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training(str(run), (), 1, python=stand_in(tmp_path, f"{state(run, 'done')}; exit 1"))
    assert run_node(training, place()) == 0
    [attempt] = RunFolder(run).attempts()
    assert attempt.outcome == "done"


def test_stopped_without_slurm_it_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    training = Training(str(run), (), 1, python=stand_in(tmp_path, state(run, "stopped")))
    assert run_node(training, place()) == STOPPED
    assert f"to go on from step 5: python -m slurm resume {run}" in capsys.readouterr().err


def test_a_failure_that_says_nothing_is_said_with_its_last_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training(str(run), (), 1, python=stand_in(tmp_path, "echo 'it is all over'; exit 3"))
    assert run_node(training, place()) == 1
    [attempt] = RunFolder(run).attempts()
    assert attempt.outcome == "failed"
    assert attempt.cause == f"torchrun on node {HERE} ended with status 3; its last line: it is all over"


@pytest.mark.slow
def test_the_next_node_decides_when_the_first_one_leaves_no_word(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = RunFolder(run)
    folder.make()
    folder.begin_attempt(Attempt("7.0", "7", ("gone", HERE), 0.0, 0))
    training = Training(str(run), (), 1, python=stand_in(tmp_path, "exit 1"))
    assert run_node(training, place(1, ("gone", HERE))) == 1
    [attempt] = folder.attempts()
    assert attempt.outcome == "failed"


@pytest.mark.slow
def test_a_rendezvous_out_of_reach_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training(str(run), ("--config", "none.yaml"), 1, join_timeout_s=3)
    assert run_node(training, place(1, ("localhost", HERE))) == 1
    [failure] = RunFolder(run).failures("7.0")
    assert f"node {HERE} did not meet the others at localhost:{port_of('7', 0)}" in failure.message


def test_an_interface_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_node(Training(str(run), (), 1, interface="nosuch0"), place()) == 1
    [attempt] = RunFolder(run).attempts()
    assert attempt.cause is not None
    assert f"{HERE}: there is no network interface nosuch0 here: give --interface one of lo" in attempt.cause


def test_binding_without_numactl_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.node.training.shutil.which", lambda _: None)
    run = tmp_path / "run"
    assert run_node(Training(str(run), (), 1, numa_binding="node"), place()) == 1
    [attempt] = RunFolder(run).attempts()
    assert attempt.cause is not None
    assert "--numa-binding node needs the program numactl, not found here" in attempt.cause


def test_ports_differ_between_jobs_and_between_attempts() -> None:
    ports = {port_of(str(job), restart) for job in range(1000, 1020) for restart in range(4)}
    assert len(ports) == 80
    assert all(1024 < port < 32768 for port in ports)


@pytest.mark.skipif(not KNOWS_SAFE, reason="a command as Python 3.11 has it; test_programs.py has 3.10's")
def test_the_signals_are_left_to_the_ranks() -> None:
    command = torchrun(
        "python", nodes=2, node=1, ranks=8, job="7", address="n1", port=20001, own_address="n2",
        join_timeout_s=300, numa_binding="node", module=["train", "--config", "x.yaml"],
    )  # fmt: skip
    assert "--numa-binding=node" in command
    assert "--signals-to-handle=SIGHUP" in command
    assert "--rdzv-endpoint=n1:20001" in command
    assert "--rdzv-conf=is_host=0,join_timeout=300,read_timeout=300" in command
    assert command[-4:] == ["-m", "train", "--config", "x.yaml"]


# Of shard_tools only what knows nothing of shards, and loads quickly.
LEAVES = {
    f"shard_tools.{name}"
    for name in ("errors", "places", "records", "run_records", "text", "version", "yaml_file")
}


def test_slurm_imports_none_of_the_other_packages() -> None:
    for path in SLURM.rglob("*.py"):
        for part in ast.walk(ast.parse(path.read_text())):
            names = [part.module or ""] if isinstance(part, ast.ImportFrom) else []
            names += [alias.name for alias in part.names] if isinstance(part, ast.Import) else []
            for name in names:
                package = name.partition(".")[0]
                if name in LEAVES:
                    continue
                assert package not in {"train", "eval", "models", "shard_tools", "torch"}, f"{path}: {name}"


def fake_scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A scontrol first on PATH that notes its arguments."""
    notes = tmp_path / "scontrol.txt"
    path = tmp_path / "bin" / "scontrol"
    path.parent.mkdir()
    path.write_text(f'#!/bin/bash\necho "$@" >> {notes}\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    for name in ("ENDING_S", "_AGAIN_S"):
        monkeypatch.setattr(scheduler, name, 0.1)
    return notes


@pytest.mark.slow
def test_an_element_of_an_array_requeues_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = fake_scontrol(tmp_path, monkeypatch, "echo JobState=RUNNING")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    run = tmp_path / "run"
    training = Training(str(run), (), 1, python=stand_in(tmp_path, state(run, "stopped")))
    assert run_node(training, Place("7", 0, 0, (HERE,))) == STOPPED
    assert notes.read_text().splitlines()[-1] == "requeue 7_3"


def test_a_controller_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    script = f"echo x >> {count}; [ $(wc -l < {count}) -gt 3 ] || {{ echo 'Unable to contact' >&2; exit 1; }}"
    notes = fake_scontrol(tmp_path, monkeypatch, script)
    with pytest.raises(SlurmError, match="has not ended job 7"):
        scheduler.put_back("7")
    assert notes.read_text().splitlines()[-1] == "requeue 7"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("JobState=COMPLETING", "SLURM is ending job 7 already"),
        ("JobState=CANCELLED", "is CANCELLED, and is not"),
    ],
)
def test_what_somebody_ended_stays_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    notes = fake_scontrol(tmp_path, monkeypatch, f"echo {said}")
    with pytest.raises(scheduler.NotRequeued, match=words):
        scheduler.put_back("7")
    assert "requeue" not in notes.read_text()
