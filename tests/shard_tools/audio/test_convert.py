from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from wav_files import chunk, form, tone, wav

from shard_tools import audio
from shard_tools.audio.convert import convert
from shard_tools.audio.flac_header import without_length


def written(samples: np.ndarray, rate: int = 16000, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16", **options})
    return file.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


STEREO = np.stack([tone(20000), -tone(20000) // 2], 1)
FLAC = written(tone(20000), format="FLAC")
FLAC_24 = written(STEREO.astype(np.int32) << 16, 44100, format="FLAC", subtype="PCM_24")


def test_the_pitch_and_the_level_are_kept():
    seconds = np.arange(44100) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * seconds), np.zeros(44100)], 1)
    samples = convert(written(stereo, 44100, subtype="FLOAT"), "x").samples
    assert len(samples) == 16000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(samples[500:-500] / 32768 - expected[500:-500]).max() < 0.01


def test_samples_are_rounded_and_those_beyond_full_scale_counted():
    data = written(np.array([1.5, -1.5, 1.0, -1.0, 1.6 / 32768, -1.6 / 32768]), subtype="DOUBLE")
    converted = convert(data, "x")
    assert converted.samples.tolist() == [32767, -32768, 32767, -32768, 2, -2]
    assert converted.clipped == 2


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_read_in_blocks_is_what_soundfile_reads_at_once(subtype, channels):
    if subtype == "MS_ADPCM":
        channels = min(channels, 2)
    samples = np.random.default_rng(0).uniform(-1, 1, (70_000, channels))
    data = written(samples, subtype=subtype)
    whole = soundfile.read(io.BytesIO(data), always_2d=True)[0].mean(axis=1)
    expected = np.clip(np.rint(whole * 32768), -32768, 32767)
    assert np.array_equal(convert(data, "x").samples, expected)


@pytest.mark.parametrize(
    "data",
    [
        without_length(FLAC),
        without_length(FLAC) + b"TAG" + bytes(range(125)),
        without_length(FLAC[:26] + bytes(16) + FLAC[42:]),
        b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + FLAC,
        written(tone(20000), format="RF64"),
        written(tone(20000), format="AIFF"),
        written(tone(20000), format="NIST"),
        written(tone(20000), endian="BIG"),
    ],
)
def test_the_whole_of_it_is_found_however_it_is_wrapped(data):
    assert np.array_equal(convert(data, "x").samples, tone(20000))


def test_flac_of_other_depths_has_its_md5_checked():
    expected = np.rint(STEREO.astype(np.float64).mean(axis=1))
    at_16k = written(STEREO.astype(np.int32) << 16, format="FLAC", subtype="PCM_24")
    assert np.abs(convert(at_16k, "x").samples - expected).max() <= 1
    with pytest.raises(audio.AudioError, match="has not the MD5"):
        convert(at_16k[:30] + bytes([at_16k[30] ^ 1]) + at_16k[31:], "x")


def test_gsm_ends_with_its_last_block():
    data = written(tone(8000), 8000, subtype="GSM610")
    blocks, left = divmod(len(data) - 60, 65)
    assert (blocks, left) == (25, 1)  # of 320 samples, and one byte to make it even
    assert len(convert(data, "x").samples) == 2 * 25 * 320


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"text" * 30, "not audio"),
        (b"\xff\xf3\x88\xc4" + bytes(700), "damaged or cut short"),
        (written(tone(0), 8000), "without any audio"),
        (half(FLAC), "lost sync|MD5"),
        (half(FLAC_24), "lost sync|MD5"),
        (half(written(tone(20000), format="AIFF")), "truncated AIFF"),
        (half(written(tone(20000), format="AU")), "truncated AU"),
        (half(written(tone(20000), format="W64")), "truncated W64"),
        (half(written(tone(20000), format="NIST")), "truncated NIST"),
        (half(written(STEREO / 40000, format="OGG", subtype="VORBIS")), "OGG|not audio"),
        (written(np.array([0.5, np.nan, 0.1]), subtype="FLOAT"), "samples that are not numbers"),
        (written(np.array([0.5, np.inf, 0.1]), subtype="FLOAT"), "samples that are not numbers"),
        (written(np.array([0.5, -20000.0, 3.0]), subtype="FLOAT"), "reach 20000, where full scale is 1"),
        (written(tone(), 3999), "its header says 3999 Hz"),
        (written(tone(), 768001, format="AU"), "its header says 768001 Hz"),
        (written(tone(), 1, format="AIFF"), "its header says 1 Hz"),
    ],
)
def test_refused(data, found):
    with pytest.raises(audio.AudioError, match=rf"^x\.wav: .*({found})"):
        convert(data, "x.wav")


def test_an_mp3_without_a_table_is_not_cut_where_libsndfile_guesses_its_end():
    """The guess is by the first frame's bit rate."""
    rng = np.random.default_rng(0)
    sound = np.concatenate([np.zeros(96_000), rng.uniform(-1, 1, 96_000)])
    data = written(sound, format="MP3", subtype="MPEG_LAYER_III")
    loud_first = written(sound[::-1], format="MP3", subtype="MPEG_LAYER_III")
    assert len(convert(data, "x").samples) == len(sound)
    with pytest.raises(audio.AudioError, match="truncated MP3"):
        convert(half(data), "x")
    table = 288  # bytes of the first frame
    assert (data[table : table + 2], b"Xing" in data[table:]) == (data[:2], False)
    assert len(sound) <= len(convert(data[table:], "x").samples) < len(sound) + 4 * 576
    with pytest.raises(audio.AudioError, match=r"does not read the last \d+ bytes of this MP3"):
        convert(loud_first[table:], "x")


@pytest.mark.slow
def test_few_bytes_do_not_become_hours():
    silence = written(np.zeros(17_000_000, np.int16), format="FLAC")
    assert len(silence) < 100_000
    for data in (silence, without_length(silence)):
        with pytest.raises(audio.AudioError, match=r"a false length|nothing but silence"):
            convert(data, "x")


def test_mu_law_without_a_length():
    samples = np.rint(tone(4000) / 8).astype(np.int16)
    data = written(samples, subtype="ULAW")
    start = data.index(b"data") + 8
    piped = wav(
        form(kind=7, align=1, bits=8),
        chunk(b"fact", struct.pack("<I", 0)),
        pcm=data[start:],
        length=0xFFFFFFFF,
    )
    assert np.array_equal(convert(piped, "x").samples, convert(data, "x").samples)
