"""Leaving early and in order: all ranks leave after the same step, whichever of them got the signal."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from train.life.distributed import TIMEOUT
from train.life.signals import StopFlag

_BEAT_S = 0.1


class Vote:
    """Whether any rank wants to stop, learnt by all at the same step.

    `begin` before a step sends this rank's flag on its way, `end` after the step brings the answer, so
    that no step waits for it. The votes go over gloo on CPUs, where reading the answer
    waits for no GPU. With them goes an alarm: `alarm` says after `end` whether any rank raised it.
    """

    def __init__(self, flag: StopFlag) -> None:
        self._flag = flag
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if dist.is_initialized() else None
        self._raised = torch.zeros(2, dtype=torch.int32)
        self._work: dist.Work | None = None

    def begin(self, *, alarm: bool = False) -> None:
        self._raised[0], self._raised[1] = self._flag.raised, alarm
        if self._group is not None:
            self._work = dist.all_reduce(self._raised, dist.ReduceOp.MAX, self._group, async_op=True)

    def end(self) -> bool:
        if self._work is not None:
            self._work.wait()
        return bool(self._raised[0])

    @property
    def alarm(self) -> bool:
        return bool(self._raised[1])

    def wait_while(self, busy: Callable[[], bool]) -> None:
        """Until no rank is `busy`, however long that is: all must call this together.

        They ask each other all the while, so that none waits in a collective until that is given up.
        """
        while True:
            left = torch.tensor([busy()], dtype=torch.int32)
            if self._group is not None:
                dist.all_reduce(left, dist.ReduceOp.MAX, self._group)
            if not left:
                return
            time.sleep(_BEAT_S)

    def meet(self) -> None:
        """Wait until every rank is here: where one failed on its way, the others fail too."""
        if self._group is not None:
            dist.barrier(self._group)
