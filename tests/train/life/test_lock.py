"""One run at a time in a folder; no lock outlives its owner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import wait_until

from shard_tools.errors import UserError
from shard_tools.run_records import LOCK
from train.life import lock
from train.life.lock import Owner, hold

QUICK = {"beat": 0.1, "still": 0.6}
HOLDS = (
    "import sys, time; from train.life.lock import hold\n"
    "with hold(sys.argv[1], beat=0.1, still=1): print('in', flush=True); time.sleep(60)"
)


def write(folder: Path, owner: Owner, beats: int = 0) -> None:
    draft = folder / "draft"
    draft.write_text(json.dumps({**asdict(owner), "beats": beats}))
    draft.replace(folder / LOCK)


def said_once_another_holds(folder: Path, process: subprocess.Popen[str]) -> str:
    """What `process` prints and ends with. Written again: a beat that was under way covers a name."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        write(folder, owner(host="elsewhere"))
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)[1]
    raise AssertionError("it did not notice within 30 s that another holds its folder")


def owner(**changed) -> Owner:
    return replace(Owner.this(), token="other", **changed)


def holder_of(folder: Path) -> str:
    return json.loads((folder / LOCK).read_text())["token"]


@pytest.mark.slow
def test_held_while_inside_and_gone_after(tmp_path: Path) -> None:
    with hold(str(tmp_path), **QUICK):
        first = json.loads((tmp_path / LOCK).read_text())
        assert first["pid"] == os.getpid()
        time.sleep(0.4)
        assert json.loads((tmp_path / LOCK).read_text())["beats"] > first["beats"]
    assert os.listdir(tmp_path) == []


def test_a_live_owner_on_this_host_is_named_and_respected(tmp_path: Path) -> None:
    write(tmp_path, owner(job="417", since=0.0))
    with (
        pytest.raises(
            UserError, match=rf"in use by another run \(job 417, process {os.getpid()} on .*, since 19"
        ),
        hold(str(tmp_path), **QUICK),
    ):
        pass
    assert holder_of(tmp_path) == "other"


def test_an_owner_whose_process_is_gone_is_succeeded_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    process.wait()
    write(tmp_path, owner(pid=process.pid, process_start=start))
    before = time.monotonic()
    with hold(str(tmp_path), beat=0.1, still=60):
        assert holder_of(tmp_path) != "other"
    assert time.monotonic() - before < 30


def test_a_process_number_that_came_round_again_is_not_the_owner(tmp_path: Path) -> None:
    write(tmp_path, owner(process_start="1"))
    with hold(str(tmp_path), **QUICK):
        assert holder_of(tmp_path) != "other"


@pytest.mark.parametrize("attempt", ["417.1", None])
def test_an_earlier_attempt_of_the_same_job_is_succeeded_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: str | None
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "417")
    monkeypatch.setenv("VOXSHARD_ATTEMPT", "417.2")
    write(tmp_path, owner(host="elsewhere", attempt=attempt))
    with hold(str(tmp_path), beat=0.1, still=600):
        assert holder_of(tmp_path) != "other"


def test_the_same_job_name_alone_ends_no_run_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "417")
    write(tmp_path, owner())
    with pytest.raises(UserError, match="in use by another run"), hold(str(tmp_path), **QUICK):
        pass
    assert holder_of(tmp_path) == "other"


@pytest.mark.slow
def test_an_owner_elsewhere_that_gives_no_sign_of_life_is_succeeded(tmp_path: Path) -> None:
    write(tmp_path, owner(host="elsewhere"))
    with hold(str(tmp_path), **QUICK):
        assert holder_of(tmp_path) != "other"


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"host": "elsewhere"},
        {"namespace": "pid:[1]", "process_start": "1"},  # another container with this one's host name
        {"machine": "of another boot", "process_start": "1"},
        {"machine": "", "namespace": "", "process_start": ""},  # no /proc
    ],
)
def test_an_owner_elsewhere_whose_beats_go_on_is_respected(tmp_path: Path, other: dict[str, str]) -> None:
    holder = owner(**other)
    done = threading.Event()

    def beat() -> None:
        beats = 0
        while not done.wait(0.05):
            beats += 1
            write(tmp_path, holder, beats)

    write(tmp_path, holder)
    keeper = threading.Thread(target=beat)
    keeper.start()
    try:
        with pytest.raises(UserError, match="in use by another run"), hold(str(tmp_path), beat=0.1, still=5):
            pass
    finally:
        done.set()
        keeper.join()


