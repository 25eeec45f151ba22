from __future__ import annotations

import os

import pytest

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.storage import StoragePolicy


@pytest.mark.parametrize("values", [{"attempts": 0}, {"read_timeout_s": float("inf")}, {"first_wait_s": -1}])
def test_values_that_make_no_sense(values):
    (name,) = values
    with pytest.raises(UserError, match=f"^storage policy: {name} is .*; give a number above 0$"):
        StoragePolicy(**values)


def test_a_policy_is_the_whole_process_s_and_its_children_s(storage_policy):
    assert storage.current_policy() == StoragePolicy()
    storage_policy(StoragePolicy(attempts=3))
    assert storage.current_policy().attempts == 3
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.current_policy().attempts == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_who_hurries_asks_twice_and_is_patient_again_afterwards(storage_policy):
    storage_policy(StoragePolicy(attempts=7))
    with storage.hurried():
        inside = storage.current_policy()
    assert (inside.attempts, inside.read_timeout_s, inside.connect_timeout_s) == (2, 5, 5)
    assert storage.current_policy() == StoragePolicy(attempts=7)
