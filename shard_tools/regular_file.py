"""Opening a file that should hold audio, and nothing that only looks like one.

A named pipe would wait for ever for a writer, and a device has no end.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from shard_tools.audio_info import LARGEST_FILE, AudioError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str, name: str) -> BinaryIO:
    """The file at `path`, open for reading. `name` is for messages.

    Raises AudioError, with `name`, unless it can be opened and is a regular file (or a link to
    one) that is small enough to be an utterance.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise AudioError(f"{name}: is {kind}, not a file of audio")
        if status.st_size > LARGEST_FILE:
            raise AudioError(
                f"{name}: {status.st_size} bytes; an utterance has at most {LARGEST_FILE}; cut it"
            )
        return open(path, "rb")
    except FileNotFoundError as error:
        raise AudioError(f"{name}: does not exist") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AudioError(f"{name}: cannot be read ({reason})") from error
