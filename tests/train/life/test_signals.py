"""The second Ctrl-C ends a process that a KeyboardInterrupt alone does not end."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

STUBBORN = """
import os, signal, time
from train.life import signals
signals.LEAVE_S = 1.0
signals.flag.listen_to_interrupts()
for _ in range(2):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    except KeyboardInterrupt:
        print("lost", flush=True)
time.sleep(60)
"""


def test_a_keyboard_interrupt_that_is_lost_ends_the_process_all_the_same() -> None:
    own = {name: value for name, value in os.environ.items() if name != "RANK"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN], env=own, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (130, "lost\n")
    assert "again, to leave at once" in done.stderr
    assert time.monotonic() - began < 50
