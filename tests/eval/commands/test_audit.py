"""From shards or embeddings to drop.txt; what it names is what was swapped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from eval_fakes import Ears

from eval import subject
from eval.audit.audit import Audit, Pair, Suspect
from eval.audit.outputs import dropped
from eval.commands.audit import main
from eval.embeddings import Embeddings, load_embeddings
from shard_tools.pack.packing import PackOptions, pack


@pytest.fixture
def saved(tmp_path):
    """Embeddings of 20 speakers' 8 utterances, of which three lie in others' folders."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((20, 32))
    truth = np.repeat(np.arange(20), 8)
    said = truth.copy()
    said[[3, 50, 101]] = [7, 1, 2]
    vectors = (centres[truth] + 0.5 * random.standard_normal((160, 32))).astype(np.float32)[:, None]
    names = tuple(f"id{speaker:02d}/v/{n:03d}.wav" for n, speaker in enumerate(said))
    Embeddings(names, vectors, 0, 0, "ab" * 32).save(str(tmp_path / "e.npz"))
    return tmp_path / "e.npz"


@pytest.mark.slow
def test_swapped_utterances_are_named(saved, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--embeddings", str(saved), "--out", str(out)]) == 0
    assert (out / "drop.txt").read_text().split() == ["id07/v/003", "id01/v/050", "id02/v/101"]
    told = json.loads((out / "audit.json").read_text())
    assert (told["utterances"], told["speakers"], told["suspect_utterances"]) == (160, 20, 3)
    assert {one["key"]: one["rival_speaker"] for one in told["suspects"]} == {
        "id07/v/003": "id00", "id01/v/050": "id06", "id02/v/101": "id12"
    }  # fmt: skip
    assert told["settings"]["checkpoint_sha256"] == "ab" * 32
    page = (out / "audit.html").read_text()
    assert "id07/v/003" in page
    said = capsys.readouterr()
    assert "3 suspect (0 like nobody in the set), 0 pairs" in said.out
    assert "warning" not in said.err
    assert "Not to be believed" not in page
    assert main(["--embeddings", str(saved), "--out", str(out), "--margin", "1.9"]) == 0
    assert (out / "drop.txt").read_text() == ""


@pytest.mark.slow
def test_shards_are_embedded_and_their_labels_taken(voices, tmp_path, monkeypatch):
    url, out = str(tmp_path / "shards"), tmp_path / "out"
    pack(str(voices.folder), url, options=PackOptions(utterances_per_shard=5))
    (tmp_path / "c.pt").write_bytes(b"a checkpoint")
    monkeypatch.setattr(subject, "decode_checkpoint", lambda data, url: {"config": {}, "step": 1})
    monkeypatch.setattr(subject, "load_network", lambda checkpoint, device, name: Ears().eval())
    kept = str(tmp_path / "kept.npz")
    words = ["--data", url, "--out", str(out), "--save-embeddings", kept, "--device", "cpu"]
    with torch.inference_mode():
        assert main([str(tmp_path / "c.pt"), *words]) == 0
    told = json.loads((out / "audit.json").read_text())
    assert (told["utterances"], told["speakers"]) == (12, 4)
    assert len(load_embeddings(kept)) == 12
    again = tmp_path / "again"
    assert main(["--embeddings", kept, "--data", url, "--out", str(again)]) == 0
    assert (again / "drop.txt").read_text() == (out / "drop.txt").read_text()
    assert json.loads((again / "audit.json").read_text())["suspects"] == told["suspects"]


def test_what_is_to_be_given_is_said(saved, tmp_path, capsys):
    for words, said in (
        ([], "one of the two"),
        (["c.pt", "--embeddings", str(saved)], "one of the two"),
        (["c.pt"], "--data is not set"),
        (["--embeddings", str(tmp_path / "absent")], "absent"),
    ):
        assert main([*words, "--out", str(tmp_path / "out")]) == 1
        assert said in capsys.readouterr().err
    flat = Embeddings(("a.wav", "b.wav"), np.ones((2, 1, 2), np.float32), 0, 0)
    flat.save(str(tmp_path / "flat.npz"))
    assert main(["--embeddings", str(tmp_path / "flat.npz"), "--out", str(tmp_path / "out")]) == 1
    assert "no folder in its name tells the speaker" in capsys.readouterr().err


def test_of_duplicates_the_smaller_goes():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    suspects = (Suspect(6, 2, 0.1, 0.5, 0, "other speaker"),)
    pairs = (Pair(0, 1, 0.9), Pair(1, 2, 0.8), Pair(2, 3, 0.7))
    found = Audit(suspects, pairs, 3, 0.6, (), None)
    assert dropped(found, labels, duplicates=False) == [6]
    assert dropped(found, labels, duplicates=True) == [3, 4, 6, 9]


@pytest.mark.slow
def test_a_network_that_tells_nobody_apart_is_not_believed(tmp_path, capsys):
    random = np.random.default_rng(0)
    names = tuple(f"s{n // 4}/{n}.wav" for n in range(80))
    vectors = random.standard_normal((80, 1, 16)).astype(np.float32)
    Embeddings(names, vectors, 0, 0).save(str(tmp_path / "e.npz"))
    assert main(["--embeddings", str(tmp_path / "e.npz"), "--out", str(tmp_path / "out")]) == 0
    assert "do not tell its speakers apart" in capsys.readouterr().err
    assert "Not to be believed" in (tmp_path / "out" / "audit.html").read_text()
