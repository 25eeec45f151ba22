"""`python -m eval embed`: shards, folders and lists into one file, which goes on after a kill."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from checkpoints import write_checkpoint

from eval.__main__ import main
from eval.embedding_files import read_embeddings
from eval.embeddings import load_embeddings
from eval.kept import Kept
from shard_tools.pack.packing import pack


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "c.pt")


def embed(checkpoint, data, out, *more):
    return main(["embed", checkpoint, "--data", str(data), "--out", str(out), "--device", "cpu", *more])


@pytest.mark.slow
def test_folders_shards_and_lists_give_the_same(checkpoint, voices, tmp_path, capsys):
    pack(str(voices.folder), str(tmp_path / "shards"))
    (tmp_path / "wav.scp").write_text("".join(f"{name} {voices.folder / name}\n" for name in voices.lengths))
    found = {}
    for what, data in {"f": voices.folder, "s": tmp_path / "shards", "l": tmp_path / "wav.scp"}.items():
        assert embed(checkpoint, data, tmp_path / f"{what}.npz", "--crops", "2", "--crop-frames", "30") == 0
        found[what] = load_embeddings(str(tmp_path / f"{what}.npz"))
    assert "12 utterances, 2 x 16 numbers each, 2 crops of 30 frames" in capsys.readouterr().out
    assert sorted(found["f"].names) == sorted(voices.lengths)
    assert found["l"].names == tuple(voices.lengths)
    assert sorted(found["s"].names) == sorted(name.rsplit(".", 1)[0] for name in voices.lengths)
    for each in (found["s"], found["l"]):
        same = each.take(found["f"].names)  # by name, whatever its extension
        np.testing.assert_allclose(same.vectors, found["f"].vectors, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(same.seconds, found["f"].seconds)
    assert not list(tmp_path.glob("*.parts"))
    words = ["--embeddings", str(tmp_path / "s.npz"), "--trials", str(voices.trials)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0


def test_audio_of_other_kinds_is_converted_and_that_is_said_once(checkpoint, tmp_path, capsys):
    noise = np.random.default_rng(0).standard_normal((8000, 2)) / 10
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.ogg", noise, 8000)
    assert embed(checkpoint, tmp_path, tmp_path / "e.ark") == 0
    assert capsys.readouterr().err.count("is converted, as all such files are") == 1
    assert read_embeddings(str(tmp_path / "e.scp")).names == ("0.ogg", "1.ogg")


def test_what_a_kill_left_is_gone_on_with(checkpoint, voices, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.embed_all.PART_UTTERANCES", 5)
    calls, add = [], Kept.add

    def publish(self, names, stamps, heard):
        if calls:
            raise KeyboardInterrupt
        calls.append(len(names))
        add(self, names, stamps, heard)

    with monkeypatch.context() as patched:
        patched.setattr("eval.kept.Kept.add", publish)
        assert embed(checkpoint, voices.folder, tmp_path / "e.npz") == 130
    assert not (tmp_path / "e.npz").exists()
    assert embed(checkpoint, voices.folder, tmp_path / "e.npz") == 0
    assert "5 of 12 embeddings were made before" in capsys.readouterr().err
    assert embed(checkpoint, voices.folder, tmp_path / "whole.npz") == 0
    again, whole = (load_embeddings(str(tmp_path / f"{name}.npz")) for name in ("e", "whole"))
    np.testing.assert_array_equal(again.vectors, whole.vectors)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a b c.wav\nx\ty\tz\n", "list.txt, line 2: expected 'PATH' or 'NAME PATH'"),
        ("a x.wav\na y.wav\n", "line 2: 'a' stands there twice"),
        ("a sox x.wav |\n", "line 1: expected"),
        ("\n", "the list is empty"),
        ("a nowhere.wav\n", "1 of the 1 utterances in"),
    ],
)
def test_lists_that_are_none(checkpoint, tmp_path, capsys, text, said):
    (tmp_path / "list.txt").write_text(text)
    assert embed(checkpoint, tmp_path / "list.txt", tmp_path / "e.npz") == 1
    assert said in capsys.readouterr().err


def test_places_that_are_none(checkpoint, tmp_path, capsys):
    for data, said in {
        tmp_path / "nowhere": "no such folder or list",
        tmp_path: "no audio files below this folder",
        "memory://nothing-here": "holds no manifest.json",
    }.items():
        assert embed(checkpoint, data, tmp_path / "e.npz") == 1
        assert said in capsys.readouterr().err
    assert embed(checkpoint, tmp_path, tmp_path / "e.txt") == 1
    assert "must end in .npz or .ark" in capsys.readouterr().err
