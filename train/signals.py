"""What a signal does: it raises a flag, which the training loop looks at, and nothing else.

A cluster says that it wants its nodes back by a signal, often to every process at once,
sometimes twice, and sometimes to a few processes only.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: the exit status of a run that is to be started again


class StopFlag:
    """Raised by a signal, for good.

    number: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None

    def listen(self) -> None:
        """From now on the signals raise the flag, and do nothing else."""
        for number in SIGNALS:
            signal.signal(number, self._raise)

    def _raise(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = signal.Signals(number)

    @property
    def raised(self) -> bool:
        return self.number is not None

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the flag is raised."""
        end = time.monotonic() + seconds
        while not self.raised and time.monotonic() < end:
            time.sleep(0.1)


flag = StopFlag()  # of this process, as signals are


def ignore() -> None:
    """No signal that a whole job is sent ends this process from now on.

    For reading processes, which must not end before those that they read for.
    """
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
