"""Walking a tar from header to header, up to the blocks that end it: every member, and where its data lie.

Readers that are made for unpacking (Python's tarfile among them) end quietly at the first header that
they cannot read, and skip what is no plain file. Here offsets are kept and used without the headers, so
what cannot be read to its end is refused, with the offset, and nothing is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from shard_tools.dataset.tar_headers import BLOCK, Header, TarError, parse, pax_records, text

FILE, DIRECTORY = "file", "directory"
SPARSE = "sparse file"

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,  # "contiguous", which only ever was a wish about the disk
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"5": DIRECTORY,
    b"6": "FIFO",
    b"D": DIRECTORY,  # of an incremental GNU tar: its data are a list of names
    b"S": SPARSE,
    b"V": "volume label",
}
_WITHOUT_DATA = frozenset(b"123456V")
_LARGEST_EXTENSION = 1 << 20  # bytes of a long name or a pax header: far more than any file system's paths
_CHUNK = 1 << 20
_IF_WHOLE = "make it or fetch it again, or, if you know that it is whole, append 1,024 zero bytes"
# What a compressed file begins with, in bytes that no name has, or at a place where chance does not put it.
_COMPRESSED = [
    (0, b"\x1f\x8b\x08", "gzip"),
    (4, b"1AY&SY", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar: `size` bytes of data at `offset`, as they are only when `kind` is FILE.

    header: offset of its own header block; link: where a link points.
    """

    name: str
    kind: str
    header: int
    offset: int
    size: int
    link: str = ""


def members(path: str) -> Iterator[Member]:
    """All members of the tar at `path`, in order; directories, links and devices among them.

    Raises TarError, after the members that come before, unless the file is whole: every header sound, all
    data there, two zero blocks after the last member, and nothing but zeros after them.
    """
    try:
        with open(path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            if end == 0:
                raise TarError(0, "the file is empty, not even the end of a tar is there")
            yield from _walk(file, end)
    except OSError as error:
        raise TarError(0, f"cannot be read ({error.strerror or error})") from error


def _walk(file: BinaryIO, end: int) -> Iterator[Member]:
    at = 0
    shared: dict[str, str] = {}  # pax records for all that follow
    own: dict[str, str] = {}  # for the next member alone
    extended_at: int | None = None
    while at < end:
        block = _block(file, at)
        if not any(block):
            if extended_at is not None:
                raise TarError(extended_at, "cut short: a long name or pax header, and no member to it")
            _check_end(file, at, end)
            return
        header = parse(block, at)
        if header.type in (b"L", b"K", b"x", b"X", b"g"):
            data = _extension(file, header, at, end)
            if header.type == b"g":
                shared |= pax_records(data, at)
            else:
                keyword = {b"L": "path", b"K": "linkpath"}.get(header.type)
                own |= {keyword: text(data)} if keyword else pax_records(data, at)
                extended_at = at if extended_at is None else extended_at
            at = _next(at + BLOCK, header.size)
            continue
        member, at = _member(file, header, {**shared, **own}, at, end)
        own, extended_at = {}, None
        yield member
    raise TarError(
        min(at, end),
        "the two zero blocks that end a tar are missing: it may have been cut between two members",
        _IF_WHOLE,
    )


def _block(file: BinaryIO, at: int) -> bytes:
    """The header block at `at`."""
    block = _read(file, at, BLOCK)
    if at == 0:
        for place, magic, name in _COMPRESSED:
            if block.startswith(magic, place):
                raise TarError(0, f"compressed ({name}) inside, and cannot be read in part", "unpack it")
    if len(block) < BLOCK:
        raise TarError(at, f"cut short: {len(block)} bytes of a header, of {BLOCK}")
    return block


def _extension(file: BinaryIO, header: Header, at: int, end: int) -> bytes:
    _check_room(header.name, header.size, at + BLOCK, at, end)
    if header.size > _LARGEST_EXTENSION:
        raise TarError(at, f"a damaged header: a name or pax header of {header.size} bytes")
    return _read(file, at + BLOCK, header.size)


def _member(file: BinaryIO, header: Header, pax: Mapping[str, str], at: int, end: int) -> tuple[Member, int]:
    """The member whose own header is at `at`, and where the next one's begins."""
    name = pax.get("GNU.sparse.name") or pax.get("path") or header.name
    kind = _KINDS.get(header.type, f"member of type {header.type!r}")
    if header.type == b"\0" and name.endswith("/"):  # V7 had no type for directories
        kind = DIRECTORY
    elif kind == FILE and any(
        keyword.startswith(("GNU.sparse.", "SCHILY.realsize", "SUN.holesdata")) for keyword in pax
    ):
        kind = SPARSE
    elif header.type == b"M":
        raise TarError(
            at, f"{shown(name)} goes on from another volume of a tar in several; join them and pack anew"
        )
    size = header.size
    if pax.get("size"):  # what a POSIX header's own field cannot say
        if not (pax["size"].isascii() and pax["size"].isdigit() and len(pax["size"]) < 20):
            raise TarError(at, f"a damaged pax header: the size of {shown(name)} is {pax['size'][:40]!r}")
        size = int(pax["size"])
    if size and (header.type[0] in _WITHOUT_DATA or (kind == DIRECTORY and header.type != b"D")):
        raise TarError(
            at, f"{shown(name)} is a {kind} with {size} bytes of data, which readers of tars skip or not"
        )
    offset = at + BLOCK
    more = header.sparse_more
    while more:  # the map of a sparse file, in blocks of their own
        block = _read(file, offset, BLOCK)
        more = block[504:505] not in (b"", b"\0", b"0")
        offset += BLOCK
    _check_room(name, size, offset, at, end)
    link = (pax.get("linkpath") or header.link) if kind.endswith("link") else ""
    return Member(name, kind, at, offset, size, link), _next(offset, size)


def _check_room(name: str, size: int, offset: int, at: int, end: int) -> None:
    if offset + size > end:
        raise TarError(
            at, f"cut short: {shown(name)} has {size} bytes from byte {offset}, the file ends at byte {end}"
        )


def _check_end(file: BinaryIO, at: int, end: int) -> None:
    """Raise TarError unless zeros, two blocks of them at least, fill the file from its zero block at `at`."""
    for position in range(at, end, _CHUNK):
        chunk = _read(file, position, min(_CHUNK, end - position))
        rest = chunk.lstrip(b"\0")
        if rest:
            other = position + len(chunk) - len(rest)
            raise TarError(
                at,
                f"the tar ends here, but the file goes on, with other bytes from byte {other} to {end}, which"
                " readers of tars leave out",
                "unpack tars that were joined and make one of them, or cut off what does not belong to it",
            )
    if end - at < 2 * BLOCK:
        raise TarError(
            at, f"cut short: {end - at} zero bytes end the tar, of {2 * BLOCK} at least", _IF_WHOLE
        )


def _next(offset: int, size: int) -> int:
    return offset + size + -size % BLOCK


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, offset)


def shown(name: str) -> str:
    """A member's name fit for a line of a message: as it is, or with escapes where it has odd characters."""
    name = name if len(name) <= 300 else name[:299] + "…"
    return name if name.isprintable() else ascii(name)
