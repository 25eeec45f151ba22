"""Kaldi's archives of vectors and matrices, binary, with their scp: what its tools read as ark and scp.

An entry is `KEY `, `\\0B`, then `FV ` and a length or `FM ` and rows and columns, each number as the byte 4
and a little-endian int32, then the little-endian values, row by row; `DV ` and `DM ` hold float64. A line of
an scp is `KEY FILE:OFFSET`, the offset that of `\\0B`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from shard_tools.arrays import Float32Array
from shard_tools.errors import UserError

_KINDS = {b"FV ": (1, "<f4"), b"FM ": (2, "<f4"), b"DV ": (1, "<f8"), b"DM ": (2, "<f8")}
_SCRIPT_LINE = 'each line is "KEY FILE:OFFSET"'


def encode_ark(names: Sequence[str], vectors: Float32Array, ark: str) -> tuple[bytes, str]:
    """The archive, and its scp in which it is called `ark`.

    vectors: float32 (utterances, vectors, D); of one each, they are Kaldi's vectors, otherwise matrices.
    Raises UserError for names that hold blanks.
    """
    archive, script = bytearray(), []
    for name, rows in zip(names, vectors.astype("<f4", copy=False), strict=True):
        if name.split() != [name]:
            raise UserError(
                f"{ark}: the name {name!r} holds blanks, which a Kaldi archive cannot; write .npz"
            )
        archive += name.encode() + b" "
        script.append(f"{name} {ark}:{len(archive)}\n")
        if len(rows) == 1:
            archive += b"\0BFV \4" + struct.pack("<i", rows.shape[1])
        else:
            archive += (
                b"\0BFM \4" + struct.pack("<i", rows.shape[0]) + b"\4" + struct.pack("<i", rows.shape[1])
            )
        archive += rows.tobytes()
    return bytes(archive), "".join(script)


def decode_ark(data: bytes, url: str) -> Iterator[tuple[str, Float32Array]]:
    """Key and value of each entry: float32 (rows, D), a vector as one row. Raises UserError."""
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 4096)
        if blank < 0 or data[blank + 1 : blank + 3] != b"\0B":
            raise UserError(f"{url}: byte {at} begins no entry of a binary Kaldi archive; embed again")
        key = data[at:blank].decode(errors="replace")
        value, at = entry_at(data, blank + 1, url, key)
        yield key, value


def entry_at(data: bytes, at: int, url: str, key: str) -> tuple[Float32Array, int]:
    """The value whose `\\0B` is at byte `at`, and where it ends."""
    kind = _KINDS.get(data[at + 2 : at + 5])
    if data[at : at + 2] != b"\0B" or kind is None:
        raise UserError(
            f"{url}: {key}: neither a vector nor a matrix of floats, binary and uncompressed, at byte {at}"
        )
    dimensions, form = kind
    at += 5
    shape: list[int] = []
    for _ in range(dimensions):
        if len(data) < at + 5 or data[at] != 4:
            raise UserError(f"{url}: {key}: cut short or damaged at byte {at}; embed again")
        shape.append(struct.unpack_from("<i", data, at + 1)[0])
        at += 5
    count = int(np.prod(shape, dtype=np.int64))
    end = at + count * int(form[-1])
    if min(shape) < 1 or end > len(data):
        raise UserError(f"{url}: {key}: cut short or damaged at byte {at}; embed again")
    values = np.frombuffer(data, form, count, at).astype(np.float32)
    return values.reshape((1, *shape)[-2:]), end


def decode_scp(data: bytes, url: str) -> list[tuple[str, str, int]]:
    """Key, file and offset of each line. Raises UserError, naming the line, for what is none."""
    found = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        key, _, where = line.strip().partition(" ")
        file, _, offset = where.strip().rpartition(":")
        if not (key and file and offset.isdecimal()):
            raise UserError(f"{url}, line {number}: {_SCRIPT_LINE}, found {line[:120]!r}")
        found.append((key, file, int(offset)))
    return found
