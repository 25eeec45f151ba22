from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shard_tools import audio
from shard_tools.audio.flac_header import without_length

SAMPLES = hnp.arrays(np.int16, st.integers(1, 3000))


def tone(frames: int = 1600) -> np.ndarray:
    return np.rint(8000 * np.sin(np.arange(frames) / 10)).astype(np.int16)


def written(samples: np.ndarray, rate: int = 16000, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **options})
    return file.getvalue()


WAV = written(tone())
FLAC = written(tone(20000), format="FLAC")


def stream_info(
    data: bytes,
    frames: int | None = None,
    rate: int | None = None,
    channels: int | None = None,
    bits: int | None = None,
    md5: bytes | None = None,
) -> bytes:
    """A FLAC file with other numbers in its header."""
    packed = int.from_bytes(data[18:26], "big")
    for value, width, shift in ((rate, 20, 44), (channels, 3, 41), (bits, 5, 36), (frames, 36, 0)):
        if value is not None:
            value -= shift in (41, 36)
            packed = packed & ~((1 << width) - 1 << shift) | value << shift
    return data[:18] + packed.to_bytes(8, "big") + (data[26:42] if md5 is None else md5) + data[42:]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["wav", "flac"])
@given(samples=SAMPLES)
def test_encode_then_decode_is_exact(codec, samples):
    data = audio.encode(samples, codec)
    assert data == audio.encode(samples, codec)
    assert np.array_equal(audio.decode(data, "x"), samples)
    info = audio.probe(data, "x")
    assert (info.frames, info.sample_rate, info.channels, info.subtype) == (len(samples), 16000, 1, "PCM_16")
    assert info.codec == codec
    assert np.array_equal(soundfile.read(io.BytesIO(data), dtype="int16")[0], samples)


def test_pcm_offset_skips_chunks_before_the_audio():
    samples = tone()
    plain = audio.encode(samples, "wav")
    extra = struct.pack("<4sI", b"LIST", 5) + b"hello\0"  # odd length, so one byte of padding
    data = plain[:36] + extra + plain[36:] + b"LIST\4\0\0\0tail"
    info = audio.probe(data, "x")
    assert info.pcm_offset == 44 + len(extra)
    assert np.array_equal(audio.decode(data, "x"), samples)


def test_extensible_wav_is_pcm():
    data = written(tone(), format="WAVEX")
    assert audio.probe(data, "x").subtype == "PCM_16"
    assert np.array_equal(audio.decode(data, "x"), tone())


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, 200) | st.integers(0, len(FLAC) - 1), value=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_flac_is_refused_or_gives_the_right_samples(at, value, cut):
    data = FLAC[: at + 1] if cut else FLAC[:at] + bytes([FLAC[at] ^ value]) + FLAC[at + 1 :]
    try:
        samples = audio.decode(data, "x")
    except audio.AudioError:
        return
    assert np.array_equal(samples, tone(20000))


def test_a_length_that_others_give_is_not_trusted_with_memory():
    with pytest.raises(audio.AudioError, match="frame 20000 is missing"):
        audio.decode_flac(FLAC, 2**50, "x")
    with pytest.raises(audio.AudioError, match="missing"):
        audio.decode_flac(without_length(FLAC), 2**50, "x")


def test_flac_without_md5_is_taken_and_so_are_tags_behind_it():
    data = stream_info(written(tone(20000), format="FLAC"), md5=bytes(16)) + b"TAG" + bytes(range(125))
    assert np.array_equal(audio.decode(data, "x"), tone(20000))


def test_what_the_first_bytes_do_not_show_counts_as_right():
    cut = WAV[:36] + struct.pack("<4sI", b"LIST", 2000) + bytes(2000) + WAV[36:]
    assert audio.probe_header(WAV[:100], len(WAV), "x") == audio.probe(WAV, "x")
    assert audio.probe_header(FLAC[:100], len(FLAC), "x") == audio.probe(FLAC, "x")
    with pytest.raises(audio.AudioError, match="no audio within the first bytes"):
        audio.probe_header(cut[:1000], len(cut), "x")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty file"),
        (b"not audio at all" * 100, "neither WAV nor FLAC"),
        (WAV[:30], "truncated"),
        (WAV[:44], "truncated: 3200 bytes of audio in the WAV header, 0 in the file"),
        (WAV[:-1], "truncated: 3200 bytes of audio in the WAV header, 3199 in the file"),
        (written(tone(0)), "without any audio"),
        (FLAC[:20], "truncated or broken FLAC header"),
        (FLAC[: len(FLAC) // 2], "truncated"),
        (FLAC[:5000] + bytes(50) + FLAC[5050:], "damaged FLAC"),
        (FLAC[:26] + bytes([FLAC[26] ^ 1]) + FLAC[27:], "damaged FLAC: its audio has not the MD5"),
        (stream_info(FLAC, frames=10000), "10000 frames in the FLAC header, 20000 in the file"),
        (
            stream_info(FLAC, frames=10000, md5=bytes(16)),
            "10000 frames in the FLAC header, 20000 in the file",
        ),
        (stream_info(FLAC, frames=20001), "truncated FLAC: frame 20000 is missing"),
        (stream_info(FLAC, frames=2**36 - 1), "68719476735 frames in the FLAC header of a file of"),
        (stream_info(FLAC, frames=0), "gives no length"),
        (
            stream_info(FLAC, bits=24),
            "16000 Hz, 1 channels, 24 bits, its first frame 16000 Hz, 1 channels, 16",
        ),
        (stream_info(FLAC, channels=2), "2 channels, 16 bits, its first frame 16000 Hz, 1 channels, 16 bits"),
        (stream_info(FLAC, rate=8000), "8000 Hz, 1 channels, 16 bits, its first frame 16000 Hz"),
        (stream_info(FLAC, rate=0), "its header says 0 Hz"),
        (written(np.stack([tone(), tone()], 1)), "16000 Hz, 2 channels, PCM_16"),
        (written(tone(), 8000), "8000 Hz, 1 channel, PCM_16"),
        (written(tone(), subtype="PCM_24"), "PCM_24"),
        (written(tone(), subtype="FLOAT"), "FLOAT"),
        (written(tone(), 44100, format="FLAC", subtype="PCM_24"), "44100 Hz, 1 channel, PCM_24"),
        (WAV[:40] + b"\xff\xff\xff\xff" + WAV[44:], "gives no length"),
    ],
)
def test_decode_refuses_and_names_what_it_found(data, found):
    with pytest.raises(audio.AudioError, match=f"^some/file.wav: .*{found}"):
        audio.decode(data, "some/file.wav")


@pytest.mark.slow
@given(samples=SAMPLES, frames=st.integers(1, 7000))
def test_wrap_is_numpys(samples, frames):
    padded = np.pad(samples, (0, max(frames - len(samples), 0)), mode="wrap")
    assert np.array_equal(audio.wrap(samples, frames), padded)


@pytest.mark.slow
@given(samples=SAMPLES)
def test_to_float_is_libsndfiles(samples):
    floats = soundfile.read(io.BytesIO(audio.encode(samples, "wav")), dtype="float32")[0]
    assert np.array_equal(audio.to_float(samples), floats)
    assert audio.to_float(samples).dtype == np.float32
