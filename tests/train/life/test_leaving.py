"""A rank with NCCL's communicators leaves at once after a failure; others end as Python does."""

from __future__ import annotations

import sys

import pytest
from processes import answer

PROGRAM = """
import atexit, sys
import torch.distributed as dist
import train.__main__ as main
dist.is_initialized = lambda: True
dist.get_backend = lambda: {backend!r}
atexit.register(lambda: print("torn down", flush=True))
def fail(*, aloud):
    {failure}
main._parse = fail
sys.argv = ["train"]
sys.exit(main.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["raise main.UserError('lower it')", "raise RuntimeError('a defect')"])
@pytest.mark.parametrize("backend", ["cpu:gloo,cuda:nccl", "gloo"])
def test_nothing_is_torn_down_under_nccl(backend, failure):
    command = [sys.executable, "-c", PROGRAM.format(backend=backend, failure=failure)]
    ended = answer(command)
    assert ended.returncode == 1
    assert ("train: error: lower it" if "UserError" in failure else "RuntimeError: a defect") in ended.stderr
    assert ended.stdout == ("" if "nccl" in backend else "torn down\n")
