"""What a run says, and what it does not."""

from __future__ import annotations

import shutil
import threading

import pytest

from train.life import log


def fails(error: Exception) -> threading.Thread:
    def run() -> None:
        raise error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return thread


def test_threads_that_write_into_a_folder_that_is_gone_end_without_a_traceback(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: heard.append(failure.exc_value))
    monkeypatch.setattr(log, "_began", True)
    folder = tmp_path / "run"
    folder.mkdir()
    run_log = log.RunLog(str(folder), 0, 1)
    there, gone, other = FileNotFoundError(2, "there"), FileNotFoundError(2, "gone"), ValueError("a fault")
    fails(there)
    shutil.rmtree(folder)
    fails(gone)
    fails(other)
    run_log.close()
    # Of these threads alone: one of an earlier run's TensorBoard may end now.
    assert [error for error in heard if error in (there, gone, other)] == [there, other]
