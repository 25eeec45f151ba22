"""A loader's batches come in order or say why not, and its processes end with it, however it is left."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import pytest
import torch
from processes import REPO, alive, descendants, environment, wait_until

from shard_tools.errors import UserError
from shard_tools.storage.errors import StorageError
from train.data import loader as module
from train.data.loader import NoBatchError, open_loader
from train.life.failure import RankError, kind_of
from train.life.signals import StopFlag

ROWS = 5


def nothing():
    pass


class Stream:
    """Batches that hold their step; at step `at` happens `what` before."""

    most_bytes = 4096
    remote = False

    def __init__(self, at=None, what=nothing):
        self.at, self.what = at, what

    def plan_for_all(self, step):
        pass

    def made(self, steps):
        for step in steps:
            if step == self.at:
                self.what()
            yield {"step": step, "audio": torch.full((ROWS,), float(step)), "pid": os.getpid()}


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """No signal has come to this process; looks are frequent."""
    monkeypatch.setattr(module, "flag", StopFlag())
    monkeypatch.setattr(module, "_POLL_S", 0.02)


def ends(before):
    wait_until(lambda: set(descendants(os.getpid())) <= before, 20, "the end of the reading processes")


@pytest.fixture
def before():
    return set(descendants(os.getpid()))


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "prefetch"), [(0, 1), (0, 4), (1, 1), (1, 4), (3, 1), (3, 4), (9, 4)])
def test_batches_come_in_order_and_are_the_holders_own(workers, prefetch, before):
    last = 23 if workers < 9 else 8
    with open_loader(Stream(), 3, last, workers=workers, prefetch=prefetch) as batches:
        found = list(batches)
        assert list(batches) == []
    assert [batch["step"] for batch in found] == list(range(3, last))
    for batch in found:
        assert torch.equal(batch["audio"], torch.full((ROWS,), float(batch["step"])))
    assert len({batch["pid"] for batch in found}) == max(min(workers, last - 3), 1)
    ends(before)


@pytest.mark.slow
def test_processes_that_start_clean_give_the_same(before):
    with open_loader(Stream(), 3, 13, workers=2, prefetch=2, start_method="forkserver") as batches:
        found = list(batches)
    assert [batch["step"] for batch in found] == list(range(3, 13))
    for batch in found:
        assert torch.equal(batch["audio"], torch.full((ROWS,), float(batch["step"])))
    assert len({batch["pid"] for batch in found}) == 2
    with open_loader(Stream(), 0, 100, workers=1, prefetch=2, start_method="forkserver") as batches:
        reading = {next(batches)["pid"]}
    wait_until(lambda: not alive(list(reading)), 20, "the end of the reading processes")


def somewhere_else():
    if os.environ.get("VOXSHARD_TESTS_HERE") != "yes":
        raise UserError("not the environment of now")
    if not Path("here").exists():
        raise UserError(f"not the folder of now: {os.getcwd()}")


@pytest.mark.slow
def test_processes_that_start_clean_have_the_environment_and_folder_of_now(monkeypatch, tmp_path):
    ensure_running()  # what it was started with must not matter, nor what it was told by tests before
    monkeypatch.setenv("VOXSHARD_TESTS_HERE", "yes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").touch()
    for method in ("forkserver", "spawn"):
        with open_loader(
            Stream(0, somewhere_else), 0, 1, workers=1, prefetch=1, start_method=method
        ) as batches:
            assert len(list(batches)) == 1


def test_no_steps_are_no_batches():
    with open_loader(Stream(), 4, 4, workers=2, prefetch=2) as batches:
        assert list(batches) == []


def test_leaving_by_break_or_by_an_error_ends_the_processes(before):
    with open_loader(Stream(), 0, 100, workers=2, prefetch=2) as batches:
        for _ in batches:
            break
    ends(before)
    with (
        pytest.raises(ZeroDivisionError),
        open_loader(Stream(), 0, 100, workers=2, prefetch=2) as batches,
    ):
        raise ZeroDivisionError
    ends(before)
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.slow
def test_a_loader_that_is_forgotten_ends(before):
    batches = open_loader(Stream(), 0, 100, workers=2, prefetch=2)
    next(batches)
    assert set(descendants(os.getpid())) - before
    del batches
    gc.collect()
    ends(before)


FORGETFUL = """
import signal, sys, weakref
weakref.finalize(sys.modules["__main__"], print)  # registers weakref's own end before multiprocessing's
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from tests.train.data.test_loader import Stream
from train.data.loader import open_loader
batches = open_loader(Stream(), 0, 1000, workers=2, prefetch=2)
print(next(batches)["step"], flush=True)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", ["sys.exit(3)", pytest.param("raise RuntimeError", marks=pytest.mark.exhaustive)]
)
def test_an_interpreter_that_ends_in_mid_stream_ends(end, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FORGETFUL.format(end=end))
    paths = os.pathsep.join(map(str, (REPO, REPO / "tests/helpers")))
    process = subprocess.run(
        [sys.executable, str(script)],
        env=environment() | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stdout.startswith("0\n"), process.stderr
    assert process.returncode == {"sys.exit(3)": 3, "raise RuntimeError": 1}[end]


def overloaded():
    raise StorageError("s3://bucket/shard: gave up after 8 tries") from TimeoutError("read timed out")


def mistaken():
    raise UserError("shard: pack again")


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("what", "kind"), [(overloaded, "crash"), (mistaken, "mistake")])
def test_an_error_comes_at_its_step_and_keeps_whether_it_may_pass(workers, what, kind, before):
    batches = open_loader(Stream(7, what), 0, 20, workers=workers, prefetch=3)
    assert [next(batches)["step"] for _ in range(7)] == list(range(7))
    with pytest.raises(RankError, match=r"gave up after|pack again") as caught:
        next(batches)
    assert kind_of(caught.value) == kind
    ends(before)


