"""What the numbers of a shard's index must be to each other, whatever the shard holds.

Checksums say that an index is the one that was written, not that it was written right, and a manifest can be
made for any index. All checks are on whole columns, so that a million utterances take tens of milliseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.audio.flac_frames import HEAD_BYTES, table_lengths
from shard_tools.dataset.index_columns import FLAC, WAV, ShardIndex

TAR_BLOCK = 512
WAV_HEADER = 44  # bytes of the shortest header of 16-bit PCM
_FLAC_BLOCKS = 16, 65535  # samples, RFC 9639

Ints = Int64Array


def problem_of(index: ShardIndex) -> str | None:
    """The first thing in an index that cannot be, in words; None where there is none."""
    rows = len(index.label)
    per_row = {
        name: len(getattr(index, name))
        for name in (
            "key_ends",
            "turn",
            "total",
            "next_shard",
            "frames",
            "codec",
            "offset",
            "size",
            "pcm_offset",
        )
    } | {"flac_block": len(index.flac_block)}
    for name, length in per_row.items():
        if length != rows:
            return f"its columns differ in length: {rows} labels, {length} of {name}"
    if not rows:
        return "keys, but no utterances" if len(index.key_bytes) else None
    return _keys(index) or _places(index) or _members(index) or _wav(index) or _flac(index)


def has_plain_header(frames: Ints, offset: Ints, size: Ints, pcm_offset: Ints) -> npt.NDArray[np.bool_]:
    """Which WAVs have nothing behind their PCM, so that their numbers confirm each other; (n,) each.

    A shift of any one of them alone would show. Of others only the header can tell.
    """
    same: npt.NDArray[np.bool_] = pcm_offset + 2 * frames == offset + size
    return same


def _keys(index: ShardIndex) -> str | None:
    ends = index.key_ends
    starts = np.concatenate([[0], ends[:-1]])
    if bool(np.any(ends <= starts)) or int(ends[-1]) != len(index.key_bytes):
        return "its keys do not lie one after the other"
    if bool(np.any((index.key_bytes[starts] & 0xC0) == 0x80)):
        return "a key begins in the midst of a character"
    try:
        text = index.key_bytes.tobytes().decode()
    except UnicodeDecodeError:
        return "its keys are not UTF-8"
    return None if text.isprintable() else "a key with characters that cannot be printed"


def _places(index: ShardIndex) -> str | None:
    if bool(np.any(index.label < 0)):
        return _row(index.label < 0, "label", index.label)
    wrong = (index.turn < 0) | (index.turn >= index.total)
    if bool(np.any(wrong)):
        return _row(wrong, "turn", index.turn)
    return _row(index.next_shard < 0, "next_shard", index.next_shard)


def _members(index: ShardIndex) -> str | None:
    """Bounds and order of the audio members in the tar."""
    known = (index.codec == WAV) | (index.codec == FLAC)
    largest = index.shard_size
    for wrong, name in (
        (~known, "codec"),
        (index.frames < 1, "frames"),
        ((index.size < 1) | (index.size > largest), "size"),
        ((index.offset < TAR_BLOCK) | (index.offset % TAR_BLOCK != 0) | (index.offset > largest), "offset"),
    ):
        if bool(np.any(wrong)):
            return _row(wrong, name, getattr(index, name))
    if bool(np.any(index.offset + index.size > largest)):
        return _row(index.offset + index.size > largest, "offset", index.offset)
    order = np.argsort(index.offset, kind="stable")
    begin, end = index.offset[order], (index.offset + index.size)[order]
    overlap = begin[1:] < end[:-1] + TAR_BLOCK  # a header stands between
    if bool(np.any(overlap)):
        row = int(order[1:][overlap][0])
        return f"utterance {row}: its audio at byte {int(index.offset[row])} overlaps another's"
    return None


def _wav(index: ShardIndex) -> str | None:
    wav = index.codec == WAV
    before = index.pcm_offset - index.offset
    wrong = wav & ((before < WAV_HEADER) | (before % 2 != 0) | (before > index.size))
    if bool(np.any(wrong)):
        return _row(wrong, "pcm_offset", index.pcm_offset)
    # Compared without multiplying: any number of frames may be asked about.
    wrong = wav & (index.frames > (index.size - before) // 2)
    if bool(np.any(wrong)):
        return _row(wrong, "frames", index.frames)
    return _row(wav & (index.flac_block != 0), "flac_block", index.flac_block)


def _flac(index: ShardIndex) -> str | None:
    flac = index.codec == FLAC
    if not len(index.flac_offset) and not bool(np.any(flac)):
        return None
    most = np.maximum(1 << 24, 64 * index.size)  # as for the files that are packed
    for wrong, name in (
        (flac & (index.pcm_offset != -1), "pcm_offset"),
        (flac & (index.size < HEAD_BYTES), "size"),
        (flac & (index.frames > most), "frames"),
        (flac & (index.flac_block != 0) & ~_within(index.flac_block, *_FLAC_BLOCKS), "flac_block"),
    ):
        if bool(np.any(wrong)):
            return _row(wrong, name, getattr(index, name))
    lengths = table_lengths(index.flac_block, index.frames)
    if int(lengths.sum()) != len(index.flac_offset):
        return "its FLAC frames do not add up"
    offsets = index.flac_offset.astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    same = owner[1:] == owner[:-1]
    outside = (offsets < HEAD_BYTES) | (offsets >= index.size[owner])
    if bool(np.any(outside)) or bool(np.any(same & (np.diff(offsets) <= 0))):
        return "its FLAC frames lie outside their utterance, or not in order"
    return None


def _within(column: Int32Array, low: int, high: int) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (column >= low) & (column <= high)
    return inside


def _row(wrong: npt.NDArray[np.bool_], name: str, column: npt.NDArray[np.generic]) -> str | None:
    found = np.flatnonzero(wrong)
    return f"utterance {int(found[0])}: {name} is {column[int(found[0])]}" if len(found) else None
