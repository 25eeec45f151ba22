"""Arrays in a .npz without compression: the same arrays give the same bytes, and can be mapped."""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools.checksum import crc32
from shard_tools.errors import UserError

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's member: bytes of its name, of its extra field


def write_members(members: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file: without pickle and without clock times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def members_of(data: bytes | mmap.mmap, dtypes: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The arrays, of one dimension, as views of `data`, each with the CRC-32 that the file says.

    dtypes: of all that there must be. Raises UserError, and what zipfile and numpy raise for damaged files.
    """
    view = memoryview(data)
    found: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(_Bytes(view)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED or name in found:
                raise UserError(f"{member.filename[:40]!r} is compressed, or there twice")
            begin = member.header_offset
            begin += 30 + sum(_LOCAL_HEADER.unpack(view[begin : begin + 30]))
            body = view[begin : begin + member.file_size]
            if len(body) != member.file_size or crc32(body) != member.CRC:
                raise UserError(f"{name[:40]} is damaged")
            if name in dtypes:
                found[name] = _array(body, np.dtype(dtypes[name]), name)
    missing = [name for name in dtypes if name not in found]
    if missing:
        raise UserError(f"it lacks {missing[0]}")
    return found


def _array(body: memoryview, wanted: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    head = io.BytesIO(bytes(body[:4096]))
    if np.lib.format.read_magic(head) != (1, 0):
        raise UserError(f"{name} is of another .npy version")
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    count = math.prod(shape)
    if dtype != wanted or len(shape) != 1 or len(body) - head.tell() != count * wanted.itemsize:
        raise UserError(f"{name} is {dtype} of shape {str(shape)[:40]}, not {wanted} in one dimension")
    return np.frombuffer(body, wanted, count, head.tell())


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
