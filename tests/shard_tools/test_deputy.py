"""A process that reads for this one: the same bytes and errors, whatever becomes of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from interrupts import unnoticed_interrupt
from project import REPO

from shard_tools import deputy, storage
from shard_tools.storage import MissingError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """URLs of two files, which a fork is to read."""
    monkeypatch.setattr(storage, "forks_are_faster", lambda url: True)
    monkeypatch.setattr(deputy, "may_fork", lambda: True)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    yield [str(tmp_path / name) for name in ("a", "b")]
    deputy._end()


def here(*_):
    raise AssertionError("read in this process")


def test_it_reads_and_stays(files, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_many", lambda urls: [b"%d" % os.getpid()])
        [first] = deputy.read_many(files)
        [second] = deputy.read_many(files)
    assert int(first) == int(second) == deputy._deputy._process.pid != os.getpid()
    assert deputy.read_many([]) == []


def test_its_answers_are_those_of_storage(files, monkeypatch):
    deputy.read_many(files)
    monkeypatch.setattr(storage, "read_many", here)
    assert deputy.read_many(files) == [b"a", b"b"]
    with pytest.raises(MissingError, match="none: does not exist"):
        deputy.read_many([*files, f"{os.path.dirname(files[0])}/none"])
    assert deputy.read_many(files[1:]) == [b"b"]


def test_where_it_was_killed_another_reads(files, monkeypatch):
    deputy.read_many(files)
    first = deputy._deputy._process
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    monkeypatch.setattr(storage, "read_many", lambda urls: [b"%d" % os.getpid()])
    assert deputy.read_many(files) == [b"%d" % deputy._deputy._process.pid]


def test_signals_to_a_whole_job_do_not_end_it(files):
    deputy.read_many(files)
    first = deputy._deputy._process
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(first.pid, number)
    assert deputy.read_many(files) == [b"a", b"b"]
    assert deputy._deputy._process is first


def test_it_ends_with_the_interpreter(files):
    program = f"""
from shard_tools import deputy, storage
storage.forks_are_faster = lambda url: True
print(deputy.read_many([{files[0]!r}]), deputy._deputy._process.pid)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, timeout=60, check=True
    )
    read, pid = done.stdout.split()
    assert read == "[b'a']"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_it_ends_with_a_process_that_multiprocessing_has_started(files):
    process = multiprocessing.get_context("fork").Process(target=deputy.read_many, args=(files,))
    process.start()
    try:
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def test_an_interrupt_leaves_no_answer_to_the_next(files, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_many", lambda urls: time.sleep(60))
        unnoticed_interrupt(0.3)
        with pytest.raises(KeyboardInterrupt):
            deputy.read_many(files)
    assert deputy.read_many(files) == [b"a", b"b"]


def test_a_defect_is_met_here(files, monkeypatch):
    monkeypatch.setattr(storage, "read_many", here)
    with pytest.raises(AssertionError, match="read in this process"):
        deputy.read_many(files)


def test_what_this_process_may_read_as_fast_it_reads(files, monkeypatch):
    monkeypatch.setattr(storage, "forks_are_faster", lambda url: False)
    assert deputy.read_many(files) == [b"a", b"b"]
    assert deputy._deputy is None