def test_a_beat_is_also_seen_by_the_time_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise UserError("no space left on the disk")

    with hold(str(tmp_path), **QUICK):
        monkeypatch.setattr(lock.storage, "publish_bytes", full)
        monkeypatch.setattr(lock, "lives", lambda _: None)
        with pytest.raises(UserError, match="in use by another run"), hold(str(tmp_path), beat=0.1, still=5):
            pass


NONSENSE = [
    b"", b"\xff\xfe", b"null", b"[]", b"[" * 100000, b'{"token": 1}', b'{"token": "x"', b"NaN",
    json.dumps({**asdict(Owner.this()), "beats": None}).encode(),
    json.dumps({**asdict(Owner.this()), "since": 1e300, "beats": 1}).encode(),
    json.dumps({**asdict(Owner.this()), "pid": "7", "beats": 1}).encode(),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("content", NONSENSE)
def test_a_lock_that_makes_no_sense_and_stands_still_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with hold(str(tmp_path), beat=0.1, still=0.2):
        assert holder_of(tmp_path)


def test_a_lock_that_makes_no_sense_ends_no_run(tmp_path: Path) -> None:
    with hold(str(tmp_path), **QUICK):
        own = holder_of(tmp_path)
        (tmp_path / LOCK).write_text("{")
        wait_until(lambda: (tmp_path / LOCK).read_text() != "{", 20, "the next beat")
        assert holder_of(tmp_path) == own


def test_a_lock_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match="lock cannot be read"), hold(str(tmp_path), **QUICK):
        pass


def test_no_hard_links_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write(tmp_path, owner(process_start="1"))
    with hold(str(tmp_path), **QUICK):
        assert holder_of(tmp_path) != "other"
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of process numbers needs root")
def test_process_1_of_a_container_is_respected_and_can_end_itself(tmp_path: Path) -> None:
    inside = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", HOLDS]
    command = [*inside, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        if first.stdout.readline() != "in\n":
            pytest.skip(first.communicate()[1])
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == 1
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "in use by another run (process 1 on" in second.stderr
        assert first.poll() is None
        said = said_once_another_holds(tmp_path, first)
    assert "took this run for dead" in said
    assert first.returncode != 0


@pytest.mark.slow
def test_whoever_finds_anothers_name_ends_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        said = said_once_another_holds(tmp_path, process)
    assert process.returncode == -signal.SIGKILL
    assert "took this run for dead" in said
    assert holder_of(tmp_path) == "other"


@pytest.mark.slow
def test_of_many_that_come_at_once_to_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    write(tmp_path, owner(process_start="1"))
    got, refused = [], []
    barrier = threading.Barrier(6)

    def come() -> None:
        barrier.wait()
        try:
            with hold(str(tmp_path), beat=0.1, still=5):
                got.append(1)
                time.sleep(1.0)
        except UserError:
            refused.append(1)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 5)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match=r"file cannot be written"), hold(str(path), **QUICK):
        pass


@pytest.mark.slow
def test_a_file_system_that_is_away_for_a_while_stops_no_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failures = lock._read, []

    def away(path: Path):
        if len(failures) < 3:
            failures.append(1)
            raise OSError(5, "Input/output error")
        return read(path)

    with hold(str(tmp_path), **QUICK):
        monkeypatch.setattr(lock, "_read", away)
        time.sleep(1.0)
        assert json.loads((tmp_path / LOCK).read_text())["beats"] > 0
    assert failures
