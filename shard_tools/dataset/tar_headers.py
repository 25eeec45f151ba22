"""What a 512-byte header block of a tar says, be it POSIX ustar, GNU or V7; and the records of pax headers.

Nothing is guessed: a field that is no number, a negative size or a wrong sum refuses the block, since a
reader that goes on from there takes audio for headers. Follows POSIX.1-2017, pax, "ustar Interchange
Format" and "pax Header Block", and tar(5) of libarchive for what GNU tar and star do besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from shard_tools.errors import UserError

BLOCK: Final = 512
_NUMBER = re.compile(rb" *([0-7]+)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=]+)=")


class TarError(UserError):
    """What keeps a tar from being read to its end. The text begins with the offset: "byte 1024: …"."""

    def __init__(self, at: int, text: str, remedy: str = "make the tar or fetch it again") -> None:
        super().__init__(f"byte {at}: {text}; {remedy}")

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return UserError, (str(self),)


@dataclass(frozen=True, slots=True)
class Header:
    """type: the type flag, one byte; size: bytes of data that follow; link: where a link points;
    sparse_more: whether a GNU sparse header goes on in the next block."""

    name: str
    type: bytes
    size: int
    link: str
    sparse_more: bool


def parse(block: bytes, at: int) -> Header:
    """The header in `block`, the 512 bytes at offset `at`. Raises TarError when it is none, or damaged."""
    stored = _number(block[148:156], "checksum", at)
    body = block[:148] + b" " * 8 + block[156:]
    # Old tars summed the bytes as signed.
    if stored not in (sum(body), sum(body) - 256 * sum(byte > 127 for byte in body)):
        raise TarError(
            at, f"no tar header, or a damaged one (its checksum is {stored}, it says; it is {sum(body)})"
        )
    name = text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := text(block[345:500])):
        name = f"{prefix}/{name}"
    kind = block[156:157]
    return Header(
        name,
        kind,
        _size(block[124:136], at),
        text(block[157:257]),
        kind == b"S" and block[482:483] not in (b"\0", b"0"),
    )


def text(field: bytes) -> str:
    """A field up to its NUL. Bytes that are not UTF-8 become lone surrogates, which no key may have."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def pax_records(data: bytes, at: int) -> dict[str, str]:
    """The "LENGTH KEYWORD=VALUE\\n" records of a pax header that lies at offset `at`."""
    records = {}
    position = 0
    while position < len(data):
        found = _RECORD.match(data, position)
        end = position + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise TarError(at, f"a damaged pax header (in the record at its byte {position})")
        keyword = found[2].decode("utf-8", "surrogateescape")
        records[keyword] = data[found.end() : end - 1].decode("utf-8", "surrogateescape")
        position = end
    return records


def _number(field: bytes, what: str, at: int) -> int:
    found = _NUMBER.fullmatch(field)
    if found is None:
        raise TarError(at, f"no tar header, or a damaged one (its {what} reads {field!r})")
    return int(found[1], 8)


def _size(field: bytes, at: int) -> int:
    if field[0] & 0x80:  # base 256, for what eleven octal digits cannot say
        if field[0] & 0x40:
            raise TarError(at, "a damaged header: its size is negative")
        return int.from_bytes(field, "big") & (1 << 95) - 1
    return _number(field, "size", at) if field.strip(b" \0") else 0
