"""The chunks of a RIFF WAVE file, read strictly: what its header says, and where it contradicts itself.

Every reader of a header that can be read in two ways picks one of them, and not the same. So
nothing is guessed here: audio that lies where the whole header says is taken as it is; where one
number is known to be wrong (a length that a pipe could not write, a block align against all else)
the rest is enough to convert it; anything else is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from shard_tools.audio.info import AudioError, AudioInfo, Window, require_rate

# RIFX is big-endian, RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088) have lengths of 64 bits.
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_PCM, _ADPCM, _FLOAT, _ALAW, _ULAW, _IMA, _GSM, _EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE
_NAMES = {
    _ADPCM: "ADPCM",
    _FLOAT: "FLOAT",
    _ALAW: "ALAW",
    _ULAW: "ULAW",
    _IMA: "IMA_ADPCM",
    _GSM: "GSM610",
}
_BY_SAMPLE = (_PCM, _FLOAT, _ALAW, _ULAW)
_BY_BLOCK = (_ADPCM, _IMA, _GSM)  # whose fmt chunk says how many samples a block holds
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the kind: KSDATAFORMAT_SUBTYPE_…

_MOST_CHUNKS = 4096
_LONGEST_FORM = 1024
# Bytes after the last chunk: some recorders write a few of their own, or fill a sector with zeros.
_MOST_TRAILING = 4096
_LOOKED_AT = 1 << 16
# What writes to a pipe cannot come back to write the length; SoX, arecord, ffmpeg, mpg123 and others put
# numbers near 2**31 or 2**32 there.
_PLACEHOLDERS = (range(0x7F000000, 0x80000100), range(0xFFFF0000, 0x100000000))
_WIDE_PLACEHOLDERS = (0, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Wav:
    """A WAV's header. Bytes [start, start + length) of the file are `frames` frames of audio.

    form: the body of its fmt chunk, with the block align that all else in it says; exact: whether
    `frames` is known, which the decoders of some codecs alone can tell; flaw: why the file cannot
    stay as it is, None when every reader of it must find the same audio.
    """

    big_endian: bool
    form: bytes
    subtype: str
    sample_rate: int
    channels: int
    start: int
    length: int
    frames: int
    exact: bool
    flaw: str | None

    def info(self) -> AudioInfo:
        """pcm_offset is None unless it is little-endian 16-bit PCM without a flaw."""
        as_it_is = self.subtype == "PCM_16" and self.flaw is None
        return AudioInfo(
            self.frames,
            self.sample_rate,
            self.channels,
            self.subtype,
            "wav",
            self.start if as_it_is else None,
        )

    def plain(self, audio: bytes) -> bytes:
        """A WAV of nothing but this format and `audio`, the file's or its beginning."""
        order = ">" if self.big_endian else "<"
        form = struct.pack(f"{order}4sI", b"fmt ", len(self.form)) + self.form + bytes(len(self.form) & 1)
        data = struct.pack(f"{order}4sI", b"data", len(audio)) + audio + bytes(len(audio) & 1)
        magic = b"RIFX" if self.big_endian else b"RIFF"
        return struct.pack(f"{order}4sI", magic, 4 + len(form) + len(data)) + b"WAVE" + form + data


def is_wav(head: bytes) -> bool:
    """Whether a file that begins with `head` (12 bytes) is a WAV."""
    return head[:4] in _MAGIC and head[8:12] == b"WAVE"


def is_placeholder(length: int) -> bool:
    """Whether a header's 32 bits for a length hold what is written where the length cannot be known."""
    return any(length in values for values in _PLACEHOLDERS)


def read_wav(at: Window, size: int, name: str) -> Wav:
    """The header of the WAV of `size` bytes that `at` looks into; what it does not show counts as right.

    Raises AudioError, with `name`, for a header that contradicts itself, holds no audio, or
    says more audio than is there and is not known to have been written without knowing its length.
    """
    magic, riff_size = at(0, 4), at(4, 4)
    order = ">" if magic == b"RIFX" else "<"
    (riff,) = struct.unpack(f"{order}I", riff_size)
    form: bytes | None = None
    wide = None
    position = 12
    for _ in range(_MOST_CHUNKS):
        needed = position + 8
        head = at(position, 8)
        if len(head) < 8:
            break
        tag, length = struct.unpack(f"{order}4sI", head)
        body = position + 8
        if tag == b"fmt ":
            if form is not None:
                raise AudioError(f"{name}: a broken WAV header (a second fmt chunk at byte {position})")
            if not 16 <= length <= _LONGEST_FORM:
                raise AudioError(f"{name}: a broken WAV header (a fmt chunk of {length} bytes)")
            form, needed = at(body, length), body + length
            if len(form) < length:
                break
        elif tag == b"ds64" and magic in (b"RF64", b"BW64") and len(sizes := at(body, 16)) == 16:
            (wide,) = struct.unpack("<Q", sizes[8:])
        elif tag == b"data":
            if form is None:
                raise AudioError(f"{name}: a WAV whose data comes before its format")
            known = _known_length(at, size, name, order, body, length, riff, wide)
            return _described(form, order, name, body, known, size - body, magic)
        position = body + length + (length & 1)
    else:
        raise AudioError(f"{name}: a broken WAV header (no audio within {_MOST_CHUNKS} chunks)")
    if needed > size:
        raise AudioError(f"{name}: truncated: the WAV ends after {size} bytes, before any audio")
    raise AudioError(f"{name}: no audio within the first bytes of the WAV")


