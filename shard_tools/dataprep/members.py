"""The files in an archive that is not trusted: zip and gzipped tar, and nothing taken that could harm.

Refused are absolute names, names that lead out of the folder, links, devices, encrypted members, names that
come twice, a file where another member needs a folder, and archives that would grow more than a hundred
times (zip bombs): archives of speech have none of these.
"""

from __future__ import annotations

import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from shard_tools.errors import UserError
from shard_tools.text import has_control

_MOST_GROWTH = 100
_GRACE = 64 * 2**20  # what small archives may grow to in any case
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; what file systems and Linux take
_LARGEST_HEADER = 2**20  # of a tar's extended headers, which are read into memory
_DRIVE = re.compile(r"[A-Za-z]:/")
_KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGES = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error)


class HostileError(UserError):
    """An archive that holds what none of speech has."""


class DamagedError(UserError):
    """An archive that cannot be read to its end, or whose checksums are wrong."""


@dataclass(frozen=True)
class Member:
    """A file. name: "a/b/c", safe; crc: CRC-32 of its content, where the archive says; open: its bytes."""

    name: str
    size: int
    crc: int | None
    open: Callable[[], IO[bytes]]


def zip_members(source: BinaryIO, label: str, size: int) -> list[Member]:
    """All files of a zip of `size` bytes, checked together before one is read."""
    with damage_named(label):
        archive = zipfile.ZipFile(source)
    names = Names(label)
    members = []
    for info in archive.infolist():
        what = f"{label}: {info.filename[:200]!r}"
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise HostileError(f"{what} is {_KINDS.get(kind, 'no regular file')}; refused")
        if info.is_dir():
            names.folder(info.orig_filename)
            continue
        if info.flag_bits & 1:
            raise HostileError(f"{what} is encrypted; it cannot be read")
        if info.compress_type not in _KNOWN_PACKING:
            raise DamagedError(f"{what} is packed in a way that is not known ({info.compress_type})")
        name = names.file(info.orig_filename)
        members.append(Member(name, info.file_size, info.CRC, _opener(archive, info)))
    _check_growth(sum(member.size for member in members), size, label)
    return members


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def tar_members(source: BinaryIO, label: str, size: int) -> Iterator[Member]:
    """The files of a gzipped tar of `size` bytes, to be read one after the other as they come."""
    names = Names(label)
    unpacked = _Limited(gzip.GzipFile(fileobj=source), size, label)
    with damage_named(label), tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_CheckedInfo) as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all that it has seen
            what = f"{label}: {info.name[:200]!r}"
            if info.isdir():
                names.folder(info.name)
                continue
            if not info.isreg() or info.issparse():
                raise HostileError(f"{what} is {_tar_kind(info)}; refused")
            name = names.file(info.name)
            content = archive.extractfile(info)
            assert content is not None  # it is a regular file
            yield Member(name, info.size, None, _once(content))
        while unpacked.read(2**20):  # to where gzip's own checksum is
            pass


def _once(content: IO[bytes]) -> Callable[[], IO[bytes]]:
    return lambda: content


class damage_named:
    """A context in which what libraries raise of a damaged archive is a DamagedError that names it."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (*_DAMAGES, NotImplementedError, gzip.BadGzipFile)):
            reason = str(error) or type(error).__name__
            raise DamagedError(f"{self._label}: is damaged or cut short ({reason})") from error


class Names:
    """The names of an archive's members so far; a name is returned in its plain form, or refused."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def folder(self, raw: str) -> None:
        name = self._plain(raw.rstrip("/") or raw, may_be_top=True)
        if name in self._files:
            raise HostileError(f"{self._label}: {raw!r} is a file and a folder; refused")
        self._add_folders(f"{name}/", raw)

    def file(self, raw: str) -> str:
        name = self._plain(raw, may_be_top=False)
        if name in self._files:
            raise HostileError(f"{self._label}: {raw!r} comes twice; refused")
        if name in self._folders:
            raise HostileError(f"{self._label}: {raw!r} is a file and a folder; refused")
        self._add_folders(name, raw)
        self._files.add(name)
        return name

    def _add_folders(self, name: str, raw: str) -> None:
        above = name.rpartition("/")[0]
        while above and above not in self._folders:
            if above in self._files:
                raise HostileError(f"{self._label}: {raw!r} lies in a file; refused")
            self._folders.add(above)
            above = above.rpartition("/")[0]

    def _plain(self, raw: str, *, may_be_top: bool) -> str:
        what = f"{self._label}: {raw[:200]!r}"
        if raw.startswith("/") or _DRIVE.match(raw):
            raise HostileError(f"{what} is an absolute name; refused")
        if "\\" in raw or has_control(raw):
            raise HostileError(f"{what} has a backslash or a control character in its name; refused")
        parts = [part for part in raw.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise HostileError(f"{what} leads out of the folder; refused")
        if not parts and not may_be_top:
            raise HostileError(f"{what} has no name; refused")
        name = "/".join(parts)
        try:
            too_long = len(name.encode()) > _LONGEST_PATH or any(
                len(part.encode()) > _LONGEST_NAME for part in parts
            )
        except UnicodeEncodeError:
            raise HostileError(f"{what} is not a name of text; refused") from None
        if too_long:
            raise HostileError(f"{what} is longer than a name can be; refused")
        return name


class _CheckedInfo(tarfile.TarInfo):
    """A header that must be right: tarfile takes a damaged one for the end, and reads any into memory."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _CheckedInfo:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the blocks of zeros
                raise
            raise EOFError(f"a header in it is wrong: {error}") from error
        if info.type in _EXTENDED and info.size > _LARGEST_HEADER:
            raise EOFError(f"a header in it has {info.size:,} bytes")
        return info


_EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if info.ischr() or info.isblk():
        return "a device"
    if info.isfifo():
        return "a named pipe"
    return "a sparse file" if info.issparse() else "no regular file"


class _Limited(io.RawIOBase):
    """What gzip unpacks, up to what an archive of speech can grow to."""

    def __init__(self, file: gzip.GzipFile, size: int, label: str) -> None:
        self._file = file
        self._size = size
        self._label = label
        self._read = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._read += len(data)
        _check_growth(self._read, self._size, self._label)
        return data


def _check_growth(unpacked: int, size: int, label: str) -> None:
    if unpacked > _GRACE + _MOST_GROWTH * size:
        raise HostileError(
            f"{label}: its {size:,} bytes would become {unpacked:,} and more, as no archive of speech does;"
            " refused"
        )
