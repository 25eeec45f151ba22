"""torchrun as a child: started so that it and its ranks end with us, listened to, and signalled."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from slurm.node.signals import STOP_SIGNALS

_LINES = 400  # of the output's end, to find a cause in


class Ranks:
    """A running torchrun and the ranks below it; its output is passed on to this process's stderr."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._last: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=functools.partial(_before_exec, os.getpid()),
            text=True,
            errors="replace",
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """The last lines printed; after the end, all of the last lines."""
        if self.poll() is not None:
            self._listener.join(timeout=5)  # a grandchild may hold the pipe open for longer
        return "".join(self._last)

    def ask_to_stop(self) -> None:
        """Tell the ranks; telling them again is harmless."""
        for pid in _children(self._process.pid):
            _send(pid, signal.SIGTERM)

    def kill(self) -> None:
        """End torchrun, and by that the ranks: they have asked the kernel to end them with it."""
        children = _children(self._process.pid)
        _send(self._process.pid, signal.SIGKILL)
        for pid in children:
            _send(pid, signal.SIGKILL)
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last.append(line)
            sys.stderr.write(line)
            sys.stderr.flush()


def _before_exec(parent: int) -> None:
    """In the child: end with the parent, and leave the signals to the ranks.

    An ignored signal stays ignored over exec until a program takes it in hand, as a rank does
    first of all; so none is lost, and torchrun, which does not, is not ended by it.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(parent)


def end_with_parent(parent: int) -> None:
    """In a child before it becomes another program: ask the kernel to end it when its parent dies."""
    if sys.platform.startswith("linux"):
        set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """Of every thread of the process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
