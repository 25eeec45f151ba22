from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools import audio, storage
from shard_tools.cli import main
from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack import repair as repairing
from shard_tools.pack.appending import append
from shard_tools.pack.difference import rows_that_differ
from shard_tools.pack.foreign import index_tars
from shard_tools.pack.intake import Wanted
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.pack.repair import repair
from shard_tools.pack.selection import Selection
from shard_tools.storage import Folder

SMALL = PackOptions(utterances_per_shard=8)


@pytest.fixture
def out(corpus, tmp_path) -> Path:
    pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def rewritten(corpus, number: int, url: str, frames_more: int = 0) -> str:
    """Other samples in the first WAV of a shard; its path."""
    rows = json.loads((Path(url) / "manifest.json").read_bytes())["shardlist"][number]
    with tarfile.open(Path(url) / rows["url"]) as tar:
        name = next(name for name in tar.getnames() if name.endswith(".wav"))
    samples = corpus.samples[name]
    other = np.concatenate([samples ^ 1, np.zeros(frames_more, np.int16)])
    soundfile.write(corpus.root / name, other, 16000, subtype="PCM_16")
    return name


def sorted_list(corpus) -> str:
    """A list of what lies below the root, in the order of packing without one."""
    path = corpus.root.parent / "list.txt"
    path.write_text("".join(f"{name.split('/')[0]} {name}\n" for name in sorted(corpus.samples)))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_bad_or_missing_is_put_back_to_the_byte(corpus, out, workers):
    before = contents(out)
    kept = (out / "shard-000002.tar").stat().st_mtime_ns
    flip(out / "shard-000000.tar", 3000)
    (out / "shard-000001.tar").unlink()
    (out / "shard-000001.index.npz").unlink()
    flip(out / "shard-000002.index.npz", 3000)
    # what lies in whole shards alone is not asked for
    with open(out / "shard-000003.tar", "rb") as tar:
        whole = tar.read()
    for path in corpus.samples:
        if f"{path}".encode() in whole:
            (corpus.root / path).unlink()
    summary = repair(str(out), str(corpus.root), list_url=sorted_list(corpus), workers=workers)
    assert summary.before.problems
    assert summary.after.problems == []
    assert summary.put_back == {
        0: ("shard-000000.tar",),
        1: ("shard-000001.index.npz", "shard-000001.tar"),
        2: ("shard-000002.index.npz",),
    }
    assert summary.unrepaired == {}
    assert contents(out) == before
    assert (out / "shard-000002.tar").stat().st_mtime_ns == kept


def test_a_whole_set_is_left_alone(corpus, out):
    summary = repair(str(out), str(corpus.root))
    assert (summary.put_back, summary.unrepaired, summary.after.problems) == ({}, {}, [])


@pytest.mark.slow
@pytest.mark.parametrize("frames_more", [0, 5])
@pytest.mark.parametrize("lost", ["shard-000001.tar", "shard-000001.index.npz"])
def test_a_file_that_changed_is_named_and_the_others_are_repaired(corpus, out, capsys, lost, frames_more):
    before = contents(out)
    name = rewritten(corpus, 1, str(out), frames_more)
    (out / lost).unlink()
    (out / "shard-000003.tar").unlink()
    words = ["verify", str(out), "--repair", str(corpus.root), "--workers", "1"]
    assert main([*words, "--json"]) == 1
    captured = capsys.readouterr()
    assert "1 problem left, 1 shard repaired" in captured.err
    document = json.loads(captured.out)
    assert not document["whole"]
    assert [shard["state"] for shard in document["shards"]] == ["whole", "unrepaired", "whole", "repaired"]
    _, unrepaired, whole, repaired = document["shards"]
    if frames_more or lost.endswith(".npz"):
        assert unrepaired["unrepaired"] == f"{corpus.root / name} has changed since it was packed"
    else:  # of the lost tar the index has a checksum for each 8 KiB, where two of these files lie
        assert "of these files some have changed since they were packed (2): " in unrepaired["unrepaired"]
        assert str(corpus.root / name) in unrepaired["unrepaired"]
    assert (unrepaired["missing"], unrepaired["repaired"]) == ([lost], [])
    assert (repaired["missing"], repaired["repaired"]) == (["shard-000003.tar"], ["shard-000003.tar"])
    assert "does not exist" in repaired["problems"][0]
    assert (whole["problems"], whole["unrepaired"]) == ([], "")
    del before[lost]
    assert contents(out) == before
    assert main(words) == 1
    assert f"shard-000001.tar: not repaired: {unrepaired['unrepaired']}\n" in capsys.readouterr().out


def test_nothing_is_left_to_tell_the_file_that_changed(corpus, out):
    name = rewritten(corpus, 1, str(out))
    (out / "shard-000001.tar").unlink()
    (out / "shard-000001.index.npz").unlink()
    os.utime(corpus.root / name, (2e9, 2e9))
    summary = repair(str(out), str(corpus.root))
    assert f"the last written is {corpus.root / name} (2033-05-1" in summary.unrepaired[1]
    assert not (out / "shard-000001.tar").exists()


def test_files_that_are_gone_or_cut_are_named(corpus, out):
    name = rewritten(corpus, 1, str(out))
    (corpus.root / name).write_bytes(b"RIFF")
    (out / "shard-000001.tar").unlink()
    assert f"{corpus.root / name}: " in repair(str(out), str(corpus.root)).unrepaired[1]
    listed = sorted_list(corpus)
    (corpus.root / name).unlink()
    summary = repair(str(out), str(corpus.root), list_url=listed)
    assert f"{corpus.root / name}: does not exist" in summary.unrepaired[1]


def test_what_was_packed_wrong_cannot_be_packed_again(corpus, out):
    name = "shard-000001.index.npz"
    index = index_file.from_bytes((out / name).read_bytes(), "x")
    fewer = index.frames - (np.arange(len(index)) == 0)
    data = index_file.to_bytes(replace(index, frames=fewer))
    manifest = manifest_file.in_folder(Folder(str(out)))
    entry = replace(
        manifest.shards[1],
        index_sha256=hashlib.sha256(data).hexdigest(),
        frames=manifest.shards[1].frames - 1,
    )
    (out / name).write_bytes(data)
    shards = (manifest.shards[0], entry, *manifest.shards[2:])
    (out / "manifest.json").write_bytes(manifest_file.to_bytes(replace(manifest, shards=shards)))
    summary = repair(str(out), str(corpus.root))
    assert "so it was packed like this; pack anew" in summary.unrepaired[1]
    assert summary.after.problems


@pytest.mark.slow
def test_a_lost_index_needs_the_list_that_was_packed(corpus, out, tmp_path):
    """A whole index says what is in its shard, whatever else a list or root has; nothing else does."""
    (out / "shard-000000.tar").unlink()
    (out / "shard-000001.index.npz").unlink()
    before = contents(out)
    whole_list = sorted_list(corpus)
    corpus.add("id9/video0/00000.wav")
    summary = repair(str(out), str(corpus.root))
    assert summary.put_back == {0: ("shard-000000.tar",)}
    assert (
        f"its index is bad, and {corpus.root} has 26 utterances of 6 speakers in 4 shards, the manifest"
        " 25 utterances of 5 speakers in 4 shards; give ROOT, and --list" in summary.unrepaired[1]
    )
    lines = Path(whole_list).read_text().splitlines()
    (tmp_path / "turned").write_text("\n".join(lines[::-1]))
    summary = repair(str(out), str(corpus.root), list_url=str(tmp_path / "turned"))
    assert "would hold" in summary.unrepaired[1]
    assert {name: data for name, data in contents(out).items() if name in before} == before
    assert repair(str(out), str(corpus.root), list_url=whole_list).after.problems == []


def test_another_root_is_refused_before_anything_is_read(corpus, out, tmp_path):
    (out / "shard-000001.tar").unlink()
    with pytest.raises(UserError, match=r"audio: has no speaker of .*manifest.json; give ROOT, and --list"):
        repair(str(out), str(corpus.root), speaker="noise")
    with pytest.raises(UserError, match="does not exist"):
        repair(str(out), str(tmp_path / "none"))
    (tmp_path / "few").write_text("id0 id0/video0/00000.wav\n")
    summary = repair(str(out), str(corpus.root), list_url=str(tmp_path / "few"))
    assert "few: names no file with the key id" in summary.unrepaired[1]
    assert not (out / "shard-000001.tar").exists()


@pytest.mark.slow
def test_options_and_speaker_are_those_of_the_pack(corpus, tmp_path):
    options = PackOptions(format="flac", convert=True, utterances_per_shard=6, group=2, seed=3)
    stereo = corpus.root / "id0" / "stereo.wav"
    soundfile.write(stereo, np.zeros((900, 2), np.int16), 8000, subtype="PCM_16")
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=options, speaker="noise")
    before = contents(out)
    for path in out.glob("*.tar"):
        path.unlink()
    assert repair(str(out), str(corpus.root), speaker="noise").after.problems == []
    assert contents(out) == before


def test_another_encoder_is_told_from_changed_files(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=PackOptions(format="flac", utterances_per_shard=9))
    (out / "shard-000001.tar").unlink()

    def other(samples: np.ndarray, codec: str) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, 16000, format="FLAC", subtype="PCM_16", compression_level=0.0)
        return file.getvalue()

    monkeypatch.setattr(audio, "encode", other)
    reason = repair(str(out), str(corpus.root)).unrepaired[1]
    assert "the encoder of this machine" in reason


def test_tars_of_others_cannot_be_repaired(corpus, out, capsys):
    (out / "manifest.json").unlink()
    index_tars(str(out))
    (out / "shard-000001.tar").unlink()
    assert main(["verify", str(out), "--repair", str(corpus.root), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "make-shards index only described them" in error


def test_list_alone_is_a_mistake(out, capsys):
    assert main(["verify", str(out), "--list", "x"]) == 1
    assert "--list is for --repair ROOT" in capsys.readouterr().err


def test_a_repair_that_was_stopped_goes_on(corpus, out, monkeypatch):
    before = contents(out)
    for number in range(4):
        (out / f"shard-{number:06d}.tar").unlink()
    write, made = repairing.write_shard, []

    def twice_only(task, report):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(task.number)
        return write(task, report)

    monkeypatch.setattr(repairing, "write_shard", twice_only)
    with pytest.raises(KeyboardInterrupt):
        repair(str(out), str(corpus.root))
    assert sorted(path.name for path in out.glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    monkeypatch.setattr(repairing, "write_shard", write)
    summary = repair(str(out), str(corpus.root))
    assert sorted(summary.put_back) == [2, 3]
    assert contents(out) == before


def test_a_set_that_is_replaced_meanwhile_is_not_written_to(corpus, out, monkeypatch):
    (out / "shard-000001.tar").unlink()
    write = repairing.write_shard

    def replaced(task, report):
        manifest = out / "manifest.json"
        manifest.write_text(manifest.read_text() + " ")
        return write(task, report)

    monkeypatch.setattr(repairing, "write_shard", replaced)
    summary = repair(str(out), str(corpus.root))
    assert "was replaced meanwhile" in summary.unrepaired[1]
    assert not (out / "shard-000001.tar").exists()


def test_a_set_with_an_appended_list_is_repaired_by_its_indexes(corpus, tmp_path):
    out, two = tmp_path / "out", tmp_path / "two"
    kept = Selection(min_seconds=0.1)
    pack(str(corpus.root), str(out), options=SMALL, selection=kept)
    for number in range(3):
        (two / f"id{number}").mkdir(parents=True)
        stereo = np.random.default_rng(number).integers(-9000, 9000, (900, 2)).astype(np.int16)
        soundfile.write(two / f"id{number}" / "x.wav", stereo, 8000, subtype="PCM_16")
    append(str(out), Wanted(str(two), options=replace(SMALL, convert=True)))
    before = contents(out)
    first, *_, last = sorted(out.glob("*.tar"))
    for path in (first, last):
        path.unlink()
    summary = repair(str(out), str(corpus.root))
    assert summary.put_back == {0: (first.name,)}
    (reason,) = summary.unrepaired.values()
    assert "names no file with the key id" in reason
    assert repair(str(out), str(two)).after.problems == []
    assert contents(out) == before
    index = next(out.glob("*.index-1.npz"))
    index.unlink()
    (reason,) = repair(str(out), str(corpus.root)).unrepaired.values()
    assert "its index is bad, and lists were added to the set" in reason


@pytest.mark.slow
@pytest.mark.s3
def test_on_s3(corpus, s3_folder):
    url = f"{s3_folder}/set"
    pack(str(corpus.root), url, options=SMALL)
    site = Folder(url)
    before = {name: site.read(name) for name in site.names()}
    site.publish("shard-000000.tar", before["shard-000000.tar"][:-1] + b"x")
    site.remove("shard-000002.index.npz")
    summary = repair(url, str(corpus.root))
    assert summary.after.problems == []
    assert {name: site.read(name) for name in site.names()} == before
    assert verify(url).problems == []
    assert storage.exists(site.at("manifest.json"))


def test_the_rows_that_differ_are_told_by_the_blocks(empty_corpus, tmp_path):
    for number, frames in enumerate((20_000, 900, 900, 20_000, 9_000)):
        empty_corpus.add(f"id/{number}.wav", frames)
    pack(str(empty_corpus.root), str(tmp_path / "out"))

    def index() -> index_file.ShardIndex:
        return index_file.from_bytes((tmp_path / "out" / "shard-000000.index.npz").read_bytes(), "x")

    before = index()
    for changed in ({"id/0"}, {"id/3", "id/4"}, {"id/1"}, {"id/0", "id/1", "id/2", "id/3", "id/4"}):
        for name in changed:
            samples = empty_corpus.samples[f"{name}.wav"] ^ 1
            soundfile.write(empty_corpus.root / f"{name}.wav", samples, 16000, subtype="PCM_16")
        pack(str(empty_corpus.root), str(tmp_path / "out"), overwrite=True)
        rows = rows_that_differ(before, index())
        named = {before.key(row) for row in rows}
        small = {"id/1", "id/2"}
        assert named - small == changed - small
        assert named >= changed or changed - named <= small  # in a block that a large one explains
        assert named & changed
        assert rows_that_differ(before, before) == []
        for name in changed:
            soundfile.write(
                empty_corpus.root / f"{name}.wav",
                empty_corpus.samples[f"{name}.wav"],
                16000,
                subtype="PCM_16",
            )


def test_an_old_shard_with_another_index_names_the_file_that_changed(corpus, tmp_path):
    """Its index lies in the set under another name than it is made again under."""
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    (tmp_path / "more").mkdir()
    for number in range(5):
        soundfile.write(tmp_path / "more" / f"{number}.wav", np.zeros(900, np.int16), 16000, subtype="PCM_16")
    listed = tmp_path / "more.txt"
    listed.write_text("".join(f"id{number} {number}.wav\n" for number in range(5)))
    append(str(out), Wanted(str(tmp_path / "more"), str(listed), options=SMALL))
    assert manifest_file.in_folder(Folder(str(out))).shards[1].index == "shard-000001.index-1.npz"
    name = rewritten(corpus, 1, str(out), frames_more=5)
    (out / "shard-000001.tar").unlink()
    summary = repair(str(out), str(corpus.root))
    assert summary.unrepaired == {1: f"{corpus.root / name} has changed since it was packed"}


def test_another_name_of_a_file_is_no_other_audio(empty_corpus, tmp_path):
    """The JSON beside it is longer than it was, and what follows lies elsewhere."""
    long = "v" * 450
    for path in (f"{long[:200]}/{long[:200]}/a_b.wav", "id/z.wav"):
        empty_corpus.add(path, 9000)
    listed = tmp_path / "list"
    listed.write_text("".join(f"id {path}\n" for path in empty_corpus.samples))
    out = tmp_path / "out"
    pack(str(empty_corpus.root), str(out), list_url=str(listed))
    index = index_file.from_bytes((out / "shard-000000.index.npz").read_bytes(), "x")
    moved = replace(index, offset=index.offset + 512, shard_size=index.shard_size + 512)
    longer = replace(moved, block_crc32=np.append(index.block_crc32, np.uint32(0)))
    assert rows_that_differ(index, longer) is None
    assert rows_that_differ(index, index) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": 0}, "options: field group: expected `int` >= 1"),
        ({"seed": "one"}, "options: field seed: expected `int`, got `str`"),
        ({"min_utterances": 2.5}, "options: field min_utterances: expected `int`"),
    ],
)
def test_options_that_cannot_be_are_one_line(corpus, out, options, said):
    document = json.loads((out / "manifest.json").read_bytes())
    document["options"].update(options)
    (out / "manifest.json").write_text(json.dumps(document))
    (out / "shard-000001.tar").unlink()
    with pytest.raises(UserError, match=said):
        repair(str(out), str(corpus.root))


def test_a_lost_index_of_a_set_with_a_selection(corpus, tmp_path):
    """By --min-utterances the list alone decides; by lengths its files do, and the list of select is told."""
    root, few, long = str(corpus.root), tmp_path / "few", tmp_path / "long"
    pack(root, str(few), options=SMALL, selection=Selection(min_utterances=5))
    before = contents(few)
    (few / "shard-000000.index.npz").unlink()
    assert repair(str(few), root).after.problems == []
    assert contents(few) == before
    pack(root, str(long), options=SMALL, selection=Selection(min_seconds=0.1))
    before = contents(long)
    (long / "shard-000000.index.npz").unlink()
    reason = repair(str(long), root).unrepaired[0]
    assert "make-shards select ROOT LIST --min-seconds 0.1 with the --list or --speaker" in reason
    listed = str(tmp_path / "listed")
    assert main(["select", root, listed, "--min-seconds", "0.1", "--workers", "1"]) == 0
    assert repair(str(long), root, list_url=listed).after.problems == []
    assert contents(long) == before


def test_what_an_added_list_converts_is_passed_over_where_none_was_converted(corpus, tmp_path):
    out, two = tmp_path / "out", tmp_path / "two"
    (corpus.root / "id0/video0/00000.m4a").write_bytes(b"of the same key")
    pack(str(corpus.root), str(out), options=SMALL)
    (two / "id0").mkdir(parents=True)
    soundfile.write(two / "id0" / "x.wav", np.zeros((900, 2), np.int16), 8000, subtype="PCM_16")
    append(str(out), Wanted(str(two), options=replace(SMALL, convert=True)))
    (out / "shard-000001.tar").unlink()
    assert repair(str(out), str(corpus.root)).after.problems == []
