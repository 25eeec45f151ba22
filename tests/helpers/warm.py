"""Programs that start at once: forked from a process that has loaded already what they load.

A process that trains loads torch and all that it brings first, which costs seconds of CPU at every start of
every rank and of torchrun. Tests of what a run does or says let it start here; those of what becomes of its
processes, whose command lines and environments are looked at, start it for real, as do all tests on SLURM.

A process of this file keeps itself small: it loads modules and forks, nothing else. What it forks runs a
command line of Python as Python would; torchrun, run so, forks its ranks in the same way.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PRELOADED = ("torch.distributed.run", "train.run")
PACE = "VOXSHARD_TESTS_PACE"
"""The variable that says how many seconds trainings wait before a step, as paced/sitecustomize.py has it."""


class Warm:
    """The process that forks, from the test's side. close: ends it and what it still has running."""

    def __init__(self, repo: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            cwd=repo,
            env={**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        command: Sequence[str],
        cwd: Path,
        environment: dict[str, str],
        log: Path,
        errors: Path | None = None,
        group: bool = False,
    ) -> int:
        """Run `command` (sys.executable, then Python's arguments); the process's id.

        Its output goes to `log`, that on stderr to `errors` where given.
        group: it leads a process group of its own.
        """
        files = {"log": str(log), "errors": str(errors or log)}
        asked = {"command": command[1:], "cwd": str(cwd), "environment": environment, "group": group}
        return self._ask({**asked, **files})

    def poll(self, pid: int) -> int | None:
        """The exit status, as subprocess has it; None while it runs."""
        return self._ask({"pid": pid})

    def wait(self, pid: int, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (status := self.poll(pid)) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a program", timeout)
            time.sleep(0.02)
        return status

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)

    def _ask(self, asked: dict[str, Any]) -> Any:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        return json.loads(answer)


class Forked:
    """As much of subprocess.Popen as torchrun uses of it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a rank", timeout or 0.0)
            time.sleep(0.01)
        return self.poll() or 0


def serve() -> None:
    """Answer the lines of stdin, until it ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    ranks_are_forked()
    gc.freeze()  # a collection in a fork would look at all that is loaded, and so copy it
    running: dict[int, Forked] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "pid" in asked:
            answer = running[asked["pid"]].poll()
        else:
            pid = os.fork()
            if pid == 0:
                if asked["group"]:
                    os.setpgid(0, 0)
                log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                if asked["errors"] != asked["log"]:
                    log = os.open(asked["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 2)
                os.chdir(asked["cwd"])
                become(asked["command"], asked["environment"])
            running[pid] = Forked(pid)
            answer = pid
        print(json.dumps(answer), flush=True)
    for pid, process in running.items():
        if process.poll() is None:
            os.kill(pid, signal.SIGKILL)


def ranks_are_forked() -> None:
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import (
        SubprocessHandler,
    )

    SubprocessHandler._popen = forks()


def forks(preloaded: Sequence[str] = ()) -> Callable[[Any, tuple[str, ...], dict[str, str]], Forked]:
    """In place of what starts a rank in torchrun; preloaded: modules that are loaded before the first."""

    def popen(handler: Any, words: tuple[str, ...], environment: dict[str, str]) -> Forked:
        assert words[0] == sys.executable
        assert handler._stdout is None
        assert handler._stderr is None
        for name in preloaded:
            importlib.import_module(name)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            become(list(words[1:]), environment)
        return Forked(pid)

    return popen


def become(words: list[str], environment: dict[str, str]) -> None:
    """Run a command line of Python in this process, which a fork made, to its end; does not return."""
    status = 1
    try:
        clean(environment)
        words = words[words[0] == "-u" :]
        if PACE in environment and (words[0] == "-c" or words[:2] == ["-m", "train"]):
            pace(float(environment[PACE]))
        status = run(words)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def pace(seconds: float) -> None:
    """Steps wait to begin, so that a run can be disturbed in its midst."""
    from train import trainer

    seed = trainer.seed_generators

    def later(*arguments: Any) -> None:
        time.sleep(seconds)
        seed(*arguments)

    trainer.seed_generators = later


def clean(environment: dict[str, str]) -> None:
    """Nothing of the process that forked stays, but what it has loaded."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(3, 4096)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)


def run(words: list[str]) -> int:
    try:
        if words[0] == "-m":
            sys.argv[:] = words[1:]
            sys.path[0] = os.getcwd()
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv[:] = ["-c", *words[2:]]
            sys.path[0] = ""
            exec(words[1], {"__name__": "__main__"})
        else:
            sys.argv[:] = words
            sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
            return 1
        return leaving.code or 0
    return 0


if __name__ == "__main__":
    serve()
