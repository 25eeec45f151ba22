"""From what torchrun and NCCL print to a line for the user."""

from __future__ import annotations

import pytest

from slurm.node.diagnosis import from_output, killed_rank

# As torch 2.11's torchrun prints it, after its log prefix.
KILLED = """\
E1122 13:34:11.161000 20026 torch/distributed/elastic/multiprocessing/api.py:986] failed (exitcode: -9) local_rank: 1 (pid: 21) of binary: /usr/bin/python
============================================================
train FAILED
------------------------------------------------------------
Failures:
[0]:
  time      : 2026-11-22_13:34:11
  host      : n2
  rank      : 2 (local_rank: 0)
  exitcode  : 1 (pid: 20)
  error_file: <N/A>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_13:34:10
  host      : n2
  rank      : 3 (local_rank: 1)
  exitcode  : -9 (pid: 21)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 21
============================================================
"""  # noqa: E501


def cause(text: str, status: int = 1):
    return from_output(text, status, node="n2", endpoint="n1:20001", python="/opt/python")


def test_a_killed_rank_is_the_root_cause() -> None:
    found = killed_rank(KILLED, node="n2")
    assert found is not None
    assert (found.kind, found.rank) == ("crash", 3)
    assert found.text.startswith("rank 3 on node n2 was ended by SIGKILL: from outside, or by the kernel")


def test_without_the_table_the_log_line_does() -> None:
    found = killed_rank(KILLED.splitlines()[0], node="n2")
    assert found is not None
    assert found.text.startswith("local rank 1 on node n2 was ended by SIGKILL")


@pytest.mark.parametrize("text", ["", "exitcode  : 1 (pid: 20)", KILLED.replace("-9", "-6")])
def test_a_rank_that_gave_up_by_itself_was_not_killed(text: str) -> None:
    assert killed_rank(text, node="n2") is None


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            "ModuleNotFoundError: No module named 'torchaudio'",
            "mistake",
            "the Python of node n2 (/opt/python) has no module torchaudio",
        ),
        ("/opt/python: No module named train", "mistake", "has no module train"),
        (
            "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to",
            "crash",
            "node n2 did not meet the others at n1:20001",
        ),
        (
            "[rank3]: Watchdog caught collective operation timeout: WorkNCCL(",
            "crash",
            "collective of NCCL timed out",
        ),
        (
            "usage: train\nerror: unrecognized arguments: --optim.lrr 1\nE1122 failed (exitcode: 2)",
            "mistake",
            "error: unrecognized arguments: --optim.lrr 1",
        ),
        ("train[rank 0]: error: no such shards", "mistake", "error: no such shards"),
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "mistake", "a disk of node n2 is full"),
        ("something\nelse\n\n", "crash", "torchrun on node n2 ended with status 1; its last line: else"),
        ("", "crash", "and said nothing"),
    ],
)
def test_what_is_printed_becomes_a_line(text: str, kind: str, words: str) -> None:
    found = cause(text)
    assert found.kind == kind
    assert words in found.text
    assert "\n" not in found.text


def test_torchrun_itself_ended_by_a_signal() -> None:
    assert cause("", -15).text == "torchrun on node n2 was ended by SIGTERM"
