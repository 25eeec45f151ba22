from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from shard_tools import audio
from shard_tools.dataprep import cli
from shard_tools.dataprep.splitting import cut
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.read.reader import Reader


def recording(path: Path, frames: int) -> np.ndarray:
    samples = (np.arange(frames) % 30011).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio.encode(samples, "wav"))
    return samples


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    for category, seconds in (("music", 14), ("noise", 5), ("speech", 9)):
        recording(folder / "musan" / category / "part" / f"{category}-0000.wav", seconds * 16000)
    (folder / "musan" / "README").write_text("words")
    for kind in ("smallroom", "mediumroom", "largeroom"):
        recording(folder / "RIRS_NOISES/simulated_rirs" / kind / "Room001" / "Room001-00001.wav", 4000)
    recording(folder / "RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_a.wav", 4000)
    return folder


def run(*words: object) -> int:
    return cli.main(["augment", *map(str, words), "--workers", "1"])


def test_musan_is_packed_whole_and_large_rooms_are_left_out(data, tmp_path):
    assert run(tmp_path / "out", "--save-path", data) == 0
    musan, rirs = (open_catalogue(str(tmp_path / "out" / name)) for name in ("musan", "rirs"))
    assert musan.speakers == ("music", "noise", "speech")
    assert sorted(musan.frames.tolist()) == [5 * 16000, 9 * 16000, 14 * 16000]
    assert rirs.speakers == ("mediumroom", "smallroom")
    assert [rirs.key(u) for u in range(len(rirs))].count("smallroom/Room001/Room001-00001") == 1
    assert len(rirs) == 2


def test_split_gives_the_trainer_s_pieces(data, tmp_path, capsys):
    assert run(tmp_path / "out", "--save-path", data, "--only", "musan", "--split") == 0
    assert "5 pieces of 5 s; 1 of 3 recordings" in capsys.readouterr().out
    # Its loop, and its way of writing.
    for path in (data / "musan").glob("*/*/*.wav"):
        rate, samples = wavfile.read(path)
        pieces = {}
        for start in range(0, len(samples) - 16000 * 5, 16000 * 3):
            wavfile.write(tmp_path / "piece.wav", rate, samples[start : start + 16000 * 5])
            pieces[f"{start / rate:05.0f}.wav"] = (tmp_path / "piece.wav").read_bytes()
        ours = Path(str(path.with_suffix("")).replace("/musan/", "/musan_split/"))
        assert {piece.name: piece.read_bytes() for piece in ours.glob("*")} == pieces
    catalogue = open_catalogue(str(tmp_path / "out" / "musan"))
    assert set(catalogue.frames.tolist()) == {5 * 16000}
    found = Reader(catalogue).utterance(catalogue.find("music/part/music-0000/00006"))
    assert np.array_equal(found, (np.arange(6 * 16000, 11 * 16000) % 30011).astype(np.int16))


def test_splitting_goes_on_where_it_was(data, tmp_path):
    left = data / "musan_split" / "music" / "part" / ".music-0000.part"
    left.mkdir(parents=True)
    (left / "00000.wav").write_bytes(b"half")
    assert run(tmp_path / "out", "--save-path", data, "--only", "musan", "--split") == 0
    assert not left.exists()
    made = sorted((data / "musan_split").rglob("*.wav"))
    times = [path.stat().st_mtime_ns for path in made]
    assert run(tmp_path / "out", "--save-path", data, "--only", "musan", "--split") == 0
    assert [path.stat().st_mtime_ns for path in made] == times


@pytest.mark.parametrize("seconds", [0, 4, 5])
def test_short_recordings_give_no_piece(seconds):
    assert cut(np.zeros(seconds * 16000, np.int16)) == []


def test_what_is_missing_is_named_before_anything_is_packed(data, tmp_path, capsys):
    (data / "RIRS_NOISES/simulated_rirs/smallroom").rename(data / "elsewhere")
    assert run(tmp_path / "out", "--save-path", data) == 1
    said = capsys.readouterr().err
    assert "simulated_rirs: no folder smallroom in it; extract it there" in said
    assert not (tmp_path / "out").exists()


def test_damaged_recordings_are_named_when_all_others_are_cut(data, tmp_path, capsys):
    path = data / "musan/noise/part/noise-0000.wav"
    path.write_bytes(path.read_bytes()[:-100])
    assert run(tmp_path / "out", "--save-path", data, "--only", "musan", "--split") == 1
    assert f"{path}: truncated" in capsys.readouterr().err
    assert (data / "musan_split/speech/part/speech-0000/00003.wav").is_file()
