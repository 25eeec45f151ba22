"""A Ctrl-C that comes when the main thread has just looked for one: the kernel does not end its wait."""

from __future__ import annotations

import signal
import threading


def unnoticed_interrupt(after: float = 0.1) -> None:
    """Interrupt the main thread `after` seconds, by a signal that another thread is given.

    As with one that comes between Python's last look and its wait, all that the main thread can do is look
    again.
    """
    threading.Timer(after, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