def _known_length(
    at: Window, size: int, name: str, order: str, body: int, length: int, riff: int, wide: int | None
) -> int | None:
    """Bytes of audio from byte `body` on, or None where the header was written without knowing it."""
    rest = size - body
    if wide is not None and length == 0xFFFFFFFF:
        length = wide
        unknown = wide in _WIDE_PLACEHOLDERS
    else:
        unknown = is_placeholder(length)
        # A recorder that writes one size into both places.
        unknown = unknown or (length == riff and length in (size, size - 8))
    if length == 0:
        unknown = not _only_chunks(at, size, order, body)
    if unknown and (length > rest or length == 0):
        return None
    if length > rest:
        raise AudioError(f"{name}: truncated: {length} bytes of audio in the WAV header, {rest} in the file")
    _check_after(at, size, name, order, body + length + (length & 1))
    return length


def _only_chunks(at: Window, size: int, order: str, position: int) -> bool:
    """Whether nothing but whole chunks lies between `position` and the file's end."""
    for _ in range(_MOST_CHUNKS):
        if position >= size:
            return True
        head = at(position, 8)
        if len(head) < 8 or not head[:4].isascii() or not head[:4].decode().isprintable():
            return False
        position += 8 + (length := struct.unpack(f"{order}I", head[4:])[0]) + (length & 1)
    return False


def _check_after(at: Window, size: int, name: str, order: str, position: int) -> None:
    """Raise AudioError when more audio comes after the audio: another chunk of it, another WAV, or raw."""
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size or len(head := at(position, 8)) < 8:
            return
        tag = head[:4]
        if tag in (b"data", b"fmt "):
            what = tag.decode().strip()
            raise AudioError(f"{name}: a broken WAV header (a second {what} chunk at byte {position})")
        if tag in _MAGIC and is_wav(at(position, 12)):
            raise AudioError(f"{name}: two WAVs in one file, the second at byte {position}; take them apart")
        (length,) = struct.unpack(f"{order}I", head[4:])
        end = position + 8 + length
        if end > size or not tag.isascii() or not tag.decode().isprintable():
            break
        position = end + (length & 1)
    if size - position > _MOST_TRAILING and any(at(position, _LOOKED_AT)):
        raise AudioError(
            f"{name}: {size - position} bytes that are no chunk follow the audio of its WAV header;"
            " was its recorder killed? mend the header's lengths"
        )


def _described(
    form: bytes,
    order: str,
    name: str,
    start: int,
    length: int | None,
    rest: int,
    magic: bytes,
) -> Wav:
    kind, channels, rate, byte_rate, align, bits = struct.unpack_from(f"{order}HHIIHH", form)
    if kind == _EXTENSIBLE and len(form) >= 40 and form[26:40] == _GUID_TAIL:
        (kind,) = struct.unpack_from(f"{order}H", form, 24)
    if channels == 0 or align == 0:
        raise AudioError(f"{name}: a broken WAV header ({channels} channels, {align} bytes a frame)")
    require_rate(rate, name)
    flaw = None
    if kind in _BY_SAMPLE:
        width = channels * -(-bits // 8)
        if align != width:
            # The byte rate decides, if it takes the side of channels and bits.
            wrong = f"channels: {channels}, bits: {bits}, block align: {align}, bytes a second: {byte_rate}"
            if width == 0 or byte_rate != rate * width:
                raise AudioError(f"{name}: a WAV header that contradicts itself ({wrong})")
            flaw = f"a WAV header that contradicts itself ({wrong})"
            align = width
            form = form[:12] + struct.pack(f"{order}H", width) + form[14:]
    if length is None:
        flaw = "the WAV header gives no length (written to a pipe, or never closed?)"
        length = rest
    elif order == ">" or magic != b"RIFF":
        flaw = flaw or f"a WAV of the kind {magic.decode()}, not RIFF"
    frames = length // align
    exact = kind in _BY_SAMPLE
    if kind in _BY_BLOCK and len(form) >= 20:
        exact = True
        (in_block,) = struct.unpack_from(f"{order}H", form, 18)
        frames *= in_block
    if (frames if exact else length) == 0:
        raise AudioError(f"{name}: a WAV header without any audio")
    if kind == _PCM:
        subtype = f"PCM_{bits}"
    else:
        subtype = _NAMES.get(kind, f"WAV format {kind}")
    return Wav(order == ">", form, subtype, rate, channels, start, length, frames, exact, flaw)
