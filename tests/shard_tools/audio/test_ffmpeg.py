from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aac_files import encoded, speechlike

from shard_tools import audio
from shard_tools.audio import ffmpeg
from shard_tools.audio.convert import convert
from shard_tools.audio.info import bytes_window

SPEECH = speechlike(24000)
M4A = encoded(SPEECH)
IN_FRONT = encoded(SPEECH, faststart=True)


def likeness(left: np.ndarray, right: np.ndarray) -> float:
    """The best correlation over the shifts that an encoder's delay may leave."""
    best = 0.0
    for shift in range(-80, 81):
        a, b = left[200 + shift : 15000 + shift], right[200:15000]
        best = max(best, float(np.corrcoef(a, b)[0, 1]))
    return best


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("ipod", "aac", 16000),
        ("mp4", "aac", 16000),
        ("adts", "aac", 16000),
        ("webm", "libopus", 16000),
        ("mov", "pcm_s16le", 16000),
        ("mov", "pcm_f32le", 16000),
        ("matroska", "pcm_s16le", 16000),
    ],
)
def test_what_comes_out_is_what_went_in(container, codec, rate):
    samples = convert(encoded(SPEECH, rate, container=container, codec=codec), "x").samples
    delay = (
        1024 if (container, codec) == ("adts", "aac") else 0
    )  # of the encoder; nothing in the file tells it
    assert abs(len(samples) - delay - len(SPEECH)) <= 2048
    if codec.startswith("pcm"):
        assert np.array_equal(samples, SPEECH)
    else:
        assert likeness(samples[delay:], SPEECH) > 0.9


def test_channels_are_averaged_and_rates_changed():
    stereo = np.stack([speechlike(44100, rate=44100), np.zeros(44100, np.int16)], 1)
    samples = convert(encoded(stereo, 44100, container="matroska", codec="pcm_s16le"), "x").samples
    half = convert(encoded(stereo[:, 0] // 2, 44100, container="matroska", codec="pcm_s16le"), "x").samples
    assert len(samples) == 16000
    assert np.abs(samples.astype(int) - half).max() <= 1


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")
def test_samples_are_those_of_the_original_s_command(tmp_path):
    (tmp_path / "a.m4a").write_bytes(M4A)
    options = ["-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", "16000"]
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.m4a", *options, tmp_path / "a.wav"]
    subprocess.run(command, check=True)
    theirs = convert((tmp_path / "a.wav").read_bytes(), "x").samples
    ours = convert(M4A, "x").samples
    assert len(ours) == len(theirs)
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # FFmpeg's versions differ in the last bit


@pytest.mark.parametrize("whole", [M4A, IN_FRONT, encoded(SPEECH, container="mp4", faststart=True)])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_mpeg_4_that_is_cut_is_refused_wherever(whole, share):
    cut = whole[: 12 + int((len(whole) - 13) * share)]
    with pytest.raises(audio.AudioError, match=r"^x: (truncated|damaged|not audio)"):
        convert(cut, "x")


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("matroska", "aac"), ("asf", "wmav2")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_other_containers_that_are_cut_are_refused(container, codec, share):
    data = encoded(speechlike(80000), container=container, codec=codec)
    with pytest.raises(audio.AudioError, match=r"^x: "):
        convert(data[: int(len(data) * share)], "x")


def test_damage_within_is_refused():
    at = IN_FRONT.index(b"mdat") + 1000
    damaged = IN_FRONT[:at] + bytes(3000) + IN_FRONT[at + 3000 :]
    with pytest.raises(audio.AudioError, match=r"^x: "):
        convert(damaged, "x")


def test_a_video_s_sound_is_taken_and_its_absence_said():
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    with pytest.raises(audio.AudioError, match=r"^x: holds no audio"):
        convert(file.getvalue(), "x")


def test_a_codec_that_nobody_knows_is_said():
    data = encoded(SPEECH, container="asf", codec="wmav2")
    at = data.index(b"\x61\x01\x01\x00")  # WAVEFORMATEX: WMA 2, one channel
    with pytest.raises(audio.AudioError, match=r"^x: its audio is of a codec that FFmpeg does not know"):
        convert(data[:at] + b"\xee" + data[at + 1 :], "x")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_no_file_has_another_read(tmp_path, text):
    (tmp_path / "secret.m4a").write_bytes(M4A)
    with pytest.raises(audio.AudioError, match=r"^x: not audio that can be converted"):
        convert(text.replace("{path}", str(tmp_path / "secret.m4a")).encode(), "x")


def test_the_look_at_a_header_decodes_nothing_and_finds_what_is_cut():
    for data in (M4A, encoded(SPEECH, container="webm", codec="libopus")):
        ffmpeg.check(bytes_window(data), len(data), "x")
    with pytest.raises(audio.AudioError, match=r"truncated MPEG-4: its box 'moov' ends at byte"):
        ffmpeg.check(bytes_window(M4A[:-9]), len(M4A) - 9, "x")
    with pytest.raises(audio.AudioError, match=r"not audio that can be converted"):
        ffmpeg.check(bytes_window(b"no audio" * 99), 8 * 99, "x")


def test_without_pyav_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(audio.AudioError, match=r"x: .*pip install 'voxshard\[prep\]'$"):
        convert(M4A, "x")


def test_names_that_are_no_utf_8_in_tags_do_not_matter(tmp_path: Path):
    at = IN_FRONT.index(b"Lavf")
    tagged = IN_FRONT[:at] + b"\xff\xfe\xfd\xfc" + IN_FRONT[at + 4 :]
    assert np.array_equal(convert(tagged, "x").samples, convert(IN_FRONT, "x").samples)
