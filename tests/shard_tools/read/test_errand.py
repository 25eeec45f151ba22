"""Many requests by few threads, or by many where answers are slow; and what is left when one fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shard_tools.read import errand
from shard_tools.read.errand import FIRST, Errand


@pytest.fixture
def threads():
    with ThreadPoolExecutor(100) as pool:
        yield pool


def test_each_is_done_once(threads):
    done = []
    made = Errand(range(1000), done.append)
    made.run(threads, 100)
    assert sorted(done) == list(range(1000))
    assert made.failure is None


def test_while_no_answer_comes_more_are_asked_for(threads):
    """Nothing is answered until 90 requests are under way."""
    met = threading.Barrier(90, timeout=60)
    Errand(range(90), lambda _: met.wait()).run(threads, 100)


def test_no_more_than_may_be(threads):
    most = 20
    met = threading.Barrier(most, timeout=60)
    under_way, highest, lock = 0, 0, threading.Lock()

    def ask(_):
        nonlocal under_way, highest
        with lock:
            under_way += 1
            highest = max(highest, under_way)
        met.wait()
        with lock:
            under_way -= 1

    Errand(range(100), ask).run(threads, most)
    assert highest == most


def test_a_near_store_gets_few(threads, monkeypatch):
    monkeypatch.setattr(errand, "PATIENCE_S", 60)
    names = set()
    Errand(range(200), lambda _: names.add(threading.current_thread().name)).run(threads, 100)
    assert len(names) <= FIRST


def test_the_first_that_fails_is_told_and_no_more_begun(threads):
    begun = []

    def ask(item):
        begun.append(item)
        if item >= 30:
            raise OSError(item)

    made = Errand(range(1000), ask)
    made.run(threads, 8)
    position, error = made.failure
    assert (position, str(error)) == (30, "30")
    assert len(begun) < 100


def test_nothing_is_under_way_afterwards(threads):
    """An interrupt while it waits is raised when those under way have ended."""
    released, ended = threading.Event(), []

    def ask(item):
        released.wait(60)
        ended.append(item)

    made = Errand(range(50), ask)
    wait = made._ended.wait

    def interrupt(timeout=None):
        made._ended.wait = wait
        released.set()
        raise KeyboardInterrupt

    made._ended.wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        made.run(threads, 4)
    count = len(ended)
    assert count < 50
    threads.shutdown(wait=True)
    assert len(ended) == count


def test_where_no_thread_is_to_be_had(threads, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "submit", refuse)
    done = []
    Errand(range(20), done.append).run(threads, 100)
    assert done == list(range(20))
