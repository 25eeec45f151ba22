"""The quick look takes only WAVs that every reader understands alike, and all that are usual."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wav_files import chunk, form, tone, wav

from shard_tools import audio
from shard_tools.audio.plain_wav import HEAD_BYTES, plain_wav

PCM = tone(100).tobytes()
LAVF = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"Lavf58.29.100\0"))


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def look(data: bytes) -> audio.AudioInfo | None:
    return plain_wav(data[:HEAD_BYTES], len(data))


@pytest.mark.parametrize("data", [audio.encode(tone(), "wav"), riff(form(), LAVF, chunk(b"data", PCM))])
def test_usual_files_are_taken(data):
    assert look(data) == audio.probe(data, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        audio.encode(tone(), "flac"),
        audio.encode(tone(), "wav")[:-2],
        audio.encode(tone(), "wav") + b"\0\0",
        riff(form(), chunk(b"data", b"")),
        riff(form(), chunk(b"data", PCM), size=0xFFFFFFFF),
        riff(form(), chunk(b"data", PCM, length=0xFFFFFFFF)),
        riff(form(), chunk(b"data", PCM, length=len(PCM) - 2)),
        riff(form(channels=2, align=4), chunk(b"data", PCM)),
        riff(form(rate=8000), chunk(b"data", PCM)),
        riff(form(kind=3, bits=32, align=4), chunk(b"data", PCM)),
        riff(form(align=4), chunk(b"data", PCM)),
        riff(form(), chunk(b"data", PCM), LAVF),
        riff(form(), chunk(b"LIST", b"INFO" + b"ISFT" + struct.pack("<I", 999)), chunk(b"data", PCM)),
        riff(form(), chunk(b"LIST", b"INFOISF"), chunk(b"data", PCM)),
        riff(form(), chunk(b"LIST", b"adtl" + bytes(8)), chunk(b"data", PCM)),
        riff(form(), LAVF, LAVF, chunk(b"data", PCM)),
        riff(form(), LAVF),
        wav(form(), pcm=PCM, magic=b"RIFX"),
    ],
)
def test_others_are_left_to_the_strict_reader(data):
    assert look(data) is None


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from([audio.encode(tone(20), "wav"), riff(form(), LAVF, chunk(b"data", PCM[:40]))]),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=4),
    st.integers(-4, 4),
)
def test_what_is_taken_is_what_a_full_reading_finds(data, edits, grown):
    damaged = bytearray(data[: len(data) + min(grown, 0)] + bytes(max(grown, 0)))
    for place, value in edits:
        if place < len(damaged):
            damaged[place] = value
    info = look(bytes(damaged))
    if info is not None:
        assert info == audio.probe(bytes(damaged), "x")
        samples = audio.decode(bytes(damaged), "x")
        assert info.pcm_offset is not None
        assert np.array_equal(samples, np.frombuffer(bytes(damaged), "<i2", info.frames, info.pcm_offset))
