"""What is freed stays with the process, so that the kernel need not clear its pages once more."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Lines, each the faults of eight arrays of 64 MiB that are made and freed one after the other.
_PROGRAM = """
import resource
import numpy as np
from shard_tools.heaps import keep_freed_memory

def faults():
    np.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's thresholds")
@pytest.mark.parametrize("said", [{}, {"MALLOC_MMAP_THRESHOLD_": "1048576"}])
def test_large_arrays_are_made_of_memory_that_is_there(said: dict[str, str]) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    # numpy asks for huge pages, of which there may be any number.
    environment |= said | {"NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    before, after = map(int, done.stdout.split())
    assert before > 8 * 1000
    assert (after < 100) is not bool(said)
