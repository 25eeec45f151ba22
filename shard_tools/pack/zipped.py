"""Members of a ZIP archive, read where they lie.

The table at the archive's end is read once; who reads a member is told its place, and opens no table of a
million entries anew.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from shard_tools.audio import AudioError
from shard_tools.audio.info import LARGEST_FILE
from shard_tools.errors import UserError
from shard_tools.pack.member_file import MemberFile
from shard_tools.storage.errors import explain

# Folders of corpora that are no speakers.
_OUTER = frozenset({"dev", "test", "train", "eval", "aac", "wav", "flac", "m4a", "audio", "data", "clips"})
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, length of the name and of what is beside it
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's header lies, and what the archive's table says of it. size, packed: in bytes."""

    header: int
    packed: int
    size: int
    crc32: int
    method: int
    encrypted: bool


def is_zip(path: str) -> bool:
    """Whether `path` is a ZIP archive, be it whole or begun."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def members(archive: str) -> dict[str, Member]:
    """The files of an archive by their paths; hidden ones are passed over.

    Raises UserError for one whose table cannot be read, and for names that lead out of it or come twice.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise UserError(
            f"{archive}: not a whole ZIP archive ({error}); was it downloaded and joined to its end?"
        ) from error
    except OSError as error:
        raise UserError(explain(error, archive)) from error
    found: dict[str, Member] = {}
    for entry in entries:
        names = entry.filename.split("/")
        if entry.filename.endswith("/") or any(
            name.startswith(".") and name not in (".", "..") for name in names
        ):
            continue
        names = [name for name in names if name != "."]
        if "" in names or ".." in names:
            raise UserError(f"{archive}: its member {entry.filename!r} leads out of it; repack it")
        path = "/".join(names)
        if path in found:
            raise UserError(f"{archive}: two members are called {path}; repack it")
        found[path] = Member(
            entry.header_offset,
            entry.compress_size,
            entry.file_size,
            entry.CRC,
            entry.compress_type,
            bool(entry.flag_bits & _ENCRYPTED),
        )
    return found


def outer_folder(paths: Iterable[str]) -> str:
    """The folders, as "dev/aac", that all paths begin with and that are no speakers' names; "" for none."""
    common: list[str] | None = None
    for path in paths:
        folders = path.split("/")[:-1]
        common = folders if common is None else _shared(common, folders)
    outer = []
    for name in common or []:
        if name.lower() not in _OUTER:
            break
        outer.append(name)
    return "/".join(outer)


def _shared(left: list[str], right: list[str]) -> list[str]:
    """The beginning that both have."""
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return left[:count]


@contextlib.contextmanager
def open_member(archive: BinaryIO, member: Member | None, name: str) -> Iterator[BinaryIO]:
    """A member as a file. What is stored is read where it lies, what is deflated is unpacked into memory.

    The whole of it is checked against its CRC-32 when it is read from its beginning to its end at once.
    Raises AudioError, with `name`, when there is no such member, or it is damaged, encrypted or packed by
    other methods.
    """
    if member is None:
        raise AudioError(f"{name}: does not exist")
    if member.encrypted:
        raise AudioError(f"{name}: is encrypted; unpack the archive")
    if member.size > LARGEST_FILE:
        raise AudioError(f"{name}: {member.size} bytes; an utterance has at most {LARGEST_FILE}; cut it")
    archive.seek(member.header)
    header = archive.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise AudioError(f"{name}: the archive is damaged: no member begins at byte {member.header}")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = member.header + _LOCAL_HEADER.size + name_length + extra_length
    if member.method == zipfile.ZIP_STORED:
        check = partial(_require_intact, member=member, name=name)
        yield cast(BinaryIO, MemberFile(archive, start, member.size, check))
    elif member.method == zipfile.ZIP_DEFLATED:
        archive.seek(start)
        yield io.BytesIO(_inflated(archive.read(member.packed), member, name))
    else:
        raise AudioError(
            f"{name}: is packed by method {member.method}, not stored or deflated; unpack the archive"
        )


def _inflated(packed: bytes, member: Member, name: str) -> bytes:
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflating.decompress(packed, member.size + 1)
    except zlib.error as error:
        raise AudioError(f"{name}: damaged in the archive ({error})") from error
    _require_intact(data, member, name)
    return data


def _require_intact(data: bytes, member: Member, name: str) -> None:
    if len(data) != member.size or zlib.crc32(data) != member.crc32:
        raise AudioError(f"{name}: damaged in the archive: it has not the length or the CRC-32 of its table")
