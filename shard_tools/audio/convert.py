"""Any audio that libsndfile or FFmpeg reads, made into what shards hold: 16 kHz, mono, 16-bit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import soundfile

from shard_tools.arrays import Float64Array, Int16Array
from shard_tools.audio import ffmpeg
from shard_tools.audio.decoder import DECODER_ERRORS, ForwardFile, blocks, reason, require_no_more
from shard_tools.audio.flac_header import AudioMd5, is_flac, read_stream_info
from shard_tools.audio.formats import decode
from shard_tools.audio.info import (
    SAMPLE_RATE,
    AudioError,
    FormatError,
    Window,
    WindowFile,
    bytes_window,
    require_rate,
)
from shard_tools.audio.wav import is_placeholder, is_wav, read_wav

# Float samples have full scale at 1, and what was processed may lie a little above it; what lies twice as
# high has another scale, and cutting it off would leave a square wave. Other codecs know their scale.
HIGHEST_PEAK = 2.0

# By which files are found below a folder; what a list names is decoded whatever its extension.
_PCM = (".wav", ".flac", ".aif", ".aiff", ".au", ".caf", ".sph", ".w64")
_FFMPEG_ONLY = (".m4a", ".mp4", ".aac", ".3gp", ".amr", ".wma", ".webm", ".mkv", ".mka", ".wv", ".ape")
EXTENSIONS = (*_PCM, ".mp3", ".ogg", ".oga", ".opus", *_FFMPEG_ONLY)

_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT
_HEAD_BYTES = 8192  # enough of a WAV for libsndfile to know whether it can decode it
# Where libsndfile found less than a header says: of the file, or of its audio.
_SHORTER = re.compile(
    r"^ *(?:FORM|RIFF|riff|SSND|BODY|data|Data Size) *: (?P<said>\d+) \(should be (?P<found>\d+)\)", re.M
)
_SPHERE_LENGTH = re.compile(rb"^sample_count -i (\d+)", re.M)
_MP3_TABLES = (b"Xing", b"Info", b"VBRI")  # in the first frame, say how many there are; else it is a guess
_MP3_UNREAD = 4096  # a tag at the end


@dataclass(frozen=True)
class Converted:
    """samples: int16 (frames,); clipped: how many of them lay beyond full scale and were cut off at it."""

    samples: Int16Array
    clipped: int


@dataclass(frozen=True)
class _Input:
    """What libsndfile is to decode, and what is known of it.

    frames: how many there must be, what is more being no audio; None when only the decoder knows.
    md5: of the audio, with the bits of a sample.
    """

    data: bytes
    frames: int | None = None
    md5: tuple[bytes, int] | None = None


def require_decoders(names: Iterable[str]) -> None:
    """Raise AudioError, with the first of them, where files of these names need what is not installed."""
    for name in names:
        if name.lower().endswith(_FFMPEG_ONLY):
            ffmpeg.require(name)
            return


def check_convertible(at: Window, size: int, name: str) -> None:
    """Raise AudioError unless the file called `name` is known as audio of a rate that is converted.

    at: shows what lies in the file, which has `size` bytes.
    """
    try:
        if is_wav(at(0, 12)):
            wav = read_wav(at, size, name)
            ForwardFile(wav.plain(at(wav.start, min(wav.length, _HEAD_BYTES)))).close()
        elif is_flac(at(0, 4)):
            read_stream_info(at, size, name)
        else:
            _check_other(at, size, name)
    except DECODER_ERRORS as error:
        raise AudioError(f"{name}: not audio that can be converted ({reason(error)})") from error


def _check_other(at: Window, size: int, name: str) -> None:
    try:
        require_rate(soundfile.info(WindowFile(at, size)).samplerate, name)
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED:
            raise
        ffmpeg.check(at, size, name)


def seconds(at: Window, size: int, name: str) -> float:
    """How long the audio is of a file that `check_convertible` takes.

    As its header says, to a block of its codec; where none says it, as decoding all of it tells. Raises as
    `convert` does.
    """
    length: float | None = None
    if is_wav(at(0, 12)):
        wav = read_wav(at, size, name)
        length = wav.frames / wav.sample_rate if wav.exact and wav.flaw is None else None
    elif is_flac(at(0, 4)):
        stream = read_stream_info(at, size, name)
        length = None if stream.frames is None else stream.frames / stream.sample_rate
    else:
        length = ffmpeg.seconds(at, size)
    if length is not None:
        return length
    return len(convert(at(0, size), name).samples) / SAMPLE_RATE


def fitted(data: bytes, name: str) -> Converted:
    """The audio of `data`: as `decode` gives it where shards can hold it as it is, else as `convert` does."""
    try:
        return Converted(decode(data, name), 0)
    except FormatError:
        return convert(data, name)


def convert(data: bytes, name: str) -> Converted:
    """Decode, average the channels, resample (polyphase), round to 16 bits.

    The same bytes give the same samples. Streams that do not say how long they are are decoded to
    their end. Raises AudioError for what neither libsndfile nor FFmpeg can read, is cut short, holds
    no audio or nothing that is a number, has a rate outside LOWEST_RATE to HIGHEST_RATE, or float
    samples beyond HIGHEST_PEAK.
    """
    try:
        mono, rate, scaled_to_1 = _decoded(data, name)
    except DECODER_ERRORS as error:
        raise AudioError(f"{name}: not audio that can be converted ({reason(error)})") from error
    return fit(mono, rate, name, scaled_to_1=scaled_to_1)


def fit(mono: Float64Array, rate: int, name: str, *, scaled_to_1: bool = False) -> Converted:
    """Audio that has been decoded, float64 (frames,) of `rate` Hz, full scale 1, as `convert` makes it.

    It is changed in place where the rate fits. scaled_to_1: whether full scale is surely 1. Raises AudioError
    as `convert` does.
    """
    if len(mono) == 0:
        raise AudioError(f"{name}: holds no audio")
    peak = float(max(mono.max(), -mono.min()))
    if not math.isfinite(peak):
        raise AudioError(f"{name}: holds samples that are not numbers")
    if peak > HIGHEST_PEAK and not scaled_to_1:
        raise AudioError(
            f"{name}: its float samples reach {peak:.6g}, where full scale is 1: their scale is unknown, and"
            " cut off there they would be noise; divide them by what is their full scale"
        )
    if rate != SAMPLE_RATE:
        from scipy.signal import resample_poly  # takes a second to import, and most packs do not need it

        common = math.gcd(rate, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // common, rate // common)
    mono *= 32768.0  # in place: whole recordings may come here
    scaled = np.rint(mono, out=mono)
    # 1.0 itself, one step above the highest, is full scale and not beyond it.
    clipped = 0
    if scaled.max() > 32768 or scaled.min() < -32768:
        clipped = int(np.count_nonzero((scaled > 32768) | (scaled < -32768)))
    return Converted(np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16), clipped)


def _decoded(data: bytes, name: str) -> tuple[Float64Array, int, bool]:
    """The mean of the channels, float64 (frames,); its rate; whether the codec says that full scale is 1."""
    source = _input(data, name)
    try:
        file = ForwardFile(source.data)
    except soundfile.LibsndfileError as error:
        if error.code != _UNRECOGNISED or is_wav(data) or is_flac(data):
            raise
        other = ffmpeg.decode(data, name)
        return other.mono, other.rate, other.scaled_to_1
    with file:
        rate, scaled_to_1 = file.samplerate, file.subtype not in ("FLOAT", "DOUBLE")
        require_rate(rate, name)
        mono = _mono(file, source, name)
        _check_complete(file, source, len(mono), name)
    return mono[: source.frames], rate, scaled_to_1


def _input(data: bytes, name: str) -> _Input:
    """What of `data` is audio: without tags, with the header that all of it together says."""
    data = _without_tag(data)
    at, size = bytes_window(data), len(data)
    if is_wav(data):
        wav = read_wav(at, size, name)
        audio = wav.plain(data[wav.start : wav.start + wav.length])
        return _Input(audio, wav.frames if wav.exact else None)
    if is_flac(data):
        stream = read_stream_info(at, size, name)
        if stream.frames is None and data[-128:-125] == b"TAG":  # ID3v1, which a decoder would stumble over
            data = data[:-128]
        if stream.frames is not None and stream.md5 is None:
            require_no_more(data, stream.frames, name)
        return _Input(data, stream.frames, md5=None if stream.md5 is None else (stream.md5, stream.bits))
    sphere = _SPHERE_LENGTH.search(data, 0, 1024) if data[:7] == b"NIST_1A" else None
    return _Input(data, int(sphere[1]) if sphere else None)


def _without_tag(data: bytes) -> bytes:
    """`data` without ID3v2 tags before the audio of a WAV or FLAC; libsndfile miscounts by their length."""
    body = data[_after_tags(data) :]
    return body if is_wav(body) or is_flac(body) else data


def _after_tags(data: bytes) -> int:
    """Where ID3v2 tags at the beginning of `data` end."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        length = 0
        for byte in data[at + 6 : at + 10]:
            length = length << 7 | byte & 0x7F
        at += 10 + length + (10 if data[at + 5] & 0x10 else 0)
    return at


