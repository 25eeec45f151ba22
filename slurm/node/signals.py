"""The signals by which SLURM asks a task to leave."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Notes the first signal: one of our choice comes before a time limit, SIGTERM when nodes are taken.

    number: which; at: when, of time.monotonic().
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self.at = 0.0

    def listen(self) -> None:
        """Instead of whoever listened before. Only a program's first thread can; others do nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._note)

    @property
    def limited(self) -> bool:
        """Whether the time limit is what is near."""
        return self.number in (signal.SIGUSR1, signal.SIGUSR2)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number, self.at = signal.Signals(number), time.monotonic()
