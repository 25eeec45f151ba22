"""Running a command in a process of its own, and whether it kept the promise.

The promise, for any input: the right result, or one clear line on stderr and a status other than 0; no
traceback, nothing that acts on a terminal, less than a minute, less than 2 GB.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS, BYTES = 60.0, 2 * 2**30
LONGEST = 2000  # characters of a line


@dataclass(frozen=True)
class Outcome:
    """status: of the process, negative after a signal; peak: bytes of its largest resident size."""

    status: int
    out: str
    err: str
    seconds: float
    peak: int


def in_child(command: Callable[[], int | None], folder: Path, seconds: float = SECONDS) -> Outcome:
    """Run `command` in a fork of this process, whose group ends with it; `folder` takes its output."""
    out, err = folder / "stdout", folder / "stderr"
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        _child(command, out, err)
    status: int | None = None
    while status is None:
        found, word, usage = os.wait4(pid, os.WNOHANG)
        if found:
            status = os.waitstatus_to_exitcode(word)
        elif time.monotonic() - began > seconds:
            os.killpg(pid, signal.SIGKILL)
            _, word, usage = os.wait4(pid, 0)
            status = -signal.SIGKILL
        else:
            time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it left behind
    took = time.monotonic() - began
    return Outcome(status, _text(out), _text(err), took, usage.ru_maxrss * 1024)


def broken_promise(outcome: Outcome) -> str | None:
    """What is wrong with how a command ended, whatever its result; None where nothing is."""
    if outcome.seconds >= SECONDS:
        return f"it took {outcome.seconds:.0f} s"
    if outcome.status < 0:
        return f"it was ended by signal {-outcome.status}"
    if outcome.peak > BYTES + _inherited():
        return f"it took {outcome.peak / 2**30:.1f} GiB"
    said = outcome.out + outcome.err
    if "Traceback (most recent call last)" in said:
        return "a traceback: " + outcome.err.strip().splitlines()[-1][:200]
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", said.replace("\x1b[A", "")):
        return "control characters in what it says"
    if "secret@" in said:
        return "credentials in what it says"
    shown = said if outcome.out[:1] not in ("[", "{") else outcome.err  # JSON is for programs
    if any(len(line) > LONGEST for line in shown.splitlines()):
        return "a line of thousands of characters"
    if outcome.status and not _clear(outcome):
        return f"status {outcome.status} without a clear line: {outcome.err.strip()[-200:]!r}"
    return None


def _clear(outcome: Outcome) -> bool:
    """A line that says what is wrong: the last of stderr, after progress bars."""
    lines = [line for line in re.split(r"[\r\n]+", outcome.err) if line.strip()]
    return bool(lines) and any("error:" in line or "problem" in line for line in lines)


def _child(command: Callable[[], int | None], out: Path, err: Path) -> None:
    os.setpgid(0, 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - of a process that ends by os._exit
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    # Beyond it Python raises MemoryError, which is a traceback, and the machine stays well.
    limit = _address_space() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    status = 1
    try:
        status = command() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)


def _text(path: Path) -> str:
    return path.read_text(errors="surrogateescape") if path.exists() else ""


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _inherited() -> int:
    """Bytes that a fork begins with."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def command(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> Callable[[], int]:
    """`main(arguments)` with sys.argv as the shell would have set it."""

    def run() -> int:
        sys.argv = ["program", *arguments]
        return main(list(arguments))

    return run
