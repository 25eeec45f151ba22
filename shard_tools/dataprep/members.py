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
from functools import partial
from typing import IO, Any, BinaryIO

from shard_tools.dataprep.archive_places import Place
from shard_tools.errors import UserError
from shard_tools.text import has_control

_MOST_GROWTH = 100
_GRACE = 64 * 2**20  # what small archives may grow to in any case
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; what file systems and Linux take
_LARGEST_HEADER = 2**20  # of a tar's extended headers, which are read into memory
_DRIVE = re.compile(r"[A-Za-z]:/")
_KNOWN_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# What the libraries raise of damaged bytes; RuntimeError is what zipfile does not implement, or a password.
_DAMAGES = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, LookupError, ArithmeticError, RuntimeError,
)  # fmt: skip


class HostileError(UserError):
    """An archive that holds what none of speech has."""


class DamagedError(UserError):
    """An archive that cannot be read to its end, or whose checksums are wrong."""


@dataclass(frozen=True)
class Member:
    """A file. name: where it goes, "a/b/c", safe; crc: of its bytes, if the archive says; open: them."""

    name: str
    size: int
    crc: int | None
    open: Callable[[], IO[bytes]]


class ZipMembers:
    """The files of a zip of `size` bytes, all checked before one is read. total: the bytes of all.

    place: where a member goes. Of a million members little more is kept than zipfile itself does.
    """

    def __init__(self, source: BinaryIO, label: str, size: int, place: Place) -> None:
        with damage_named(label):
            self._archive = zipfile.ZipFile(source)
        self._place = place
        names = Names(label, place)
        self._infos = [info for info in self._archive.infolist() if _is_file(info, label, names)]
        self.total = sum(info.file_size for info in self._infos)
        _check_growth(self.total, size, label)

    def sizes(self) -> Iterator[int]:
        return (info.file_size for info in self._infos)

    def __iter__(self) -> Iterator[Member]:
        for info in self._infos:
            name = self._place.path_of(plain(info.filename))
            yield Member(name, info.file_size, info.CRC, partial(self._archive.open, info))


def _is_file(info: zipfile.ZipInfo, label: str, names: Names) -> bool:
    """Whether it is a file, not a folder; HostileError where it is neither, or one that cannot be read."""
    what = f"{label}: {info.filename[:200]!r}"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise HostileError(f"{what} is {_KINDS.get(kind, 'no regular file')}; refused")
    if info.filename.endswith("/"):  # is_dir() of Python before 3.12 falls over an empty name
        names.folder(info.orig_filename)
        return False
    if info.flag_bits & 1:
        raise HostileError(f"{what} is encrypted; it cannot be read")
    if info.compress_type not in _KNOWN_PACKING:
        raise DamagedError(f"{what} is packed in a way that is not known ({info.compress_type})")
    names.file(info.orig_filename)
    return True


def tar_members(source: BinaryIO, label: str, size: int, place: Place) -> Iterator[Member]:
    """The files of a gzipped tar of `size` bytes, to be read one after the other as they come."""
    names = Names(label, place)
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
            yield Member(name, info.size, None, partial(_same, content))
        while unpacked.read(2**20):  # to where gzip's own checksum is
            pass


def _same(content: IO[bytes]) -> IO[bytes]:
    return content


class damage_named:
    """A context in which what libraries raise of a damaged archive is a DamagedError that names it."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _DAMAGES):
            reason = str(error) or type(error).__name__
            raise DamagedError(f"{self._label}: is damaged or cut short ({reason})") from error


class Names:
    """The names of an archive's members so far, checked, and where each goes."""

    def __init__(self, label: str, place: Place) -> None:
        self._label = label
        self._place = place
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def folder(self, raw: str) -> None:
        """HostileError for a folder that cannot be."""
        self._check(raw)
        if self._place.path_of(plain(raw)) in self._files:
            raise HostileError(f"{self._label}: {raw!r} is a file and a folder; refused")

    def file(self, raw: str) -> str:
        """Where the file goes, below the place's folder; HostileError where it must not go there."""
        self._check(raw)
        name = self._place.path_of(plain(raw))
        what = f"{self._label}: {raw!r}"
        if not name:
            raise HostileError(f"{what} has no name; refused")
        if name in self._files:
            raise HostileError(f"{what} comes twice; refused")
        if name in self._folders:
            raise HostileError(f"{what} is a file and a folder; refused")
        above = name.rpartition("/")[0]
        while above and above not in self._folders:
            if above in self._files:
                raise HostileError(f"{what} lies in a file; refused")
            self._folders.add(above)
            above = above.rpartition("/")[0]
        self._files.add(name)
        return name

    def _check(self, raw: str) -> None:
        what = f"{self._label}: {raw[:200]!r}"
        if raw.startswith("/") or _DRIVE.match(raw):
            raise HostileError(f"{what} is an absolute name; refused")
        if "\\" in raw or has_control(raw):
            raise HostileError(f"{what} has a backslash or a control character in its name; refused")
        parts = raw.split("/")
        if ".." in parts:
            raise HostileError(f"{what} leads out of the folder; refused")
        try:
            longest = max(len(part.encode()) for part in parts)
        except UnicodeEncodeError:
            raise HostileError(f"{what} is not a name of text; refused") from None
        if longest > _LONGEST_NAME or len(raw.encode()) > _LONGEST_PATH:
            raise HostileError(f"{what} is longer than a name can be; refused")


def plain(raw: str) -> str:
    """ "./a//b/" as "a/b"."""
    return "/".join(part for part in raw.split("/") if part not in ("", "."))


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