def _mono(file: ForwardFile, source: _Input, name: str) -> Float64Array:
    """The mean of the channels, float64 (frames,), full scale 1; its MD5 is checked where there is one."""
    size = len(source.data)
    mono = bytearray()  # grows in place, where a list of blocks would be copied
    if source.md5 is None:
        for block in blocks(file, size, "float64", name):
            mono += block.mean(axis=1).data
    else:
        expected, bits = source.md5
        md5 = AudioMd5(bits)
        for block in blocks(file, size, "int32", name):
            md5.add(block)
            mono += (block / 2147483648.0).mean(axis=1).data
        if md5.digest() != expected:
            raise AudioError(f"{name}: damaged FLAC: its audio has not the MD5 of its header")
    return np.frombuffer(mono, np.float64)


def _check_complete(file: ForwardFile, source: _Input, frames: int, name: str) -> None:
    """Raise AudioError when the decoder gave less than a header says."""
    expected = source.frames
    if file.format == "MP3":
        begin = _after_tags(source.data)
        if any(table in source.data[begin : begin + 256] for table in _MP3_TABLES):
            expected = file.frames
    if file.format == "MP3" and file.unread > _MP3_UNREAD:
        raise AudioError(
            f"{name}: libsndfile does not read the last {file.unread} bytes of this MP3 (of a bit rate that"
            " varies, without a table of that); make a WAV of it by other means"
        )
    if file.format == "OGG" and not _ogg_ends(source.data):
        raise AudioError(f"{name}: truncated OGG: its last page is not there")
    if expected is not None and frames < expected:
        raise AudioError(f"{name}: truncated {file.format}: {frames} of {expected} frames are there")
    for found in _SHORTER.finditer(file.extra_info):
        said, there = int(found["said"]), int(found["found"])
        if said > there and not is_placeholder(said):
            raise AudioError(f"{name}: truncated {file.format}: {there} of {said} bytes are there")


def _ogg_ends(data: bytes) -> bool:
    """Whether the last page is marked as the last (RFC 3533, section 6) and whole."""
    at = data.rfind(b"OggS")
    if at < 0 or len(data) < at + 27:
        return False
    sizes = data[at + 27 : at + 27 + data[at + 26]]
    return bool(data[at + 5] & 4) and at + 27 + data[at + 26] + sum(sizes) <= len(data)
