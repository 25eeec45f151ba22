"""Batches come out of shared memory as they went in, also in another process."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.errors import UserError
from train.data.handover import Room, room_needed

DTYPES = [torch.float32, torch.int64, torch.int16, torch.uint8]
shapes = st.lists(st.integers(0, 7), max_size=3).map(tuple)
tensors = st.builds(lambda shape, kind: (torch.rand(shape) * 100).to(kind), shapes, st.sampled_from(DTYPES))
names = st.text("abc", min_size=1, max_size=3)


@pytest.mark.slow
@given(st.dictionaries(names, st.one_of(tensors, st.integers(), st.dictionaries(names, tensors, max_size=3))))
@settings(max_examples=60, deadline=None)
def test_a_batch_comes_out_as_it_went_in(batch):
    flat = [value for value in batch.values() if isinstance(value, torch.Tensor)]
    flat += [each for value in batch.values() if isinstance(value, dict) for each in value.values()]
    room = Room(2, room_needed(len(flat), sum(each.nbytes for each in flat)) or 1)
    first, second = room.put(0, {}), room.put(1, batch)
    assert room.take(first, pin_memory=False) == {}
    found = room.take(second, pin_memory=False)
    assert list(found) == list(batch)
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            same(found[name], value)
        elif isinstance(value, dict):
            assert list(found[name]) == list(value)
            for key, each in value.items():
                same(found[name][key], each)
        else:
            assert found[name] == value


def same(found, expected):
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.slow
def test_another_process_fills_it():
    room = Room(1, room_needed(1, 4000))
    ours, theirs = multiprocessing.Pipe()
    batch = {"audio": torch.arange(1000, dtype=torch.float32)}
    process = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(room.put(0, batch)))
    process.start()
    found = room.take(ours.recv(), pin_memory=False)
    process.join()
    assert np.array_equal(found["audio"].numpy(), np.arange(1000))


def test_what_was_not_set_aside_is_refused():
    with pytest.raises(ValueError, match="more than the 64 bytes"):
        Room(1, 64).put(0, {"audio": torch.zeros(100)})


def test_more_memory_than_there_is_names_the_remedy():
    with pytest.raises(UserError, match=r"batches under way: 4 of \d+ MiB .* lower data.prefetch"):
        Room(4, 2**60)
