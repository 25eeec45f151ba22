"""Files that should hold audio: opening them, and nothing that only looks like one.

A named pipe would wait for ever for a writer, and a device has no end.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from shard_tools.audio.info import LARGEST_FILE, AudioError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_regular(path: str, name: str) -> bool:
    """Whether there is a file at `path`; False when nothing is there. `name` is for messages.

    Raises AudioError, with `name`, when what is there is no regular file (or a link to one), is
    larger than an utterance can be, or cannot be looked at.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise AudioError(f"{name}: is {kind}, not a file of audio")
    if status.st_size > LARGEST_FILE:
        raise AudioError(f"{name}: {status.st_size} bytes; an utterance has at most {LARGEST_FILE}; cut it")
    return True


def open_regular(path: str, name: str, *, buffering: int = -1) -> BinaryIO:
    """The file at `path`, open for reading; AudioError as `is_regular` raises it, and when there is none."""
    try:
        if is_regular(path, name):
            return open(path, "rb", buffering=buffering)
    except FileNotFoundError:
        pass  # gone since
    except OSError as error:
        raise _unreadable(name, error) from error
    raise AudioError(f"{name}: does not exist")


def _unreadable(name: str, error: Exception) -> AudioError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return AudioError(f"{name}: cannot be read ({reason})")
