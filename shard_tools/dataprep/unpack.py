"""An archive's files to a folder that is there only when it is whole; an interrupted unpacking goes on."""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shard_tools.dataprep.archive_places import Place
from shard_tools.dataprep.files import CHUNK, disk_error, draft_of, make_folder, require_space, sync
from shard_tools.dataprep.members import (
    DamagedError,
    HostileError,
    Member,
    ZipMembers,
    damage_named,
    tar_members,
)
from shard_tools.dataprep.progress import Progress
from shard_tools.errors import UserError

_BLOCK = 4096  # what a file takes on a disk is a multiple of this


def unpack(source: BinaryIO, label: str, size: int, save_path: Path, place: Place, progress: Progress) -> int:
    """Unpack the archive `source` (`size` bytes, called `label`) to its place; how many files it has.

    Files are written below a hidden folder beside it, which gets its name at the end. Of a zip, files that
    an earlier run has written are kept; a gzipped tar is unpacked from its beginning. A folder that is
    there already must hold exactly the archive's files. Raises HostileError, DamagedError, UserError.
    """
    target = save_path / place.folder
    make_folder(target.parent)
    if label.endswith(".zip"):
        zipped = ZipMembers(source, label, size, place)
        progress.expect(zipped.total)
        members: Iterable[Member] = zipped
    else:
        members = _counted(tar_members(source, label, size, place), source, progress)
        progress.expect(size)
    if target.exists() and any(target.iterdir()):
        return _compare(members, label, target, progress)
    draft = draft_of(target)
    with _locked(draft):
        try:
            count = _write(members, label, size, draft, progress)
        except HostileError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        if not count:
            raise DamagedError(f"{label}: holds no files")
        os.sync()  # once for all files: each by itself would take a day
        os.rename(draft, target)
        sync(target.parent)
    return count


def _write(members: Iterable[Member], label: str, size: int, draft: Path, progress: Progress) -> int:
    whole = isinstance(members, ZipMembers)
    needed = sum(map(_on_disk, members.sizes())) if isinstance(members, ZipMembers) else size
    earlier = dict(_files_below(draft))
    require_space(draft, needed - sum(map(_on_disk, earlier.values())), label)
    count = 0
    for member in members:
        path = draft / member.name
        if earlier.pop(member.name, None) == member.size and _is_same(member, path):
            progress.have(member.size)
        else:
            _write_file(member, label, path, progress if whole else None)
        count += 1
    for name in earlier:  # of another archive of this name
        (draft / name).unlink()
    return count


def _files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """(path relative to `folder`, size) of each file."""
    for above, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            yield os.path.relpath(path, folder), os.lstat(path).st_size


def _write_file(member: Member, label: str, path: Path, progress: Progress | None) -> None:
    """In place: whether a file of an interrupted run is whole, its CRC-32 tells."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", buffering=0) as file:
            for chunk in _chunks(member, label):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                if progress is not None:
                    progress.move(len(chunk))
    except OSError as error:
        raise disk_error(path, error) from error


def _chunks(member: Member, label: str) -> Iterator[bytes]:
    """Its content, of the size that the archive says."""
    size = 0
    with damage_named(label):
        try:
            with member.open() as content:
                while chunk := content.read(CHUNK):
                    size += len(chunk)
                    yield chunk
        except OSError as error:
            reason = error.strerror or error
            raise DamagedError(f"{label}: {member.name}: cannot be read ({reason})") from error
    if size != member.size:
        raise DamagedError(f"{label}: {member.name} has {size:,} bytes, the archive says {member.size:,}")


def _is_same(member: Member, path: Path) -> bool:
    """Whether the file has the size and the CRC-32 that the archive says; a tar says none."""
    if member.crc is None:
        return False
    try:
        if path.stat().st_size != member.size:
            return False
        crc = 0
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
    except OSError:
        return False
    return crc == member.crc


def _compare(members: Iterable[Member], label: str, target: Path, progress: Progress) -> int:
    """How many files the archive has, all of them in `target`; UserError where one is not or differs."""
    count = 0
    for member in members:
        path = target / member.name
        same = _is_same(member, path) if member.crc is not None else _has_content(member, label, path)
        if not same:
            state = "differs from the archive's" if path.exists() else "is missing there"
            raise UserError(
                f"{target}: is there already, and not as {label} has it: {member.name} {state}; move the"
                " folder away, and it is extracted anew"
            )
        progress.have(member.size if member.crc is not None else 0)
        count += 1
    return count


def _has_content(member: Member, label: str, path: Path) -> bool:
    try:
        if path.stat().st_size != member.size:
            return False
        with open(path, "rb") as file:
            return all(file.read(len(chunk)) == chunk for chunk in _chunks(member, label))
    except OSError:
        return False


def _counted(members: Iterator[Member], source: BinaryIO, progress: Progress) -> Iterator[Member]:
    """`members`, with the archive's own bytes as progress: how many will come of them nobody says."""
    seen = 0
    for member in members:
        yield member
        now = source.tell()
        progress.move(now - seen)
        seen = now


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


@contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """`draft` as a folder that this process alone writes."""
    make_folder(draft)
    handle = os.open(draft, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{draft}: another dataprep is extracting to it; wait for that one") from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
