"""Many requests by few threads, or by many where answers are slow; and what is left when one fails."""

from __future__ import annotations

import threading
import time

import pytest
from interrupts import unnoticed_interrupt

from shard_tools.read.crew import FEW, Crew


def test_each_is_done_once():
    done = []
    assert Crew(100).do(range(1000), done.append) is None
    assert sorted(done) == list(range(1000))


def test_while_no_answer_comes_more_are_asked_for():
    """Nothing is answered until 90 requests are under way."""
    met = threading.Barrier(90, timeout=60)
    assert Crew(100).do(range(90), lambda _: met.wait()) is None


def test_a_slow_store_is_known_from_then_on():
    crew, names = Crew(100), set()
    crew.do(range(30), lambda _: time.sleep(0.02))
    assert crew.answer_s >= 0.02
    met = threading.Barrier(100, timeout=60)
    crew.do(range(100), lambda _: (names.add(threading.current_thread().name), met.wait()))
    assert len(names) == 100


def test_no_more_than_may_be_at_once_whoever_asks():
    most, asking = 20, 3
    under_way, highest, lock = 0, 0, threading.Lock()

    def ask(_):
        nonlocal under_way, highest
        with lock:
            under_way += 1
            highest = max(highest, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= 1

    crew = Crew(most)
    threads = [threading.Thread(target=crew.do, args=(range(100), ask)) for _ in range(asking)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert highest == most


def test_a_near_store_gets_few(monkeypatch):
    monkeypatch.setattr(
        "shard_tools.read.crew.LOOK_S", 60
    )  # a machine with much to do may take long to begin
    crew, names = Crew(1000), set()

    def ask(_):
        names.add(threading.current_thread().name)
        time.sleep(0.001)

    crew.do(range(500), ask)
    assert len(names) <= FEW


def test_the_first_that_fails_is_told_and_no_more_begun():
    begun = []

    def ask(item):
        begun.append(item)
        if item >= 30:
            raise OSError(item)

    position, error = Crew(8).do(range(1000), ask)
    assert (position, str(error)) == (30, "30")
    assert len(begun) < 100


def test_nothing_is_under_way_after_an_interrupt(monkeypatch):
    released, ended = threading.Event(), []

    def ask(item):
        released.wait(60)
        ended.append(item)

    crew = Crew(4)
    call = crew._call

    def interrupt(errand, wanted):
        call(errand, wanted)
        released.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crew.do(range(50), ask)
    count = len(ended)
    crew._threads.shutdown(wait=True)
    assert len(ended) == count


@pytest.mark.parametrize("before", [True, False], ids=["before the call", "after it"])
def test_an_interrupt_while_threads_are_called_leaves_none_counted_as_busy(monkeypatch, before):
    crew, done, called = Crew(100), [], []
    submit = crew._threads.submit

    def interrupted(*work):
        called.append(work)
        if before and len(called) == 3:
            raise KeyboardInterrupt
        future = submit(*work)
        if len(called) == 3:
            raise KeyboardInterrupt
        return future

    monkeypatch.setattr(crew._threads, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crew.do(range(20), done.append)
    crew._threads.shutdown(wait=True)
    assert crew._busy == 0


def test_who_interrupts_does_not_wait_for_a_silent_store(monkeypatch):
    """And who asks next, even before it answers, has as many threads as may be."""
    monkeypatch.setattr("shard_tools.read.crew.PATIENCE_S", 0.05)
    answered, under_way, met = threading.Event(), [], threading.Barrier(4, timeout=60)

    def ask(item):
        under_way.append(item)
        answered.wait(60)

    crew = Crew(4)
    call = crew._call

    def interrupt(errand, wanted):
        call(errand, wanted)
        while len(under_way) < 4:
            time.sleep(0.001)
        monkeypatch.setattr(crew, "_call", call)
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        crew.do(range(50), ask)
    assert not answered.is_set()
    assert crew.do(range(4), lambda _: met.wait()) is None
    answered.set()
    assert crew.do(range(4), lambda _: met.wait()) is None
    crew._threads.shutdown(wait=True)
    assert (len(under_way), crew._busy) == (4, 0)


def test_an_interrupt_that_ends_no_wait_is_heard(monkeypatch):
    monkeypatch.setattr("shard_tools.read.crew.PATIENCE_S", 0.05)
    answered = threading.Event()
    unnoticed_interrupt()
    with pytest.raises(KeyboardInterrupt):
        Crew(4).do(range(2), lambda _: answered.wait(60))
    assert not answered.is_set()
    answered.set()


def test_where_no_thread_is_to_be_had(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    crew, done = Crew(100), []
    monkeypatch.setattr(crew._threads, "submit", refuse)
    crew.do(range(20), done.append)
    assert done == list(range(20))
    assert crew._busy == 0


def test_connections_that_are_made_are_no_slow_store(monkeypatch):
    """The first request of each thread waits for one; the others are answered at once."""
    monkeypatch.setattr("shard_tools.read.crew.CONNECT_S", 60)
    crew, connected = Crew(1000), set()

    def ask(_):
        name = threading.current_thread().name
        if name not in connected:
            connected.add(name)
            time.sleep(0.05)

    crew.do(range(500), ask)
    assert len(connected) <= 2 * FEW
