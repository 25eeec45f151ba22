"""What lies in a cache's folder, and which shards give way when room is needed.

Only for the process that holds the folder's lock.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass

from shard_tools.cache.locks import EXCLUSIVE, LockFile

NAME = re.compile(r"(?P<sha256>[0-9a-f]{64})(?:\.(?P<kind>shard|wanted)|-(?P<size>\d+)\.part)")


@dataclass(frozen=True)
class Contents:
    """What a look into the folder finds."""

    shards: list[tuple[int, str, int]]  # last use in ns, path, bytes
    wanted: set[str]  # SHA-256s that a living process has announced
    arriving: int  # bytes reserved by downloads
    arrived: int  # bytes of them that are on the disk


def look(folder: str) -> Contents:
    """What lies in the folder, after removing downloads and marks of processes that have died."""
    shards: list[tuple[int, str, int]] = []
    wanted = set()
    arriving = arrived = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if match is None:
                continue
            if match["kind"] == "shard":
                status = entry.stat()
                shards.append((status.st_atime_ns, entry.path, status.st_size))
                continue
            file = open_if_there(entry.path, os.O_RDWR)
            if file is None:
                continue
            with contextlib.closing(file):
                if file.lock(EXCLUSIVE):
                    os.unlink(entry.path)
                elif match["kind"] == "wanted":
                    wanted.add(match["sha256"])
                else:
                    size = os.fstat(file.fd).st_size
                    arriving += max(int(match["size"]), size)
                    arrived += size
    return Contents(shards, wanted, arriving, arrived)


def choose(contents: Contents, needed: int, ahead: bool) -> tuple[list[tuple[LockFile, int]], int]:
    """Shards to remove, locked, with their bytes; and the bytes of those that are held.

    Least recently used first; those that a process has announced come last, or not at all.
    """
    chosen: list[tuple[LockFile, int]] = []
    held = 0
    announced = []
    for entry in sorted(contents.shards):
        if needed <= 0:
            return chosen, held
        if os.path.basename(entry[1]).removesuffix(".shard") in contents.wanted:
            announced.append(entry)
            continue
        file = open_if_there(entry[1], os.O_RDWR)
        if file is None:
            continue
        if file.lock(EXCLUSIVE):
            chosen.append((file, entry[2]))
            needed -= entry[2]
        else:
            file.close()
            held += entry[2]
    for _, path, size in announced:
        file = None if ahead or needed <= 0 else open_if_there(path, os.O_RDWR)
        if file is not None and file.lock(EXCLUSIVE):
            chosen.append((file, size))
            needed -= size
        else:
            held += size
    return chosen, held


def open_if_there(path: str, flags: int) -> LockFile | None:
    try:
        return LockFile(path, flags)
    except FileNotFoundError:
        return None


def unlink(chosen: list[tuple[LockFile, int]]) -> int:
    for file, _ in chosen:
        os.unlink(file.path)
        file.close()
    return sum(size for _, size in chosen)
