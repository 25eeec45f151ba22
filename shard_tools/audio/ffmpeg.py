"""FFmpeg, by PyAV in this process: audio that libsndfile does not know, AAC in MPEG-4 (m4a) before all.

PyAV's wheels carry FFmpeg's libraries. It is an extra (`pip install 'voxshard[prep]'`) and is imported
only when a file needs it.
"""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shard_tools.arrays import Float64Array
from shard_tools.audio.info import AudioError, Window, WindowFile, bytes_window, most_frames, require_rate

INSTALL = "pip install 'voxshard[prep]'"

# Containers of audio. Left out are those that are text or name other files (playlists, subtitles): a file
# must not have others read in its name.
_CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpeg,mpegts"
    ",nut,ogg,oma,rm,shn,sox,tak,tta,w64,wav,webm,wv"
)
# What they say of their audio's length is counted, not guessed from a bit rate.
_EXACT = {"mov": 0.1, "matroska": 0.1, "asf": 0.15}  # seconds that may be missing: of a block, or of pre-skip
_BOX_HEAD = 16
_ASF = bytes.fromhex("3026B2758E66CF11A6D900AA0062CE6C")
_EBML = b"\x1aE\xdf\xa3"  # Matroska, WebM
_MOST_BOXES = 100_000  # of a fragmented file of many hours
_BLOCK = 1 << 14  # samples that are worked on at once
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # by FFmpeg's names


@dataclass(frozen=True)
class Decoded:
    """mono: the mean of the channels, float64 (frames,); rate: Hz; scaled_to_1: whether the codec says that
    full scale is 1."""

    mono: Float64Array
    rate: int
    scaled_to_1: bool


def decode(data: bytes, name: str) -> Decoded:
    """All audio of the first and best audio stream of a file. `name` is for messages.

    Raises AudioError for what FFmpeg does not read, what is damaged at any place, is cut short (as far as
    its container tells) or has a rate that speech has not; and where PyAV is not installed.
    """
    av = _library(name)
    _require_whole(bytes_window(data), len(data), name)
    mono = bytearray()  # grows in place, where a list of blocks would be copied
    try:
        with av.open(io.BytesIO(data), **_options()) as container:
            stream = _audio(container, name)
            rate = stream.codec_context.sample_rate
            require_rate(rate, name)
            most = most_frames(len(data), rate)
            for block in _blocks(container, stream, name):
                mono += block.data
                if len(mono) > 8 * most:
                    raise AudioError(
                        f"{name}: more than {most} frames in {len(data)} bytes: nothing but silence"
                    )
            # AAC with spectral band replication tells its rate only with the first block.
            rate = stream.codec_context.sample_rate
            require_rate(rate, name)
            _require_length(container, stream, len(mono) // 8, rate, name)
            scaled_to_1 = not stream.codec_context.name.startswith("pcm_f")
    except (av.FFmpegError, ValueError, NotImplementedError) as error:
        raise _refused(error, name) from error
    return Decoded(np.frombuffer(mono, np.float64), rate, scaled_to_1)


def require(name: str) -> None:
    """Raise AudioError, with `name`, unless PyAV is installed."""
    _library(name)


def check(at: Window, size: int, name: str) -> None:
    """Raise AudioError unless FFmpeg knows the file called `name`, of `size` bytes, as audio.

    `at` shows what lies in it. Of MPEG-4 only the outermost boxes are looked at.
    """
    av = _library(name)
    if _require_whole(at, size, name):
        return
    try:
        with av.open(WindowFile(at, size), **_options()) as container:
            require_rate(_audio(container, name).codec_context.sample_rate, name)
    except (av.FFmpegError, ValueError, NotImplementedError) as error:
        raise _refused(error, name) from error


def seconds(at: Window, size: int) -> float | None:
    """How long an MPEG-4, Matroska or ASF file says its audio is; None where it does not, and of others."""
    head = at(0, _BOX_HEAD)
    if not (is_iso(head) or head == _ASF or head[:4] == _EBML):
        return None
    av = _library("")
    try:
        with av.open(WindowFile(at, size), **_options()) as container:
            return _said(container, _audio(container, ""))
    except (av.FFmpegError, ValueError, NotImplementedError, AudioError):
        return None  # decoding says what is wrong


def is_iso(head: bytes) -> bool:
    """Whether a file that begins so is of the MPEG-4 family (ISO/IEC 14496-12): m4a, mp4, 3gp, mov."""
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def _require_whole(at: Window, size: int, name: str) -> bool:
    """Whether the outermost parts of a file tell that it is whole; AudioError when they tell the contrary."""
    head = at(0, _BOX_HEAD)
    if is_iso(head):
        require_boxes(at, size, name)
    elif head == _ASF:
        _require_objects(at, size, name)
    else:
        return False
    return True


def require_boxes(at: Window, size: int, name: str) -> None:
    """Raise AudioError unless the outermost boxes of an MPEG-4 file are all there and `moov` is among them.

    FFmpeg decodes what is left of a file that was cut, and only warns.
    """
    start = 0
    kinds = set()
    for _ in range(_MOST_BOXES):
        if start + 8 > size:
            break
        head = at(start, _BOX_HEAD)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not kind.rstrip(b" ").isalnum():
            break  # what follows the last box is no audio
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # to the end of the file
            length = size - start
        if length < 8:
            raise AudioError(f"{name}: damaged MPEG-4: the box at byte {start} is {length} bytes long")
        if start + length > size:
            raise AudioError(
                f"{name}: truncated MPEG-4: its box {kind.decode('latin-1')!r} ends at byte {start + length},"
                f" the file at {size}"
            )
        kinds.add(kind)
        start += length
    if b"moov" not in kinds:
        raise AudioError(f"{name}: truncated or damaged MPEG-4: its table of contents (moov) is not there")


def _require_objects(at: Window, size: int, name: str) -> None:
    """As `require_boxes`, of ASF (WMA): its objects are a GUID and a length of 8 bytes."""
    start = 0
    while start + 24 <= size:
        length = int.from_bytes(at(start + 16, 8), "little")
        if length < 24:  # a stream whose end was not known
            return
        start += length
        if start > size:
            raise AudioError(f"{name}: truncated ASF: an object ends at byte {start}, the file at {size}")


def _library(name: str) -> types.ModuleType:
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"{name}: libsndfile does not know this kind of file; PyAV decodes m4a and what else FFmpeg"
            f" knows: {INSTALL}"
        ) from error
    library: types.ModuleType = av
    return library