@pytest.mark.slow
def test_a_defect_keeps_its_traceback():
    with (
        pytest.raises(RuntimeError, match=r"(?s)a defect in a reading process.*what\(\).*ZeroDivisionError"),
        open_loader(Stream(2, lambda: 1 / 0), 0, 9, workers=2, prefetch=2) as batches,
    ):
        list(batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "/x"),
            r"files open, and needs more \(/x\): raise the limit",
        ),
        (MemoryError("Unable to allocate 9 GiB"), r"no more memory \(Unable to allocate 9 GiB\): lower data"),
    ],
)
def test_a_want_of_files_or_memory_in_a_process_is_named(error, words):
    def fail():
        raise error

    with (
        pytest.raises(RankError, match=words),
        open_loader(Stream(0, fail), 0, 9, workers=1, prefetch=2) as batches,
    ):
        next(batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "by SIGKILL"),
        (lambda: os._exit(3), "with exit status 3"),
    ],
)
def test_a_process_that_dies_is_named_and_may_be_tried_again(end, how, before):
    with (
        open_loader(Stream(4, end), 0, 20, workers=2, prefetch=2) as batches,
        pytest.raises(RankError, match=f"a reading process ended {how}") as caught,
    ):
        list(batches)
    assert caught.value.passing
    ends(before)


@pytest.mark.slow
def test_a_slow_store_is_waited_for_and_said(monkeypatch, caplog):
    monkeypatch.setattr(module, "TELL_S", 0.1)
    with open_loader(Stream(3, lambda: time.sleep(1)), 0, 6, workers=2, prefetch=2) as batches:
        assert [batch["step"] for batch in batches] == list(range(6))
    assert any("the batch of step 3 has not come for" in record.message for record in caplog.records)
    assert any("reading process" in record.message for record in caplog.records)


@pytest.mark.slow
def test_after_a_signal_a_batch_that_does_not_come_is_not_waited_for(monkeypatch, before):
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    with open_loader(Stream(3, lambda: time.sleep(600)), 0, 6, workers=2, prefetch=2) as batches:
        assert [next(batches)["step"] for _ in range(3)] == [0, 1, 2]
        module.flag.number = signal.SIGTERM
        with pytest.raises(NoBatchError, match=r"step 3 has not come .* after SIGTERM: reading process"):
            next(batches)
    ends(before)


@pytest.mark.slow
def test_a_process_that_hangs_for_good_is_given_up(monkeypatch, before):
    monkeypatch.setattr(module, "HANGS_S", 0.2)
    monkeypatch.setattr(module, "_longest_request_s", lambda: 0.1)
    stopped = Stream(3, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    with (
        open_loader(stopped, 0, 6, workers=2, prefetch=2) as batches,
        pytest.raises(NoBatchError, match=r"step 3 .* is stopped by a signal") as caught,
    ):
        list(batches)
    assert caught.value.passing
    ends(before)


@pytest.mark.slow
def test_a_forked_child_does_not_end_the_processes_of_its_parent(before):
    with open_loader(Stream(), 0, 20, workers=2, prefetch=2) as batches:
        next(batches)
        child = os.fork()
        if child == 0:
            batches.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert alive([pid for pid in descendants(os.getpid()) if pid not in before])
        assert [batch["step"] for batch in batches] == list(range(1, 20))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="mounting needs root")
def test_neither_a_small_dev_shm_nor_few_open_files_lose_a_batch():
    code = (
        "from tests.train.data.test_loader import Stream; from train.data.loader import open_loader\n"
        "Stream.most_bytes = 1 << 20\n"
        "with open_loader(Stream(), 0, 200, workers=4, prefetch=4) as batches: print(len(list(batches)))"
    )
    mount = "mount -t tmpfs -o size=4k none /dev/shm && ulimit -n 40 && exec"
    process = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount} "$0" -c "$1"', sys.executable, code],
        cwd=REPO,
        env=environment() | {"PYTHONPATH": os.pathsep.join(map(str, (REPO, REPO / "tests/helpers")))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "unshare" in process.stderr or "mount:" in process.stderr:
        pytest.skip(process.stderr.strip())
    assert process.stdout == "200\n", process.stderr
