"""Running tasks in worker processes that report progress, stop when told, and do not outlive their parent.

Or in threads: these start at once, where a process takes half a second, and serve what leaves the interpreter
to others most of the time, as reading, hashing and writing do.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, TypeVar

from shard_tools.errors import UserError
from shard_tools.launched import launched
from shard_tools.storage.forks import forkable

Task = TypeVar("Task")
Result = TypeVar("Result")
Report = Callable[[int], object]

_POLL_S = 0.2
_TIDY_S = 10.0  # for what a task does before it ends; a store that is silent ends that too
_AT_REPORT, _AT_ONCE = 1, 2  # where workers are to stop


class WorkerDiedError(UserError):
    """A worker process ended in the midst of a task."""


class _StoppedError(BaseException):
    """Raised inside a worker by `report` when the others have been asked to stop, anywhere after a Ctrl-C.

    As KeyboardInterrupt it is none of the errors that are tried again or told.
    """


def processors() -> int:
    """Processors that this process may use; all of the machine's where the system cannot tell (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_processors(most: int = 4) -> int:
    """How many processes may work for this one at once: its share of the node's processors, up to `most`."""
    place = launched()
    return max(1, min(processors() // (place.on_node if place else 1), most))


def run(
    function: Callable[[Task, Report], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    progress: Report,
    threads: bool = False,
) -> Iterator[tuple[Task, Result]]:
    """Yield (task, function(task, report)) as they finish; with one worker in this process, in order.

    threads: whether workers are threads of this process.

    `function` calls report(amount) often; the amounts reach `progress` in this
    process. The first exception of a task stops the others and is raised here.
    `function`, tasks and results are pickled when there are several workers; WorkerDiedError when one of
    these died.
    """
    tasks = list(tasks)
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield task, function(task, progress)
        return
    if threads:
        yield from _in_threads(function, tasks, workers, progress)
        return
    context = multiprocessing.get_context(_method())
    done, stop = context.Value("q", 0), context.Value("b", 0, lock=False)
    seen = 0

    def show() -> None:
        nonlocal seen
        now = done.value
        progress(now - seen)
        seen = now

    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), context, initializer=_start, initargs=(done, stop, os.getpid())
    )
    try:
        task_of = {pool.submit(_call, function, task): task for task in tasks}
        pending = set(task_of)
        while pending:
            finished, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            show()
            for future in finished:
                yield task_of.pop(future), future.result()
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "a worker process died, perhaps killed for using too much memory; run again, with fewer --workers"
        ) from error
    except (
        KeyboardInterrupt,
        GeneratorExit,
    ):  # where a Ctrl-C met who uses the results, it is this that comes
        stop.value = _AT_ONCE
        raise
    finally:
        stop.value = stop.value or _AT_REPORT
        pool.shutdown(wait=True, cancel_futures=True)


def _method() -> Literal["fork", "spawn"]:
    """A fork starts at once, where a clean process loads for half a second.

    But it copies locks that threads hold at the moment, such as those that talk to storage. tqdm's own,
    which watches the bars, is none to the workers: they draw none. And some of these threads are not
    Python's.
    """
    from tqdm import TMonitor  # loads for 30 ms, and not every program that comes by here has tasks

    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    alone = all(isinstance(each, TMonitor) for each in others)
    return "fork" if alone and forkable() and sys.platform.startswith("linux") else "spawn"


def _in_threads(
    function: Callable[[Task, Report], Result], tasks: Iterable[Task], workers: int, progress: Report
) -> Iterator[tuple[Task, Result]]:
    stop = threading.Event()
    lock = threading.Lock()
    done = 0

    def report(amount: int) -> None:
        nonlocal done
        if stop.is_set():
            raise _StoppedError
        with lock:
            done += amount

    def show() -> None:
        nonlocal done
        with lock:
            now, done = done, 0
        progress(now)

    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
        try:
            task_of: dict[Future[Result], Task] = {
                pool.submit(function, task, report): task for task in tasks
            }
            pending = set(task_of)
            while pending:
                finished, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                show()
                for future in finished:
                    yield task_of.pop(future), future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


_done: Any = None
_stop: Any = None
_in_task = False
_stopped = -math.inf  # when a task was last told to stop, of time.monotonic()


def _start(done: Any, stop: Any, parent: int) -> None:
    """Prepare a worker: Ctrl-C is the parent's to handle; when the parent is killed the worker ends too.

    What the parent says reaches it even where it waits for a store that is silent.
    """
    global _done, _stop
    _done, _stop = done, stop
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has the parent's
    main = threading.get_ident()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
            if stop.value == _AT_ONCE:
                signal.pthread_kill(main, signal.SIGINT)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _interrupted(*_: object) -> None:
    """Once, so that the task can tidy up, and again after _TIDY_S: an error may be lost in a callback."""
    global _stopped
    if _in_task and _stop.value == _AT_ONCE and time.monotonic() > _stopped + _TIDY_S:
        _stopped = time.monotonic()
        raise _StoppedError


def _call(function: Callable[[Task, Report], Result], task: Task) -> Result:
    global _in_task
    _in_task = True
    try:
        _report(0)
        return function(task, _report)
    finally:
        _in_task = False


def _report(amount: int) -> None:
    if _stop.value:
        raise _StoppedError
    with _done.get_lock():
        _done.value += amount
