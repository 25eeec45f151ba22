"""Large files: their MD5, publishing them, whether the disk has room for them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from shard_tools.errors import UserError

CHUNK = 2**20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def draft_of(path: Path) -> Path:
    """Where file or folder `path` is made: beside it, hidden, so that no pattern takes it for a part."""
    return path.with_name(f".{path.name}.part")


def md5_of(path: Path, *, report: Callable[[int], object] = lambda amount: None) -> str:
    """Of the file, in hexadecimal; report: told the bytes read. UserError where it cannot be read."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                report(len(chunk))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def publish(draft: Path, path: Path) -> None:
    """Give a finished file or folder its name, so that it lasts through a power cut."""
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file, or the names in the folder, are on the disk, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(path: Path) -> None:
    """With those above it. UserError where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: this folder cannot be made ({error.strerror})") from error


def require_space(folder: Path, needed: int, what: str) -> None:
    """UserError where the disk of `folder` has not `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {what} needs {gigabytes(needed)}, and {gigabytes(free)} are free; free"
            f" {gigabytes(needed - free)}, or use another disk"
        )


def disk_error(path: Path, error: OSError) -> UserError:
    """What to say of an error while writing `path`."""
    if error.errno in NO_SPACE:
        return UserError(
            f"{path}: {error.strerror}, the disk is full; free some space and run the same command again:"
            " it goes on from here"
        )
    return UserError(f"{path}: cannot be written ({error.strerror})")


def gigabytes(size: float) -> str:
    """ "1.23 GB", "4.5 MB", "678 bytes"."""
    if size >= 1e9:
        return f"{size / 1e9:,.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size:,.0f} bytes"
