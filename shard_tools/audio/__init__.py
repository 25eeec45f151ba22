"""Recordings as bytes: 16 kHz mono 16-bit WAV and FLAC, probed, decoded, encoded. Knows no shards."""

from shard_tools.audio.decoder import reason
from shard_tools.audio.formats import (
    decode,
    decode_flac,
    encode,
    probe,
    probe_header,
    probe_window,
    put_float,
    require_fit,
    to_float,
    wrap,
)
from shard_tools.audio.info import SAMPLE_RATE, AudioError, AudioInfo, Codec, FormatError

__all__ = [
    "SAMPLE_RATE",
    "AudioError",
    "AudioInfo",
    "Codec",
    "FormatError",
    "decode",
    "decode_flac",
    "encode",
    "probe",
    "probe_header",
    "probe_window",
    "put_float",
    "reason",
    "require_fit",
    "to_float",
    "wrap",
]
