"""Threads that an interrupt leaves behind, and requests of the main thread that it ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from operator import methodcaller

import pytest
from interrupts import unnoticed_interrupt
from project import REPO

from shard_tools import threads
from shard_tools.ahead import ahead
from shard_tools.threads import Threads, awaited, interruptibly, joined, patiently


@pytest.fixture
def never():
    """Set after the test, for threads that wait until then."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE_S", 0.05)
    monkeypatch.setattr(threads, "LISTEN_S", 0.05)


def test_no_more_threads_than_tasks_nor_than_allowed():
    with Threads(3, "few") as pool:
        assert [pool.submit(str, number).result() for number in range(20)] == [str(n) for n in range(20)]
        assert len(pool._threads) == 1
        met = threading.Barrier(3, timeout=60)
        assert list(pool.map(lambda _: met.wait() >= 0, range(9))) == [True] * 9
        assert len(pool._threads) == 3
    assert not any(thread.is_alive() for thread in pool._threads)
    with pytest.raises(RuntimeError):
        pool.submit(str)


def test_where_no_more_are_to_be_had_those_that_are_there_do(monkeypatch):
    begun, start = [], threading.Thread.start

    def two(thread):
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", two)
    met = threading.Barrier(2, timeout=60)
    with Threads(5, "few") as pool:
        assert list(pool.map(lambda _: met.wait() >= 0, range(8))) == [True] * 8
        assert pool._threads == begun
    monkeypatch.setattr(threading.Thread, "start", lambda thread: two(None))
    with Threads(5, "none") as pool:
        assert list(pool.map(lambda _: threading.current_thread(), range(2))) == [threading.main_thread()] * 2
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(KeyboardInterrupt):
            pool.submit(signal.raise_signal, signal.SIGINT)


def test_what_was_given_to_them_is_done_before_they_end():
    done = []
    with Threads(2, "few") as pool:
        for number in range(30):
            pool.submit(lambda number=number: (time.sleep(0.001), done.append(number)))
    assert sorted(done) == list(range(30))


def test_after_an_error_nothing_more_is_begun(never):
    begun = []

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError("first")
        never.wait(60)

    def give():
        with Threads(1, "one") as pool:
            tasks = [pool.submit(work, number) for number in range(5)]
            while len(begun) < 2:
                time.sleep(0.001)
            threading.Timer(0.1, never.set).start()
            tasks[0].result()

    with pytest.raises(ValueError, match="first"):
        give()
    assert begun == [0, 1]


def test_an_interrupt_waits_for_no_task(never):
    tasks = []

    def give():
        with Threads(2, "few") as pool:
            tasks.extend(pool.submit(never.wait, 60) for _ in range(4))
            unnoticed_interrupt()
            tasks[0].result()

    with pytest.raises(KeyboardInterrupt):
        give()
    assert [task.cancelled() for task in tasks] == [False, False, True, True]
    assert not tasks[0].done()


@pytest.mark.parametrize(
    "wait",
    [
        lambda pool, never: list(pool.map(never.wait, [60])),
        lambda pool, never: (pool.submit(never.wait, 60), pool.shutdown()),
        lambda pool, never: patiently(never.wait),
    ],
    ids=["map", "shutdown", "event"],
)
def test_an_interrupt_that_ends_no_wait_is_heard(never, wait):
    pool = Threads(1, "one")
    unnoticed_interrupt()
    with pytest.raises(KeyboardInterrupt):
        wait(pool, never)
    assert not never.is_set()


def test_it_is_heard_by_who_waits_for_other_threads_too(never):
    thread = threading.Thread(target=never.wait, args=(60,), daemon=True)
    thread.start()
    unnoticed_interrupt()
    with pytest.raises(KeyboardInterrupt):
        joined(thread)
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(never.wait, 60)
        unnoticed_interrupt()
        with pytest.raises(KeyboardInterrupt):
            awaited(task)
        never.set()
        assert awaited(task) is True
    joined(thread)


