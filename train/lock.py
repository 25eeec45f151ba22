"""One job at a time in a run folder: a lock that names its owner, and that outlives no owner.

The file says who holds the folder, and is written anew every few seconds. A lock is stale, and
taken over, when its process is gone from this host, when it is an earlier attempt of the same job,
or when it stands still for several beats as seen from here, so that no two clocks are compared. An
owner who finds another's name in the file has been taken for dead, and ends before it does harm.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from shard_tools import storage
from shard_tools.errors import UserError

logger = logging.getLogger("train")

NAME = "lock"
BEAT_S = 10.0
STILL_S = 4 * BEAT_S  # so long without a beat is dead


@dataclass(frozen=True)
class Owner:
    """Who holds a run folder.

    job: what torchrun's --rdzv-id says, the same in every attempt of a job; process_start: the
    kernel's, so that a process number that came round again is not taken for the owner.
    """

    token: str
    job: str | None
    host: str
    pid: int
    process_start: str
    since: float  # seconds since 1970

    @classmethod
    def this(cls) -> Owner:
        pid = os.getpid()
        return cls(uuid.uuid4().hex, _job(), socket.gethostname(), pid, _process_start(pid), time.time())

    def describe(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{job}process {self.pid} on {self.host}, since {since}"


@contextmanager
def hold(folder: str, beat: float = BEAT_S, still: float = STILL_S) -> Iterator[None]:
    """Hold the lock of `folder` (a path). Raises UserError naming the owner while another one lives.

    beat: seconds between two signs of life; still: seconds without one after which an owner on
    another host counts as dead.
    """
    path = Path(folder, NAME)
    owner = Owner.this()
    with _one_at_a_time(folder, 2 * still):
        _take(path, owner, still)
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(path, owner, beat, done), name="lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        found = _read(path)
        if found is not None and found[0] == owner:
            path.unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(folder: str, patience: float) -> Iterator[None]:
    """Keep those that come at the same time from taking one stale lock over from each other.

    By the kernel's lock on the folder, where the file system has such. Elsewhere the
    last to come wins, and the others notice at their next beat.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # _take says what is wrong
        yield
        return
    try:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, owner: Owner, still: float) -> None:
    while not _create(path, owner):
        found = _read(path)
        if found is None:  # it was given back meanwhile
            continue
        holder, content = found
        stale = None if holder is None else _why_stale(holder, owner)
        if stale is None and not (holder and holder.host == owner.host and holder.process_start):
            logger.info("%s is held by %s: waiting for a sign of life", path, _describe(holder))
            if _stands_still(path, content, still):
                stale = "it gives no sign of life"
        if stale is None:
            if _read(path) is None:
                continue
            raise UserError(
                f"{path.parent} is in use by another run ({_describe(holder)}): "
                "stop that one, or give another run.folder"
            )
        logger.warning("taking %s over from %s: %s", path, _describe(holder), stale)
        _remove(path, content)


def _job() -> str | None:
    """torchrun's --rdzv-id, unless it is the one that stands for none, or made up for this start alone."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    with contextlib.suppress(ValueError):
        uuid.UUID(name)
        return None
    return None if name == "none" else name


def _why_stale(holder: Owner, owner: Owner) -> str | None:
    if holder.job is not None and holder.job == owner.job:
        return "an earlier attempt of this job"
    if holder.host == owner.host and _process_start(holder.pid) != holder.process_start:
        return "its process is gone"
    return None


def _describe(holder: Owner | None) -> str:
    return "somebody whose name was not written" if holder is None else holder.describe()


def _create(path: Path, owner: Owner) -> bool:
    """Whether the lock could be made, whole and under its name in one act."""
    draft = path.with_name(f".{NAME}.{owner.token}")
    try:
        draft.write_text(_text(owner, 0))
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(
            f"run.folder {path.parent} cannot be written ({error.strerror}): free it or give another"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return True


def _remove(path: Path, content: str) -> None:
    """Remove a stale lock, unless another process was quicker and holds the folder by now."""
    aside = path.with_name(f".{NAME}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_text() != content:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _keep(path: Path, owner: Owner, beat: float, done: threading.Event) -> None:
    beats = 0
    while not done.wait(beat):
        try:
            found = _read(path)
        except OSError as error:  # a file system that is away for a while
            logger.warning("%s cannot be read (%s)", path, error.strerror)
            continue
        if found is not None and found[0] != owner:
            logger.error(
                "%s is held by %s by now, who took this run for dead: ending, before two write to one folder",
                path, _describe(found[0]),
            )  # fmt: skip
            os.kill(os.getpid(), signal.SIGKILL)
        beats += 1
        with contextlib.suppress(OSError, UserError):  # a full disk ends no run for want of a beat
            if found is None:
                _create(path, owner)
            else:
                storage.publish_bytes(str(path), _text(owner, beats).encode())


def _stands_still(path: Path, content: str, still: float) -> bool:
    end = time.monotonic() + still
    while time.monotonic() < end:
        time.sleep(min(0.2, still / 10))
        found = _read(path)
        if found is None or found[1] != content:
            return False
    return True


def _text(owner: Owner, beats: int) -> str:
    return json.dumps({**asdict(owner), "beats": beats}) + "\n"


def _read(path: Path) -> tuple[Owner | None, str] | None:
    """The owner (None where the text makes no sense) and the text; None where there is no lock."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(text)
        fields.pop("beats")
        return Owner(**fields), text
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, text


def _process_start(pid: int) -> str:
    """When the process started, in the kernel's ticks; "" where there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if stat[0] == "Z" else stat[19]
