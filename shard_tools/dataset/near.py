"""Files that the processes of a node share, in a folder of its own: made by one, for which others wait."""

from __future__ import annotations

import fcntl
import glob
import os
import tempfile
import time
from collections.abc import Callable
from typing import IO

Near = Callable[[], str]

_LOOK_S = 0.05


def made_once(
    folder: str, name: str, make: Callable[[], bytes], is_whole: Callable[[str], bool], patience_s: float
) -> str:
    """The path of the file `name` in `folder`, of the bytes that `make` gives, made unless it is there.

    TimeoutError where another takes longer than patience_s, as when it has been stopped; OSError.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    if is_whole(path):
        return path
    with open(f"{path}.lock", "a") as lock:
        _take(lock, patience_s)
        try:
            if is_whole(path):
                return path
            data = make()
            for left in glob.glob(f"{glob.escape(folder)}/.{name}-*"):  # of a process that was killed
                os.unlink(left)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}-", delete=False) as draft:
                try:
                    draft.write(data)
                    draft.flush()
                    os.replace(draft.name, path)
                except BaseException:
                    os.unlink(draft.name)
                    raise
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file too
    return path


def _take(lock: IO[str], patience_s: float) -> None:
    limit = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > limit:
                raise TimeoutError(f"{lock.name}: another process has kept it") from None
            time.sleep(_LOOK_S)
