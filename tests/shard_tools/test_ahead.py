"""Order, bounds and errors of work done ahead."""

from __future__ import annotations

import threading
import time

import pytest

from shard_tools.ahead import ahead


@pytest.mark.parametrize("depth", [0, 1, 5, 100])
def test_results_come_in_order(depth):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item * 10

    assert list(ahead(range(30), work, depth)) == [item * 10 for item in range(30)]


def test_no_more_than_depth_items_are_begun_beyond_the_one_given():
    begun, lock, given = [], threading.Lock(), 0

    def work(item):
        with lock:
            begun.append(item)
        return item

    for item in ahead(range(50), work, 4):
        time.sleep(0.002)
        assert max(begun) <= item + 4
        given += 1
    assert given == 50


def test_work_runs_at_the_same_time():
    together = threading.Barrier(3)  # broken after a while unless three are in it at once
    assert list(ahead(range(3), lambda item: (together.wait(10), item)[1], 2)) == [0, 1, 2]


def test_an_error_comes_at_its_place_and_ends_the_stream():
    def work(item):
        if item == 3:
            raise ValueError("third")
        return item

    stream = ahead(range(100), work, 5)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_an_error_of_the_items_comes_after_the_results_before_it(depth):
    def items():
        yield from range(3)
        raise ValueError("third")

    stream = ahead(items(), lambda item: item, depth)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)


def test_the_first_alone_is_done_before_another_is_begun():
    under_way, most = [], []

    def work(item):
        under_way.append(item)
        time.sleep(0.02)
        most.append((item, len(under_way)))
        under_way.remove(item)
        return item

    assert list(ahead(range(6), work, 2, first_alone=True)) == list(range(6))
    assert most[0] == (0, 1)
    assert max(count for _, count in most) > 1


def test_an_error_of_the_first_alone_comes_at_its_place():
    found = ahead(range(3), lambda item: 1 // item, 2, first_alone=True)
    with pytest.raises(ZeroDivisionError):
        next(found)
