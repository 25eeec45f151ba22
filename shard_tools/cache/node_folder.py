"""Where on this node copies may lie without anybody having said so: a folder of the user's own."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

from shard_tools.cache.shard import CacheError

_IN_MEMORY = ("tmpfs", "ramfs")
_MOUNTS = Path("/proc/self/mountinfo")


def usual_folder() -> str:
    """`voxshard-UID` in the node's temporary directory: $SLURM_TMPDIR, else $TMPDIR, else /tmp."""
    place = os.environ.get("SLURM_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    return os.path.join(os.path.abspath(place), f"voxshard-{os.getuid()}")


def make_own(folder: str) -> None:
    """Make the folder, for this user alone, where others may make files beside it.

    Raises CacheError where it cannot be made, or is one that others could write to.
    """
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError as error:
        raise CacheError(f"{folder}: cannot be made ({error.strerror})") from error
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(f"{folder}: is not a folder of this user's, or one that others may write to")


def in_memory(folder: str) -> bool:
    """Whether the folder, which need not be there, would lie in memory (tmpfs), as far as is known."""
    path = os.path.realpath(folder)
    kind, longest = "", -1
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split()[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of several at one place the last is seen
            kind, longest = after.split()[0], len(point)
    return kind in _IN_MEMORY
