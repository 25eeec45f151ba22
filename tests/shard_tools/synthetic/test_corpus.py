"""The synthetic corpus: layout, lists, determinism, and that a folder is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.errors import UserError
from shard_tools.synthetic import corpus as module
from shard_tools.synthetic.corpus import Corpus, draw_trials

TINY = Corpus(
    speakers=3, utterances=5, test_speakers=2, test_utterances=3, noises=3, rooms=2, seconds=0.6, seed=7
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    assert module.synthesise(folder, TINY, workers=1, progress=False)
    return folder


@pytest.mark.slow
def test_layout_and_format(corpus: Path) -> None:
    files = [name for name in contents(corpus) if name.endswith(".wav")]
    counts = {
        part: sum(name.startswith(part + "/") for name in files) for part in ("train", "test", "noise", "rir")
    }
    assert counts == {"train": 15, "test": 6, "noise": 3 * (2 + 1 + 3), "rir": 2}
    assert {name.split("/")[1] for name in files if name.startswith("noise/")} == {"noise", "music", "speech"}
    for name in files:
        info = sf.info(corpus / name)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16"), name
        samples = sf.read(corpus / name, dtype="int16")[0]
        assert 0 < np.abs(samples).max() <= 32767
        assert np.mean(np.abs(samples) == 32767) < 0.001, f"{name} is clipped"


@pytest.mark.slow
def test_lists_name_the_files(corpus: Path) -> None:
    lines = (corpus / "lists/train_list.txt").read_text().splitlines()
    pairs = [line.split() for line in lines]
    on_disk = {str(path.relative_to(corpus / "train")) for path in (corpus / "train").rglob("*.wav")}
    assert {path for _, path in pairs} == on_disk
    assert all(path.split("/")[0] == speaker for speaker, path in pairs)
    trials = [line.split() for line in (corpus / "lists/veri_test.txt").read_text().splitlines()]
    assert sum(label == "1" for label, _, _ in trials) * 2 == len(trials) == 2 * 2 * 3
    assert all((corpus / "test" / path).is_file() for _, *paths in trials for path in paths)
    assert not {speaker for speaker, _ in pairs} & {left.split("/")[0] for _, left, _ in trials}


@pytest.mark.slow
def test_same_bytes_however_many_processes(corpus: Path, tmp_path: Path) -> None:
    module.synthesise(tmp_path / "again", TINY, workers=2, progress=False)
    assert contents(tmp_path / "again") == contents(corpus)


@pytest.mark.slow
def test_every_utterance_has_words_level_and_length_of_its_own(corpus: Path) -> None:
    for speaker in (corpus / "train").iterdir():
        said = [sf.read(path)[0] for path in sorted(speaker.rglob("*.wav"))]
        assert len({len(samples) for samples in said}) > 1
        levels = [20 * np.log10(np.sqrt(np.mean(samples**2))) for samples in said]
        assert max(levels) - min(levels) > 3


def test_a_second_run_touches_nothing(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert not module.synthesise(corpus, TINY, workers=1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def small(**changes: int) -> Corpus:
    return Corpus(**{"speakers": 0, "test_speakers": 0, "noises": 1, "rooms": 1, **changes})


@pytest.mark.slow
def test_another_corpus_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    module.synthesise(folder, small(), workers=1, progress=False)
    with pytest.raises(UserError, match="--replace"):
        module.synthesise(folder, small(seed=1), workers=1, progress=False)
    assert json.loads((folder / "corpus.json").read_text())["seed"] == 0
    assert module.synthesise(folder, small(seed=1), workers=1, replace=True, progress=False)
    assert json.loads((folder / "corpus.json").read_text())["seed"] == 1
    assert not (folder / "train").exists()


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no synthetic corpus"):
        module.synthesise(tmp_path, small(), workers=1, replace=True, progress=False)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(module, "draw_room", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            module.synthesise(folder, small(), workers=1, progress=False)
    assert not folder.exists()
    assert module.synthesise(folder, small(), workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--speakers", "-1", "speakers is -1"),
        ("--test-speakers", "1", "test_speakers is 1"),
        ("--rooms", "0", "rooms is 0"),
        ("--seconds", "0.1", "seconds is 0.1"),
        ("--seed", "-3", "seed is -3"),
        ("--workers", "0", "--workers is 0"),
        ("--workers", "100000", "--workers is 100000"),
        ("--speakers", "999999999", "it must be at most 100000"),
    ],
)
def test_bad_options_are_one_line(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module.main([str(tmp_path / "corpus"), option, value]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "corpus").exists()


def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert module.main([str(tmp_path / "file" / "corpus"), "--speakers", "0"]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path}/file/corpus" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_trials_of_a_large_corpus_are_drawn_from_some_of_it() -> None:
    files = {f"s{speaker}": [f"s{speaker}/{n}.wav" for n in range(10_000)] for speaker in range(40)}
    assert len(draw_trials(files, 1000, 0)) == 2000


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=7).filter(lambda counts: max(counts) > 1),
    limit=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_trials_are_balanced_true_and_distinct(counts: list[int], limit: int, seed: int) -> None:
    files = {
        f"s{speaker}": [f"s{speaker}/{n}.wav" for n in range(count)] for speaker, count in enumerate(counts)
    }
    lines = draw_trials(files, limit, seed)
    trials = [line.split() for line in lines]
    pairs = {frozenset(paths) for _, *paths in trials}
    assert len(pairs) == len(trials)
    assert all(len(pair) == 2 for pair in pairs)
    for label, left, right in trials:
        assert (label == "1") == (left.split("/")[0] == right.split("/")[0])
    labels = [label for label, _, _ in trials]
    assert 1 <= labels.count("1") == labels.count("0") <= limit
    assert draw_trials(files, limit, seed) == lines


@pytest.mark.parametrize("files", [{}, {"a": ["a/1", "a/2"]}, {"a": ["a/1"], "b": ["b/1"]}])
def test_no_trials_without_two_kinds(files: dict[str, list[str]]) -> None:
    with pytest.raises(UserError, match="no trials can be drawn"):
        draw_trials(files, 10, 0)
