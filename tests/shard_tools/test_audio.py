from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shard_tools import audio
from shard_tools.convert import convert

SAMPLES = hnp.arrays(np.int16, st.integers(1, 3000))


def tone(frames: int = 1600) -> np.ndarray:
    return np.rint(8000 * np.sin(np.arange(frames) / 10)).astype(np.int16)


def written(samples: np.ndarray, rate: int = 16000, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **options})
    return file.getvalue()


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


WAV = written(tone())
FLAC = written(tone(20000), format="FLAC")


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


@given(samples=SAMPLES, frames=st.integers(1, 7000))
def test_wrap_is_numpys(samples, frames):
    padded = np.pad(samples, (0, max(frames - len(samples), 0)), mode="wrap")
    assert np.array_equal(audio.wrap(samples, frames), padded)


@given(samples=SAMPLES)
def test_to_float_is_libsndfiles(samples):
    floats = soundfile.read(io.BytesIO(audio.encode(samples, "wav")), dtype="float32")[0]
    assert np.array_equal(audio.to_float(samples), floats)
    assert audio.to_float(samples).dtype == np.float32


def test_convert_keeps_the_pitch_and_the_level():
    seconds = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * seconds), np.zeros(44100)], 1)
    samples = convert(written(stereo, 44100, subtype="FLOAT"), "x")
    assert len(samples) == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(samples[500:-500] / 32768 - expected[500:-500]).max() < 0.01


def test_convert_clips_and_rounds():
    data = written(np.array([2.0, -2.0, 1.6 / 32768, -1.6 / 32768]), subtype="DOUBLE")
    assert convert(data, "x").tolist() == [32767, -32768, 2, -2]


@pytest.mark.parametrize("data", [b"text" * 30, written(tone(0), 8000), FLAC[: len(FLAC) // 2]])
def test_convert_refuses(data):
    with pytest.raises(audio.AudioError, match=r"^x\.wav: "):
        convert(data, "x.wav")
