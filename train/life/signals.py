"""What a signal does: it raises a flag, which the training loop looks at, and nothing else.

A cluster says that it wants its nodes back by a signal, often to every process at once,
sometimes twice, and sometimes to a few processes only. A person says it by Ctrl-C, and by
another one that the first takes too long.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

# A rank may be sent one SIGINT twice, by a cluster and by torchrun, which passes on what it was sent.
SAME_S = 2.0
LEAVE_S = 15.0  # a KeyboardInterrupt may be lost in somebody's callback, or wait for a thread that waits
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_SAID = (
    b"\nSIGINT: saving a checkpoint after this step and leaving; again, to leave at once and lose what came "
    b"after the last checkpoint\n"
)


class StopFlag:
    """Raised by a signal, for good.

    number: the first signal that came, or None.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self._interrupted: float | None = None  # when the first SIGINT came, of time.monotonic()

    def listen(self) -> None:
        """From now on the signals raise the flag, and do nothing else."""
        for number in SIGNALS:
            signal.signal(number, self._raise)

    def listen_to_interrupts(self) -> None:
        """From now on, when there is work to be lost, the first SIGINT (Ctrl-C) raises the flag too.

        A second one is a KeyboardInterrupt, which has LEAVE_S to end the process before it is ended, and a
        third ends it wherever it is. Other signals
        never count as a second one: torchrun, interrupted again while it waits for its ranks, sends
        them SIGTERM and waits another 30 s.
        """
        signal.signal(signal.SIGINT, self._interrupt)

    def _raise(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = signal.Signals(number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._interrupted is None:
            self._interrupted = now
            self._raise(number, frame)
            if os.environ.get("RANK", "0") == "0":
                with contextlib.suppress(OSError):
                    os.write(2, _SAID)  # logging may be in the midst of a line
        elif "RANK" not in os.environ or now - self._interrupted > SAME_S:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _end_within(LEAVE_S)
            raise KeyboardInterrupt

    @property
    def raised(self) -> bool:
        return self.number is not None

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the flag is raised."""
        end = time.monotonic() + seconds
        while not self.raised and time.monotonic() < end:
            time.sleep(0.1)


def _end_within(seconds: float) -> None:
    """End this process then, whatever it does, unless it has ended before."""
    timer = threading.Timer(seconds, os._exit, (_INTERRUPTED,))
    timer.daemon = True
    timer.start()


flag = StopFlag()  # of this process, as signals are


def ignore() -> None:
    """No signal that a whole job is sent ends this process from now on.

    For reading processes, which must not end before those that they read for.
    """
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