def _options() -> dict[str, Any]:
    return {
        "mode": "r",
        "options": {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""},
        "metadata_errors": "replace",
    }


def _audio(container: Any, name: str) -> Any:
    stream = container.streams.best("audio")
    if stream is None:
        raise AudioError(f"{name}: holds no audio")
    if stream.codec_context is None:
        raise AudioError(f"{name}: its audio is of a codec that FFmpeg does not know, or damaged")
    stream.codec_context.thread_count = 1  # several files at a time are faster than several threads for one
    return stream


def _blocks(container: Any, stream: Any, name: str) -> Iterator[Float64Array]:
    """The mean of the channels, in blocks, float64 (n,)."""
    gathered: _Gathered | None = None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise AudioError(f"{name}: truncated or damaged (a packet of its audio is not whole)")
        for frame in packet.decode():
            form = _Form(frame.format.name, frame.layout.nb_channels, frame.sample_rate)
            if gathered is None or form != gathered.form:
                if gathered is not None and form[1:] != gathered.form[1:]:
                    raise AudioError(f"{name}: its sample rate or channels change in its midst; cut it there")
                if gathered is not None:
                    yield gathered.mean()
                gathered = _Gathered(form)
            gathered.add(frame)
            if gathered.samples >= _BLOCK:
                yield gathered.mean()
                gathered = _Gathered(form)
    if gathered is not None:
        yield gathered.mean()


class _Form(NamedTuple):
    """format: FFmpeg's name of how samples are stored, as "fltp", float32, a plane for each channel."""

    format: str
    channels: int
    rate: int


class _Gathered:
    """Decoded frames one after the other.

    One of AAC has 1024 samples, and numpy would be called as often as for a block that is sixteen times as
    long: that takes as much time as decoding does.
    """

    def __init__(self, form: _Form) -> None:
        self.form = form
        self.samples = 0  # of one channel
        self._packed = not form.format.endswith("p")
        self._dtype = np.dtype(_DTYPES[form.format.removesuffix("p")])
        self._planes = [bytearray() for _ in range(1 if self._packed else form.channels)]

    def add(self, frame: Any) -> None:
        size = frame.samples * self._dtype.itemsize * (self.form.channels if self._packed else 1)
        for gathered, plane in zip(self._planes, frame.planes, strict=True):
            gathered += memoryview(plane)[:size]  # what follows is padding
        self.samples += frame.samples

    def mean(self) -> Float64Array:
        """Of the channels, full scale 1, float64 (samples,)."""
        planes = [np.frombuffer(plane, self._dtype) for plane in self._planes]
        values = planes[0].reshape(-1, self.form.channels).T if self._packed else np.stack(planes)
        if values.dtype == np.uint8:
            scaled = (values.astype(np.float64) - 128) / 128
        elif values.dtype.kind == "i":
            scaled = values / -float(np.iinfo(values.dtype).min)
        else:
            scaled = values.astype(np.float64)
        mean: Float64Array = scaled[0] if len(scaled) == 1 else scaled.mean(axis=0)
        return np.ascontiguousarray(mean)


def _require_length(container: Any, stream: Any, frames: int, rate: int, name: str) -> None:
    missing = _EXACT.get(container.format.name.partition(",")[0])
    if missing is None:
        return
    said = _said(container, stream)
    if said is not None and frames / rate < said - missing:
        raise AudioError(
            f"{name}: truncated {container.format.name}: {frames / rate:.2f} of {said:.2f} s are there"
        )


def _said(container: Any, stream: Any) -> float | None:
    """Seconds, as the stream or else the container says."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1e6)
    return None


def _refused(error: Exception, name: str) -> AudioError:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return AudioError(f"{name}: not audio that can be converted ({words})")
