"""Where the frames of a FLAC stream lie, and decoding some of them without the others.

A frame decodes on its own (RFC 9639, section 9). Streams of the usual kind, whose
frames all hold the same number of samples and are numbered from 0, get a table of
their frames; the others are read whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from shard_tools.arrays import Int16Array, Int32Array, Int64Array, UInt32Array
from shard_tools.audio.decoder import DECODER_ERRORS, reason
from shard_tools.audio.info import SAMPLE_RATE, AudioError

HEAD_BYTES = 42  # of `stream_head`

_SYNC = b"\xff\xf8"  # and the bit that says: blocks of one size
_LONGEST_HEADER = 16


@dataclass(frozen=True, eq=False)
class FrameTable:
    """block: samples in each frame but the last; offset: uint32, where each frame begins in the file."""

    block: int
    offset: UInt32Array


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames of one file: bytes [start, end) of it hold `samples` samples, the first of frame `number`."""

    start: int
    end: int
    number: int
    block: int
    samples: int


@dataclass(frozen=True, eq=False)
class FrameTables:
    """The tables of many utterances.

    block: int32 (N,), 0 where there is no table; first: int64 (N,), where a table begins in `offset`;
    offset: uint32, the tables one after the other.
    """

    block: Int32Array
    first: Int64Array
    offset: UInt32Array

    @classmethod
    def of(cls, block: Int32Array, offset: UInt32Array, samples: Int64Array) -> FrameTables:
        """samples: int64 (N,), of each utterance."""
        lengths = table_lengths(block, samples)
        return cls(block, np.cumsum(lengths) - lengths, offset)

    def ranges(
        self,
        utterance: Int64Array,
        start: Int64Array,
        count: Int64Array,
        samples: Int64Array,
        size: Int64Array,
    ) -> tuple[Int64Array, Int64Array]:
        """Bytes [begin, end) of the files that `piece` would read, for many; all of one without a table."""
        block = np.maximum(self.block[utterance].astype(np.int64), 1)
        tabled = self.block[utterance] > 0
        number, stop = start // block, -(-(start + count) // block)
        first = self.first[utterance]
        whole = stop * block >= samples
        offset = np.append(self.offset.astype(np.int64), 0)
        begin = np.where(tabled, offset[np.where(tabled, first + number, -1)], 0)
        end = np.where(tabled & ~whole, offset[np.where(tabled & ~whole, first + stop, -1)], size)
        return begin, end

    def piece(self, u: int, start: int, count: int, *, samples: int, size: int) -> Piece | None:
        """The frames that hold samples [start, start + count) of utterance `u`; None without a table.

        samples, size: of the whole utterance, and of its file in bytes.
        """
        block = int(self.block[u])
        if block == 0:
            return None
        number, end = start // block, -(-(start + count) // block)
        first = int(self.first[u])
        last = end * block >= samples
        return Piece(
            int(self.offset[first + number]),
            size if last else int(self.offset[first + end]),
            number,
            block,
            (samples if last else end * block) - number * block,
        )


