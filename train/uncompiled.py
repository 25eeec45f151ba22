"""Training without torch's compiler does not load it: 900 modules, seconds of CPU at a rank's every start.

An optimiser's `step` loads it for nothing but to tell it where its graphs break. Some other methods of
optimisers and of DistributedDataParallel are marked as not to be traced: the mark is a wrapper that at its
first call loads the compiler, to have it make the version that it leaves alone; where nothing is compiled
that version is the method itself. All of this is a matter of torch's inside: where another release does it
otherwise, the marks stay, and starts take their time (`tests/end_to_end/test_starts.py` tells).
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

_MARK = "__dynamo_disable"  # what torch._compile's wrapper keeps that version as


def eager(kind: type[torch.optim.Optimizer]) -> Any:
    """That optimiser, whose `step` is the same without a word to the compiler (which never sees it here)."""
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step, "__doc__": kind.__doc__})


def leave_compiler_out() -> None:
    """For the rest of this process, unless the compiler is loaded already."""
    if "torch._dynamo" in sys.modules:
        return
    for kind in (torch.optim.Optimizer, DistributedDataParallel):
        for method in vars(kind).values():
            _unmark(method)


def _unmark(method: Any) -> None:
    while (inner := getattr(method, "__wrapped__", None)) is not None:
        code = getattr(method, "__code__", None)
        if code is not None and code.co_filename.endswith("_compile.py") and not hasattr(inner, _MARK):
            setattr(inner, _MARK, inner)
        method = inner


@contextlib.contextmanager
def default_ddp_mode() -> Iterator[None]:
    """DistributedDataParallel, as it is made, asks the compiler how the two get on: its default answer."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    answers = SimpleNamespace(get_optimize_ddp_mode=lambda: "ddp_optimizer")
    torch._dynamo = SimpleNamespace(utils=answers)  # type: ignore[assignment]
    try:
        yield
    finally:
        del torch._dynamo
