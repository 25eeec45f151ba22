"""Workers start as forks where nobody could be in the midst of something, else clean; either way alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import wait_until
from project import REPO

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys, threading
from shard_tools import workers

def task(number, report):
    report(number)
    handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    return os.getppid(), "marker" in sys.modules, handled

if __name__ == "__main__":
    sys.modules["marker"] = sys  # what a fork has and a clean process has not
    signal.signal(signal.SIGTERM, lambda *_: None)
    if sys.argv[1] == "threads":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if sys.argv[1] == "bar":
        from tqdm import tqdm
        bar = tqdm(total=1)
    seen = []
    for number, (parent, marked, handled) in workers.run(task, range(6), workers=2, progress=seen.append):
        assert parent == os.getpid() and not handled
        assert marked == (sys.argv[1] != "threads"), (number, marked)
    assert sum(seen) == 15
    print("right")
"""


@pytest.mark.parametrize("beside", ["nothing", "bar", "threads"])
def test_processes(beside: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", beside],
        env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "right\n", done.stderr


SILENT = """
import os, sys, tempfile, threading, time
from pathlib import Path
from shard_tools import workers
from shard_tools.threads import interruptibly

def task(number, report):
    if sys.argv[2] == "used" and number == 0:
        return
    folder = tempfile.mkdtemp(dir=sys.argv[1], prefix=f"task{number}-")
    try:
        interruptibly(threading.Event().wait)  # as for a store that is silent
    finally:
        time.sleep(0.7)  # several looks of who tells it to stop
        os.rmdir(folder)

if __name__ == "__main__":
    try:
        for _ in workers.run(task, range(9), workers=2, progress=lambda _: None):
            threading.Event().wait()
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("result", ["awaited", "used"])
def test_an_interrupt_reaches_workers_that_do_not_report_and_they_tidy_up(
    tmp_path: Path, result: str
) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "folder"
    program.write_text(SILENT)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, program, folder, result],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: len(list(folder.iterdir())) == 2, 60, "two tasks")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == (None, b"")
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, list(folder.iterdir())) == (130, [])
