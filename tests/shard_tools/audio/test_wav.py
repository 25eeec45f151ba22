from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wav_files import chunk, form, tone, wav

from shard_tools import audio
from shard_tools.audio.convert import convert
from shard_tools.audio.info import bytes_window
from shard_tools.audio.wav import read_wav

PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4)
WIDE = chunk(b"ds64", struct.pack("<QQQI", 3300, 3200, 1600, 0))
LENGTHS = [0, 0x7FFFF000, 0x7FFFFFFF, 0x7FFFFFDB, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB, 0x7F000000]


@pytest.mark.parametrize(
    "data",
    [
        wav(),
        wav(form(byte_rate=7)),
        wav(chunk(b"LIST", b"hello"), form(), chunk(b"bext", bytes(700)), chunk(b"fact", bytes(4))),
        wav(chunk(b"fmt ", EXTENSIBLE + PCM_GUID)),
        wav(chunk(b"fmt ", form()[8:] + bytes(2))),
        wav(riff=0),
        wav(riff=0xFFFFFFFF),
        wav(tail=chunk(b"LIST", b"artist") + chunk(b"id3 ", bytes(99))),
        wav(tail=b"made by"),
        wav(tail=b"\x01\x02serial number 1234\x00\xff"),
        wav(tail=bytes(100_000)),
        wav(pcm=tone().tobytes() + b"\x01"),
    ],
)
def test_what_is_sound_or_harmless_is_taken_as_it_is(data):
    assert audio.probe(data, "x").frames == 1600
    assert np.array_equal(audio.decode(data, "x"), tone())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (wav(form(), form()), "a second fmt chunk at byte 36"),
        (wav(form(), tail=form()), "a second fmt chunk at byte 3244"),
        (wav(tail=chunk(b"data", b"abcd")), "a second data chunk at byte 3244"),
        (wav(tail=chunk(b"LIST", b"x") + chunk(b"data", b"abcd")), "a second data chunk at byte 3254"),
        (wav(tail=wav()), "two WAVs in one file, the second at byte 3244"),
        (wav(pcm=bytes(3200), length=1600, tail=tone(3000).tobytes()), "7600 bytes that are no chunk"),
        (wav(form(channels=0)), "0 channels"),
        (wav(form(align=0)), "0 bytes a frame"),
        (wav(form(align=4)), r"contradicts itself \(channels: 1, bits: 16, block align: 4, .*: 64000\)"),
        (wav(form(channels=2)), "contradicts itself"),
        (wav(form(bits=8)), "contradicts itself"),
        (wav(form(bits=0)), "contradicts itself"),
        (wav(form(kind=3, align=4, bits=16, byte_rate=64000)), "contradicts itself"),
        (wav(form(rate=0)), "its header says 0 Hz; sample rates from 4000 to 768000 Hz"),
        (wav(form(rate=1)), "its header says 1 Hz"),
        (wav(form(rate=655360001)), "its header says 655360001 Hz"),
        (wav(chunk(b"fmt ", bytes(14))), "a fmt chunk of 14 bytes"),
        (wav(chunk(b"fmt ", bytes(70000))), "a fmt chunk of 70000 bytes"),
        (wav(*[bytes(8)] * 5000), "no audio within 4096 chunks"),
        (wav(chunk(b"LIST", b"x", 10**6)), "before any audio"),
        (wav(chunk(b"JUNK", b"x")), "data comes before its format"),
        (wav(pcm=b""), "without any audio"),
        (wav(pcm=b"", tail=chunk(b"LIST", b"abcd")), "without any audio"),
        (wav(pcm=b"a"), "without any audio"),
        (wav(length=3202), "truncated: 3202 bytes of audio in the WAV header, 3200 in the file"),
        (wav(length=0x7E000000), "truncated"),
        (wav()[:-36], "truncated: 3200 bytes of audio in the WAV header, 3164 in the file"),
        (wav(form(rate=8000))[:-2], "truncated"),
        (wav(WIDE, form(), magic=b"RF64", length=0xFFFFFFFF)[:-2], "truncated"),
    ],
)
def test_what_contradicts_itself_or_is_cut_short_is_refused_and_not_converted(data, found):
    for read in (audio.decode, convert):
        with pytest.raises(audio.AudioError, match=f"^some/a.wav: .*{found}") as caught:
            read(data, "some/a.wav")
        assert not isinstance(caught.value, audio.FormatError)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        *[(wav(length=length), "gives no length") for length in LENGTHS],
        *[(wav(length=length, riff=length), "gives no length") for length in LENGTHS],
        (wav(length=3236, riff=3236), "gives no length"),  # the RIFF chunk's size in both places
        (wav(length=3244, riff=3244), "gives no length"),  # the file's
        (wav(form(align=4, byte_rate=32000)), "contradicts itself"),
        (wav(form(align=1, byte_rate=32000)), "contradicts itself"),
        (wav(bytes(8), form(), bytes(16)), "a WAV that libsndfile does not read"),
        (wav(form(order=">"), magic=b"RIFX"), "of the kind RIFX"),
        (wav(WIDE, form(), magic=b"RF64", length=0xFFFFFFFF), "of the kind RF64"),
        (wav(WIDE, form(), magic=b"BW64", length=0xFFFFFFFF), "of the kind BW64"),
        (wav(form(), magic=b"RF64", length=0xFFFFFFFF), "gives no length"),
        (b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + wav(), "neither WAV nor FLAC"),
    ],
)
def test_where_only_one_number_is_wrong_the_audio_is_converted(data, found):
    with pytest.raises(audio.FormatError, match=found):
        audio.decode(data, "x")
    converted = convert(data, "x")
    assert np.array_equal(converted.samples, tone())
    assert converted.clipped == 0


def test_a_recording_that_was_never_closed_may_be_silent():
    silent = wav(pcm=bytes(3200), length=0, riff=0)
    assert np.array_equal(convert(silent, "x").samples, np.zeros(1600, np.int16))


def test_only_few_bytes_of_a_long_file_are_looked_at():
    asked = 0

    def at(start: int, count: int) -> bytes:
        nonlocal asked
        asked += count
        return data[start : start + count]

    data = wav(chunk(b"LIST", bytes(10**6)), form(), pcm=bytes(10**6), tail=chunk(b"LIST", bytes(10**6)))
    assert read_wav(at, len(data), "x").start > 10**6
    assert asked < 200


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_damaged_headers_are_refused_or_read_as_libsndfile_reads_them(seed):
    rng = random.Random(seed)
    data = bytearray(wav(chunk(b"LIST", b"ab"), tail=chunk(b"id3 ", bytes(10))))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(64)
        value = rng.choice([bytes([rng.randrange(256)]), b"data", b"fmt ", b"\xff\xff\xff\xff", bytes(4)])
        if rng.random() < 0.3:
            del data[at : at + len(value)]
        else:
            data[at : at + len(value)] = value
    read = bytes(data)
    samples = accepted(audio.decode, read)  # which compares what it returns with what libsndfile reads
    if samples is not None:
        found = read_wav(bytes_window(read), len(read), "x")
        assert found.frames == len(samples)
        assert read[found.start : found.start + 2 * len(samples)] == samples.tobytes()
    converted = accepted(convert, read)
    assert converted is None or len(converted.samples)


def accepted(function, data):
    """What `function` gives, or None when it refuses `data` by name."""
    try:
        return function(data, "x")
    except audio.AudioError as error:
        if not str(error).startswith("x: "):
            raise
        return None
