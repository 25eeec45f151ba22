"""Running training as its users do, as processes, and ending it as clusters do."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from project import REPO
from warm import PACE, Warm


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def torchrun(processes: int, *arguments: str) -> list[str]:
    """Of python's own arguments; one process needs no torchrun, which takes seconds to start."""
    if processes == 1:
        return [sys.executable, *arguments]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(processes), *arguments]


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start it for real; what trains waits before each step, so that it can be disturbed in its midst."""
    pace = [str(REPO / "tests/helpers/paced"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=REPO,
            env={**environment(), "PYTHONPATH": os.pathsep.join(pace)},
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


class Started:
    """As much of subprocess.Popen as tests use, of what was started warm."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = warm().poll(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            self.returncode = warm().wait(self.pid, timeout)
        return self.returncode


def start_warm(command: list[str], log: Path, *, group: bool = False) -> Started:
    """Start Python at a pace as `start` does, but forked from a process that has loaded torch.

    The ranks of a torchrun are forked too, and have its command line and environment in /proc.
    group: it leads a process group of its own, as what a terminal starts does.
    """
    return Started(warm().start(command, REPO, {**environment(), PACE: "0.04"}, log, group=group))


def finish(command: list[str], log: Path, timeout: float = 240, **variables: str) -> tuple[int, str]:
    """Run to the end; the exit status and all that was printed. Python starts warm, see warm.py.

    variables: more of the environment.
    """
    if command[0] != sys.executable:
        return _finish_cold(command, log, timeout)
    pid = warm().start(command, REPO, {**environment(), **variables}, log)
    try:
        status = warm().wait(pid, timeout)
    finally:
        kill_tree(pid)
    return status, log.read_text(errors="replace")


def answer(
    command: Sequence[str], *, env: dict[str, str] | None = None, **_: object
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run does it for what is to be captured as text; Python starts warm."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        pid = warm().start(command, Path.cwd(), dict(os.environ if env is None else env), out, errors)
        status = warm().wait(pid, 240)
        return subprocess.CompletedProcess(command, status, out.read_text(), errors.read_text())


def _finish_cold(command: list[str], log: Path, timeout: float) -> tuple[int, str]:
    process = start(command, log)
    try:
        status = process.wait(timeout)
    finally:
        kill_tree(process.pid)
        process.wait()
    return status, log.read_text(errors="replace")


@cache
def warm() -> Warm:
    """One for this process's tests; it ends when this process's end closes its input."""
    return Warm(REPO)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, as /proc has them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def children(pid: int) -> list[int]:
    """Of a torchrun: its ranks."""
    return [each for each in descendants(pid) if parent(each) == pid]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill_tree(pid: int) -> None:
    for each in [*descendants(pid), pid]:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def alive(pids: list[int]) -> list[int]:
    """Those that still run (a zombie does not)."""
    running = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.append(pid)
    return running


def wait_until(condition, timeout: float, what: str) -> None:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {timeout:g} s")
        time.sleep(0.02 + 0.02 * random.random())
