"""Work shared out to a few fresh processes that end with it: for what would keep one processor busy alone.

Not forked, since clients of storage do not survive that, and not multiprocessing's, which would load what the
main program has loaded: these load the module of the work alone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from shard_tools import storage
from shard_tools.launched import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def apart(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """work(item) of each item, in order, each in a process of its own; of a single one here.

    work, items and results are pickled; `work` is a function of a module of shard_tools, or a partial one.
    What a process fails at, or dies of, is done here once more: errors are raised as if there were none.
    """
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-m", "shard_tools.apart"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for item in items if len(items) > 1 else ():
            with contextlib.suppress(OSError):  # no more processes are to be had
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
    """What it wrote; None where it failed or died."""
    assert process.stdout is not None
    found = process.stdout.read()
    return found if process.wait() == 0 and found else None


def main() -> None:
    end_with_parent()
    policy, work, item = pickle.load(sys.stdin.buffer)
    storage.configure(policy)
    sys.stdout.buffer.write(pickle.dumps(work(item), protocol=5))


if __name__ == "__main__":
    main()