def table_lengths(block: Int32Array, samples: Int64Array) -> Int64Array:
    """Frames of utterances (N,) of so many samples; 0 where `block` is 0."""
    return np.where(block > 0, -(-samples // np.maximum(block, 1)), 0)


def find_frames(data: bytes) -> FrameTable | None:
    """The frames of a FLAC file, or None for a stream of an unusual kind.

    A frame is where sync code, frame number and the header's CRC-8 say so; a second place
    that claims to be the same frame makes the stream unusual.
    """
    block, samples = int.from_bytes(data[10:12], "big"), int.from_bytes(data[21:26], "big") & (1 << 36) - 1
    begin = _after_metadata(data)
    if int.from_bytes(data[8:10], "big") != block or block == 0 or begin is None or len(data) >= 1 << 32:
        return None
    count = -(-samples // block)
    rest = samples - (count - 1) * block
    offsets = [begin]
    if frame_header(data, begin) != (0, min(block, samples)):
        return None
    # All headers but the last frame's begin with the same four bytes.
    for place in _find_all(data, data[begin : begin + 4], begin + 4):
        header = frame_header(data, place)
        if header == (len(offsets), block) and len(offsets) < count:
            offsets.append(place)
        elif header is not None and header[0] < count:
            return None
    if len(offsets) == count - 1 and rest < block:
        for place in _find_all(data, _SYNC, offsets[-1] + 4):
            if frame_header(data, place) == (count - 1, rest):
                offsets.append(place)
    if len(offsets) != count:
        return None
    return FrameTable(block, np.array(offsets, np.uint32))


def frame_header(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """(number, samples) of the frame at byte `at`, or None when there is no header of a usual frame."""
    head = bytes(data[at : at + _LONGEST_HEADER])
    if len(head) < 6 or head[:2] != _SYNC or head[3] & 1:
        return None
    code, rate, lead = head[2] >> 4, head[2] & 15, head[4]
    if code == 0 or rate == 15 or 0x80 <= lead < 0xC0 or lead == 0xFF:
        return None
    more = 0 if lead < 0x80 else 7 - (lead ^ 0xFF).bit_length()  # UTF-8, prolonged to 36 bits
    number = lead if lead < 0x80 else lead & (0x3F >> more)
    for byte in head[5 : 5 + more]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end = 5 + more
    if code == 1:
        samples = 192
    elif 2 <= code <= 5:
        samples = 576 << code - 2
    elif code in (6, 7):
        width = code - 5
        samples = int.from_bytes(head[end : end + width], "big") + 1
        end += width
    else:
        samples = 256 << code - 8
    end += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if end >= len(head) or _crc8(head[:end]) != head[end]:
        return None
    return number, samples


def stream_head(block: int, samples: int) -> bytes:
    """What comes before frames to make a FLAC file of them: 16 kHz, mono, 16-bit; HEAD_BYTES bytes."""
    packed = SAMPLE_RATE << 44 | 15 << 36 | samples
    sizes = block.to_bytes(2, "big") * 2 + bytes(6)
    return b"fLaC\x80\x00\x00\x22" + sizes + packed.to_bytes(8, "big") + bytes(16)


def decode_piece(data: bytearray, piece: Piece, start: int, count: int, name: str) -> Int16Array:
    """Samples [start, start + count) of the utterance that `piece` is of; int16 (count,).

    data: HEAD_BYTES bytes for the head, which are overwritten, then the piece's bytes. Raises
    AudioError, with `name`, when they are other frames or damaged.
    """
    header = frame_header(data, HEAD_BYTES)
    samples_of_first = min(piece.block, piece.samples)
    if header != (piece.number, samples_of_first):
        found = "no frame" if header is None else f"frame {header[0]} of {header[1]} samples"
        raise AudioError(
            f"{name}: damaged FLAC: {found} where frame {piece.number} of {samples_of_first} should begin"
        )
    data[:HEAD_BYTES] = stream_head(piece.block, piece.samples)
    skipped = start - piece.number * piece.block
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            # All of it: soundfile seeks after a read, and where the frames' numbers do not begin at 0
            # libsndfile can seek to the very end alone.
            samples: Int16Array = file.read(piece.samples, dtype="int16")
    except DECODER_ERRORS as error:
        raise AudioError(f"{name}: damaged FLAC ({reason(error)})") from error
    if len(samples) != piece.samples:
        raise AudioError(f"{name}: damaged FLAC: ends after {len(samples)} of {piece.samples} samples")
    return samples[skipped : skipped + count]


def _after_metadata(data: bytes) -> int | None:
    place = 4
    while place + 4 <= len(data):
        last = data[place] & 0x80
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
        if last:
            return place if place + 4 <= len(data) else None
    return None


def _find_all(data: bytes, pattern: bytes, start: int) -> Iterator[int]:
    place = data.find(pattern, start)
    while place >= 0:
        yield place
        place = data.find(pattern, place + 1)


def _make_crc8() -> bytes:
    """The polynomial x^8 + x^2 + x + 1."""
    table = bytearray()
    for byte in range(256):
        for _ in range(8):
            byte = byte << 1 ^ (0x107 if byte & 0x80 else 0)
        table.append(byte)
    return bytes(table)


_CRC8 = _make_crc8()


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc
