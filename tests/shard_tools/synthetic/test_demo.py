"""The demo: its split of a corpus, its options, and (slow) all its commands at a tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import processes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import REPO

from shard_tools.errors import UserError
from shard_tools.synthetic import demo
from train.config.parsing import parse


def files_of(counts: list[int]) -> dict[str, list[str]]:
    return {f"s{number:03d}": [f"s{number:03d}/{n}.wav" for n in range(c)] for number, c in enumerate(counts)}


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=120))
def test_split_is_a_partition_that_can_make_trials(counts: list[int]) -> None:
    files = files_of(counts)
    try:
        split = demo.split_speakers(files)
    except UserError:
        able = sum(count > 1 for count in counts)
        assert len(counts) < demo.LEAST_HELD_OUT + demo.LEAST_TRAINED or able < max(5, len(counts) // 10)
        return
    assert {**split.train, **split.test} == files
    assert not split.train.keys() & split.test.keys()
    assert len(split.test) == max(demo.LEAST_HELD_OUT, len(counts) // 10)
    assert all(len(paths) > 1 for paths in split.test.values())
    assert demo.split_speakers(dict(reversed(files.items()))).test.keys() == split.test.keys()


@pytest.mark.parametrize("speakers", [4, 5, 17, 64, 127, 128, 2000])
def test_batch_fits_the_corpus_and_the_processes(speakers: int) -> None:
    batch = demo.batch_speakers(speakers)
    assert batch % demo.PROCESSES == 0
    assert 2 * batch <= max(speakers, 4)
    assert batch <= demo.BATCH_SPEAKERS


def test_find_files_takes_audio_below_speakers_only(tmp_path: Path) -> None:
    for name in ("a/x/1.wav", "a/2.flac", "b/1.wav", "b/notes.txt", "loose.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert demo.find_files(tmp_path) == {"a": ["a/2.flac", "a/x/1.wav"], "b": ["b/1.wav"]}


def test_lists_of_a_split(tmp_path: Path) -> None:
    split = demo.split_speakers(files_of([3] * 10))
    demo.write_lists(split, tmp_path)
    train = [line.split() for line in (tmp_path / "train_list.txt").read_text().splitlines()]
    trials = [line.split() for line in (tmp_path / "veri_test.txt").read_text().splitlines()]
    assert {path for _, path in train} == {path for paths in split.train.values() for path in paths}
    assert {path.split("/")[0] for _, *paths in trials for path in paths} == set(split.test)
    assert sum(label == "1" for label, *_ in trials) * 2 == len(trials) == 2 * 5 * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no .wav or .flac file"),
        (lambda folder: [(folder / s).mkdir(parents=True) or (folder / s / "1.wav").touch() for s in "abc"],
         "3 speakers, 0 of them with two utterances"),
    ],
)  # fmt: skip
def test_an_unfit_corpus_is_one_clear_line(
    make: object,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert callable(make)
    make(tmp_path / "corpus")
    monkeypatch.chdir(REPO)
    assert demo.main(["--corpus", str(tmp_path / "corpus"), "--folder", str(tmp_path / "demo")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_failing_command_stops_the_demo() -> None:
    stages = demo.Stages()
    with pytest.raises(UserError, match="packing ended with status 3"):
        stages.run("packing", ["-c", "raise SystemExit(3)"], ["-c", "raise AssertionError('not reached')"])
    assert stages.taken == []


@pytest.mark.slow
def test_the_demo_and_its_config_agree() -> None:
    arguments = ["--config", str(REPO / demo.CONFIG)]
    as_is = parse(arguments)
    pointed = parse(arguments + demo.overrides(Path("runs/demo/train"), Path("runs/demo/shards"), 10**4))
    assert as_is == pointed


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((REPO / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_can_be_used(path: Path) -> None:
    config = parse(["--config", str(path)])
    assert config.run.folder.startswith("runs/")


@pytest.mark.slow
def test_demo_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of its commands in a process of its own, which starts warm."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        done = processes.answer(command)
        print(done.stdout)
        print(done.stderr, file=sys.stderr)
        return done

    monkeypatch.chdir(REPO)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(demo, "subprocess", SimpleNamespace(run=run))
    stale = [tmp_path / part / "stale" for part in ("shards", "train", "eval-before", "eval-after")]
    for file in stale:
        file.parent.mkdir()
        file.touch()
    command = ["--folder", str(tmp_path), "--speakers", "8", "--utterances", "2", "--steps", "3"]
    status = demo.main(command)
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    for folder, step in (("eval-before", 0), ("eval-after", 3)):
        metrics = json.loads((tmp_path / folder / "metrics.json").read_text())
        assert metrics["step"] == step
        assert 0 <= metrics["eer"] <= 100
        assert metrics["trials"] == 2 * 2 * 12 * 11 / 2
        assert f"{metrics['eer']:6.2f} %" in said.out
        assert (tmp_path / folder / "report.html").stat().st_size > 1000
    assert not [file for file in stale if file.exists()]
    assert (tmp_path / "train/checkpoints/step-00000003.pt").is_file()
