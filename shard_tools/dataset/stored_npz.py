"""Arrays in a .npz without compression: the same arrays give the same bytes, and can be mapped."""

from __future__ import annotations

import io
import math
import mmap
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.checksum import crc32
from shard_tools.errors import UserError

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's member: bytes of its name, of its extra field
# As `write_members` writes it. Numpy's own reader takes a tenth of a millisecond, and a set of a million
# utterances has 20,000 arrays.
_USUAL = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<|][a-z]\d)', 'fortran_order': False,"
    rb" 'shape': \((?:(\d+),)?\), \} *\n",
    re.DOTALL,
)
_LONGEST_HEAD = 1 << 16


def write_members(members: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file: without pickle and without clock times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def bodies(data: bytes | mmap.mmap) -> dict[str, memoryview]:
    """The members' bytes by their names, as views of `data`, each with the CRC-32 that the file says.

    Raises UserError, and what zipfile raises for damaged files.
    """
    view = memoryview(data)
    found: dict[str, memoryview] = {}
    with zipfile.ZipFile(_Bytes(view)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(view):
                raise UserError(f"{member.filename[:40]!r} is compressed")
            if name in found:
                raise UserError(f"{name[:40]} is in it twice")
            begin = member.header_offset
            begin += _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack_from(view, begin))
            body = view[begin : begin + member.file_size]
            if len(body) != member.file_size or crc32(body) != member.CRC:
                raise UserError(f"{name[:40]} has another CRC-32 than the file says")
            found[name] = body
    return found


def array_of(body: memoryview, name: str) -> npt.NDArray[Any]:
    """The array of a member, a view of it. Raises UserError, and what numpy raises for damaged ones."""
    match = _USUAL.match(body)
    if match is not None and match.end() == 10 + int.from_bytes(match[1], "little"):
        dtype, fortran = np.dtype(match[2].decode()), False
        shape: tuple[int, ...] = (int(match[3]),) if match[3] else ()
        begin = match.end()
    else:
        head = io.BytesIO(bytes(body[:_LONGEST_HEAD]))
        if np.lib.format.read_magic(head) != (1, 0):
            raise UserError(f"{name} is of another .npy version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(head)
        begin = head.tell()
    if dtype.hasobject or fortran:
        raise UserError(f"{name} is {dtype} in another order, or of objects")
    if len(body) - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{name} is cut short")
    return (
        np.frombuffer(body, dtype, offset=begin).reshape(shape)
        if len(body) > begin
        else np.empty(shape, dtype)
    )


def members_of(data: bytes | mmap.mmap, dtypes: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """All these arrays, of one dimension, and no others. dtypes: of each. Raises as the two above do."""
    found = bodies(data)
    missing = [name for name in dtypes if name not in found]
    if missing:
        raise UserError(f"it lacks {missing[0]}")
    arrays = {name: array_of(found[name], name) for name in dtypes}
    for name, array in arrays.items():
        if array.dtype != np.dtype(dtypes[name]) or array.ndim != 1:
            raise UserError(f"{name} is {array.dtype} in {array.ndim} dimensions")
    return arrays


class _Bytes(io.RawIOBase):
    """Bytes as a file that is read where they lie."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: len(self._view)}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._place + size
        data = bytes(self._view[self._place : end])
        self._place += len(data)
        return data