def test_an_error_of_the_work_that_is_a_time_out_is_no_wait():
    with Threads(1, "one") as pool:
        task = pool.submit(lambda: (_ for _ in ()).throw(TimeoutError("the store's")))
        with pytest.raises(TimeoutError, match="the store's"):
            task.result()
    task = Future()
    task.cancel()
    with pytest.raises(CancelledError):
        awaited(task)
    with pytest.raises(FutureTimeout):
        Future().result(0)


class Buffer:
    """Something to be freed."""


@pytest.mark.parametrize("wait", [methodcaller("result"), awaited], ids=["result", "awaited"])
def test_an_error_s_frames_are_freed_with_it(wait):
    kept = []

    def fail():
        buffer = Buffer()
        kept.append(weakref.ref(buffer))
        time.sleep(0.05)
        raise ValueError

    gc.disable()
    try:
        with Threads(1, "one") as pool, contextlib.suppress(ValueError):
            wait(pool.submit(fail))
        assert kept[0]() is None
    finally:
        gc.enable()


def test_an_error_of_a_signal_s_handler_is_raised(never):
    def late(*_):
        raise TimeoutError("by the clock")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    with pytest.raises(TimeoutError, match="by the clock"):
        interruptibly(lambda: never.wait(60))


def test_a_thread_that_an_interrupt_kept_from_being_noted_down_ends_with_the_others(never, monkeypatch):
    begun, start = [], threading.Thread.start

    def interrupted(thread):
        start(thread)
        begun.append(thread)
        if len(begun) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    pool = Threads(3, "few")
    pool.submit(never.wait, 60)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(never.wait, 60)
    pool.shutdown(wait=False)
    never.set()
    for thread in begun:
        thread.join(20)
    assert [thread.is_alive() for thread in begun] == [False, False]


@pytest.mark.parametrize("number", [1, 3])
def test_neither_does_what_reads_ahead(never, number):
    read = ahead(range(9), lambda item: never.wait(60) if item else item, 4, threads=number)
    assert next(read) == 0
    unnoticed_interrupt()
    with pytest.raises(KeyboardInterrupt):
        next(read)
    read = ahead(range(9), lambda item: never.wait(60) if item else item, 4, threads=number)
    assert next(read) == 0
    read.close()
    assert not never.is_set()


def test_an_interrupt_ends_what_the_main_thread_waits_for_and_the_next_works(never):
    def work():
        return threading.current_thread().name

    unnoticed_interrupt()
    with pytest.raises(KeyboardInterrupt):
        interruptibly(lambda: never.wait(60))
    first = interruptibly(work)
    assert (first, first) == (interruptibly(work), "request_0")
    with pytest.raises(ValueError, match="odd"):
        interruptibly(lambda: (_ for _ in ()).throw(ValueError("odd")))
    found = []
    other = threading.Thread(target=lambda: found.append(interruptibly(work)), name="other")
    other.start()
    other.join()
    assert found == ["other"]


def test_where_no_thread_is_to_be_had_it_is_done_here(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_beside", None)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert interruptibly(threading.current_thread) is threading.main_thread()


def test_a_fork_has_a_thread_of_its_own():
    assert interruptibly(os.getpid) == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(7 if interruptibly(os.getpid) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["shard_tools.cli", "info", "s3://silent/set"], signal.SIGINT),
        (["shard_tools.cli", "info", "s3://silent/set"], signal.SIGTERM),
        (["eval", "s3://silent/run/step-1.pt", "--trials", os.devnull, "--data", "x"], signal.SIGINT),
    ],
    ids=["info", "info terminated", "eval"],
)
def test_a_command_that_asks_a_silent_store_can_be_ended(command, number):
    """Long before the store's time-out, of 60 s and several tries."""
    with socket.create_server(("127.0.0.1", 0)) as store:
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=REPO,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            store.settimeout(120)
            with store.accept()[0] as connection:
                assert connection.recv(3) in (b"GET", b"HEA")
                process.send_signal(number)
                errors = process.communicate(timeout=20)[1]
        finally:
            process.kill()
            process.wait()
    if number == signal.SIGINT:
        assert (process.returncode, errors.count("\n")) == (130, 1)
        assert errors.endswith(": interrupted\n")
    else:
        assert process.returncode == -number
