"""Ending a rank that failed where Python's own end could wait for ever."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def under_nccl() -> bool:
    """Whether this process has communicators of NCCL, which are torn down as Python ends.

    That waits for the other ranks, who wait for this one.
    """
    dist = sys.modules.get("torch.distributed")  # not loaded for this question
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return False
    return "nccl" in str(dist.get_backend())


def leave_at_once(status: int) -> NoReturn:
    """End the process with what has been said, and without what else Python and libraries do at its end."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
