"""Work shared out to a few processes that end with it: what would keep one processor busy alone, or what this
process is not to do itself.

They are forked as long as nothing was used here that no fork survives. Else they are fresh ones, but not
multiprocessing's, which would load what the main program has loaded: these load the module of the work alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, TypeVar

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.launched import end_with_parent
from shard_tools.threads import patiently

Item = TypeVar("Item")
Result = TypeVar("Result")


def apart(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """work(item) of each item, in order, each in a process of its own; of a single one here.

    work, items and results are pickled; `work` is a function of a module of shard_tools, or a partial one.
    What a process fails at, or dies of, is done here once more: errors are raised as if there were none.
    """
    if len(items) == 1:
        yield work(items[0])
    elif may_fork():
        yield from in_forks(work, items)
    else:
        yield from _in_fresh(work, items)


def swiftly(url: str, work: Callable[[], Result]) -> Result:
    """work(), which reads what lies at `url`: in a fork, where that reads faster than this process may."""
    if not (storage.forks_are_faster(url) and may_fork()):
        return work()
    [result] = in_forks(lambda _: work(), [None])
    return result


def in_forks(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """As `apart`, of a single item too; only results are pickled. What a UserError ends is not done again."""
    context = multiprocessing.get_context("fork")
    processes: list[ForkProcess] = []
    connections: list[Connection] = []
    try:
        with contextlib.suppress(OSError):  # no more processes are to be had
            for item in items:
                ours, theirs = context.Pipe(duplex=False)
                connections.append(ours)
                process = context.Process(target=_forked, args=(work, item, theirs), daemon=True)
                try:
                    process.start()
                finally:
                    theirs.close()
                processes.append(process)
        for number, item in enumerate(items):
            found = _sent(connections[number]) if number < len(processes) else None
            if isinstance(found, UserError):
                raise found
            yield work(item) if found is None else found[0]
    finally:
        for process in processes:
            process.kill()
            process.join()
        for connection in connections:
            connection.close()


def _forked(work: Callable[[Item], Result], item: Item, connection: Connection) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        found: tuple[Result] | UserError = (work(item),)
    except UserError as error:
        found = error
    except Exception:  # which shows where it is raised again
        return
    connection.send_bytes(pickle.dumps(found, protocol=5))


def _sent(connection: Connection) -> tuple[Any] | UserError | None:
    """The result, or the error that came instead; None where it died."""
    try:
        patiently(connection.poll)
        data = connection.recv_bytes()
    except (EOFError, OSError):
        return None
    found: tuple[Any] | UserError = pickle.loads(data)
    return found


def may_fork() -> bool:
    """Whether work may go on in forks of this process.

    A process that will end with its parent, as multiprocessing's workers do, may start none there.
    """
    daemonic = multiprocessing.current_process().daemon
    return sys.platform.startswith("linux") and storage.forkable() and not daemonic


def _in_fresh(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-m", "shard_tools.apart"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with contextlib.suppress(OSError):  # no more processes are to be had
            for item in items:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,  # a Ctrl-C is for who waits
                )
                processes.append(process)
                assert process.stdin is not None
                process.stdin.write(pickle.dumps((storage.current_policy(), work, item)))
                process.stdin.close()
        for number, item in enumerate(items):
            found = _result(processes[number]) if number < len(processes) else None
            yield work(item) if found is None else pickle.loads(found)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _result(process: subprocess.Popen[bytes]) -> bytes | None:
    """What it wrote, which is all at its end; None where it failed or died."""
    written = process.stdout
    assert written is not None
    patiently(lambda seconds: bool(wait([written.fileno()], seconds)))
    found = written.read()
    return found if process.wait() == 0 and found else None


def main() -> None:
    end_with_parent()
    policy, work, item = pickle.load(sys.stdin.buffer)
    storage.configure(policy)
    sys.stdout.buffer.write(pickle.dumps(work(item), protocol=5))


if __name__ == "__main__":
    main()
