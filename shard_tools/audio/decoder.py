"""libsndfile, asked for a file's audio from its front to its end, whatever its header says of its length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Literal

import numpy.typing as npt
import soundfile

from shard_tools.audio.flac_header import without_length
from shard_tools.audio.info import AudioError, most_frames

DECODER_ERRORS = (soundfile.LibsndfileError, RuntimeError)
_BLOCK = 1 << 16  # samples, of all channels; libsndfile fills what is left of a block with zeros


class ForwardFile(soundfile.SoundFile):
    """A file that is only read from front to end.

    soundfile seeks after every read of a file that says it can, and libsndfile fails there
    where the length is unknown.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        self._source = _Seekable(data)
        super().__init__(self._source)

    def seekable(self) -> bool:
        return False

    @property
    def unread(self) -> int:
        """Bytes at the end of the file that the decoder has not looked at yet."""
        return len(self._source.getbuffer()) - self._source.tell()


class _Seekable(io.BytesIO):
    """Bytes in which a seek to before their beginning, of which damaged headers speak, stays where it is.

    libsndfile sees that and gives up; from an exception in its callback it would get a traceback on stderr.
    """

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def blocks(
    file: ForwardFile, size: int, dtype: Literal["float64", "int32", "int16"], name: str
) -> Iterator[npt.NDArray[Any]]:
    """All audio of `file`, made from `size` bytes, in arrays (n, channels), until the decoder has no more.

    Raises AudioError, with `name`, when there is more than so many bytes of speech can hold.
    """
    step = max(_BLOCK // file.channels, 1)
    frames, most = 0, most_frames(size, file.samplerate)
    while len(block := file.read(step, dtype=dtype, always_2d=True)):
        frames += len(block)
        if frames > most:
            raise AudioError(f"{name}: more than {most} frames in {size} bytes: nothing but silence")
        yield block


def require_no_more(data: bytes, frames: int, name: str) -> None:
    """Raise AudioError when a FLAC file has more than the `frames` frames that its header speaks of."""
    found = 0
    try:
        with ForwardFile(without_length(data)) as file:
            for block in blocks(file, len(data), "int16", name):
                found += len(block)
    except DECODER_ERRORS:
        pass  # what follows the last frame is a tag perhaps
    if found > frames:
        raise AudioError(f"{name}: {frames} frames in the FLAC header, {found} in the file")


def reason(error: Exception) -> str:
    """libsndfile's words without "Error : " and the full stop."""
    words = str(error).rpartition(": ")[2].rstrip(".")
    # What it says of any file on which a decoder gives up at once.
    return "damaged or cut short" if words.startswith("File does not exist") else words
