"""libsndfile, asked for a file's audio from its front to its end, whatever its header says of its length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Literal

import numpy.typing as npt
import soundfile

from shard_tools.audio_info import AudioError, most_frames
from shard_tools.flac_header import without_length

DECODER_ERRORS = (soundfile.LibsndfileError, RuntimeError)
_BLOCK = 1 << 16  # samples, of all channels; libsndfile fills what is left of a block with zeros


class ForwardFile(soundfile.SoundFile):
    """A file that is only read from front to end.

    soundfile seeks after every read of a file that says it can, and libsndfile fails there
    where the length is unknown.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(io.BytesIO(data))

    def seekable(self) -> bool:
        return False


def blocks(
    file: ForwardFile, size: int, dtype: Literal["float64", "int32", "int16"], name: str
) -> Iterator[npt.NDArray[Any]]:
    """All audio of `file`, made from `size` bytes, in arrays (n, channels), until the decoder has no more.

    Raises AudioError, with `name`, when there is more than so many bytes of speech can hold.
    """
    step = max(_BLOCK // file.channels, 1)
    frames = 0
    while len(block := file.read(step, dtype=dtype, always_2d=True)):
        frames += len(block)
        if frames > most_frames(size):
            raise AudioError(
                f"{name}: more than {most_frames(size)} frames in {size} bytes; silence alone is so short"
            )
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
    return str(error).rpartition(": ")[2].rstrip(".")
