"""What two threads write in pieces is the tar that tarfile writes, with the checksums of its bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.checksum import crc32
from shard_tools.dataset.index import BLOCK_SIZE
from shard_tools.dataset.tar import TarBuilder, _header

SIZES = st.one_of(st.integers(0, 3000), st.sampled_from([8192, 65535, 65536, 65537, 200_000, 1_000_000]))


def by_tarfile(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o444
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


class Sparing(io.BytesIO):
    """Takes less than it is given, as a file without a buffer may."""

    def write(self, data):
        return super().write(memoryview(data)[:50_000])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(SIZES, max_size=12))
def test_it_is_what_tarfile_writes(sizes):
    members = [(f"id/{n}.wav", bytes([n]) * size) for n, size in enumerate(sizes)]
    file = Sparing()
    with TarBuilder(file) as tar:
        offsets = [tar.add(name, data) for name, data in members]
        tar.finish()
    written = file.getvalue()
    assert written == by_tarfile(members)
    assert tar.size == len(written)
    assert tar.sha256 == hashlib.sha256(written).hexdigest()
    blocks = range(0, len(written), BLOCK_SIZE)
    assert tar.block_crc32.tolist() == [zlib.crc32(written[at : at + BLOCK_SIZE]) for at in blocks]
    for offset, (_, data) in zip(offsets, members, strict=True):
        assert written[offset : offset + len(data)] == data


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150),
    st.one_of(st.integers(0, 10**12), st.sampled_from([2**33 - 1, 2**33])),
)
def test_headers_are_those_of_tarfile(name, size):
    expected = tarfile.TarInfo(name)
    expected.size, expected.mode = size, 0o444
    assert _header(name, size) == expected.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def test_what_writing_raises_is_raised_by_add():
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    def fill(tar):
        for _ in range(20):
            tar.add("x", bytes(100_000))
        tar.finish()

    with TarBuilder(Full()) as tar, pytest.raises(OSError, match="No space left"):
        fill(tar)


def test_one_checksum_is_the_other():
    assert crc32(b"abc", 5) == zlib.crc32(b"abc", 5)


class Waiting:
    """Writes nothing before it is told to."""

    def __init__(self) -> None:
        self.go, self.written = threading.Event(), 0

    def write(self, data):
        self.go.wait(60)
        self.written += len(data)
        return len(data)

    def flush(self):
        pass


class StoppedError(Exception):
    pass


def raise_stopped():
    raise StoppedError


def add(tar: TarBuilder, members: int) -> None:
    for number in range(members):
        tar.add(f"{number}", bytes(100_000))


@pytest.mark.slow
def test_who_waits_for_what_is_not_written_can_be_stopped():
    file = Waiting()
    with pytest.raises(StoppedError), TarBuilder(file, meanwhile=raise_stopped, stop=file.go.set) as tar:
        add(tar, 9)
    assert file.written <= 512  # the header that it was at, and nothing of what was waiting


def test_what_waits_is_dropped_when_an_exception_ends_it():
    file = Waiting()

    def fail(tar):
        add(tar, 2)
        raise StoppedError

    with pytest.raises(StoppedError), TarBuilder(file, stop=file.go.set) as tar:
        fail(tar)
    assert file.written <= 512
