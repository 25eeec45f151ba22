"""One job at a time in a run folder: a lock that names its owner, and that outlives no owner.

The file says who holds the folder, and is written anew every few seconds. A lock is stale, and
taken over, when its process is gone from this machine, when the scheduler has started its job
again, or when it stands still for several beats as seen from here, so that no two clocks are
compared. Where the owner's process cannot be looked for, as from another container, the beats alone
tell. An owner who finds another's name in the file has been taken for dead, and ends before it
does harm.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NoReturn

from shard_tools import records, storage
from shard_tools.errors import UserError
from shard_tools.records import at_least
from shard_tools.run_records import BEAT_S, LOCK
from shard_tools.threads import joined
from train.life.owner import Owner, is_earlier_attempt, lives

logger = logging.getLogger("train")

STILL_S = 4 * BEAT_S  # so long without a beat is dead


@dataclass(frozen=True)
class _Record(Owner):
    """The file's content."""

    beats: Annotated[int, at_least(0)] = 0

    @property
    def owner(self) -> Owner:
        fields = asdict(self)
        del fields["beats"]
        return Owner(**fields)


@contextmanager
def hold(folder: str, beat: float = BEAT_S, still: float = STILL_S) -> Iterator[None]:
    """Hold the lock of `folder` (a path). Raises UserError naming the owner while another one lives.

    beat: seconds between two signs of life; still: seconds without one after which an owner whose
    process cannot be looked for counts as dead.
    """
    path = Path(folder, LOCK)
    owner = Owner.this()
    with _one_at_a_time(folder, 2 * still):
        _take(path, owner, beat, still)
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(path, owner, beat, done), name="lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        joined(keeper)
        with contextlib.suppress(OSError):  # it stands still from now on
            found = _read(path)
            if found is not None and _is(found[0], owner):
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


def _take(path: Path, owner: Owner, beat: float, still: float) -> None:
    while not _create(path, _text(owner, 0)):
        try:
            found = _read(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}), and may be another run's: mend that, or give "
                "another run.folder"
            ) from None
        if found is None:  # it was given back meanwhile
            continue
        holder, content = found
        alive = lives(holder)
        if is_earlier_attempt(holder, owner):
            stale = "an earlier attempt of this job"
        elif alive:
            raise _in_use(path, holder)
        elif alive is not None:
            stale = "its process is gone"
        else:
            logger.info("%s is held by %s: waiting for a sign of life", path, _describe(holder))
            if not _stands_still(path, content, _patience(holder, owner, beat, still)):
                found = _read(path)
                if found is None:
                    continue
                raise _in_use(path, found[0])
            stale = "it gives no sign of life"
        logger.warning("taking %s over from %s: %s", path, _describe(holder), stale)
        _remove(path, content)


def _patience(holder: Owner | None, owner: Owner, beat: float, still: float) -> float:
    """Seconds to wait for a sign of life: fewer where this very job was started again by hand."""
    same_job = holder is not None and holder.job is not None and holder.job == owner.job
    return min(2 * beat, still) if same_job else still


def _in_use(path: Path, holder: Owner | None) -> UserError:
    return UserError(
        f"{path.parent} is in use by another run ({_describe(holder)}): "
        "stop that one, or give another run.folder"
    )


def _is(found: Owner | None, owner: Owner) -> bool:
    return found is not None and found.token == owner.token


def _describe(holder: Owner | None) -> str:
    return "somebody whose name was not written" if holder is None else holder.describe()


def _create(path: Path, text: str) -> bool:
    """Whether the lock could be made. It is empty for a moment: hard links, which would spare that, are rare.

    Raises UserError where the folder cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise _cannot_write(path, error) from None
    return True


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"run.folder {path.parent} cannot be written ({error.strerror}): free it or give another"
    )


def _remove(path: Path, content: bytes) -> None:
    """Remove a stale lock, unless another process was quicker and holds the folder by now."""
    aside = path.with_name(f".{LOCK}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_write(path, error) from None
    found = aside.read_bytes()
    if found != content:
        _create(path, found.decode(errors="replace"))
    aside.unlink()


def _keep(path: Path, owner: Owner, beat: float, done: threading.Event) -> None:
    beats = 0
    nonsense = False  # whether the last look found no owner's name: one may just be being written
    while not done.wait(beat):
        try:
            found = _read(path)
        except OSError as error:  # a file system that is away for a while
            logger.warning("%s cannot be read (%s)", path, error.strerror)
            continue
        if found is not None and found[0] is None and not nonsense:
            nonsense = True
            continue
        nonsense = False
        if found is not None and found[0] is not None and not _is(found[0], owner):
            _end_at_once(path, found[0])
        beats += 1
        _beat(path, _text(owner, beats), there=found is not None)


def _beat(path: Path, text: str, *, there: bool) -> None:
    """A sign of life; a full disk, which ends no run, leaves that of the time of the file."""
    with contextlib.suppress(OSError, UserError):
        if not there:
            _create(path, text)
            return
        try:
            storage.publish_bytes(str(path), text.encode())
        except UserError:
            os.utime(path)


def _end_at_once(path: Path, holder: Owner) -> NoReturn:
    """Process 1 of a container does not die of a signal of its own: it leaves."""
    logger.error(
        "%s is held by %s by now, who took this run for dead: ending, before two write to one folder",
        path, holder.describe(),
    )  # fmt: skip
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)


def _stands_still(path: Path, content: bytes, still: float) -> bool:
    def changed() -> bool:
        found = _read(path)
        return found is None or found[1] != content

    written = _written(path)
    end = time.monotonic() + still
    while time.monotonic() < end:
        time.sleep(min(0.2, still / 10))
        if changed() or _written(path) != written:
            return False
    return True


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _text(owner: Owner, beats: int) -> str:
    return json.dumps({**asdict(owner), "beats": beats}) + "\n"


def _read(path: Path) -> tuple[Owner | None, bytes] | None:
    """The owner (None where the text makes no sense) and the text; None where there is no lock."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return records.decode(data, _Record, str(path), "remove it").owner, data
    except records.RecordError:
        return None, data
