from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools import audio
from shard_tools.audio.flac_header import AudioMd5
from shard_tools.cli import main
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.key_list import KeyList
from shard_tools.errors import UserError
from shard_tools.pack import duplicates
from shard_tools.pack.check import check_sources
from shard_tools.pack.corpus import find_corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.merging import merge
from shard_tools.pack.packing import PackOptions, pack, pack_part
from shard_tools.pack.parts import Part
from shard_tools.pack.selection import Selection
from shard_tools.storage import Folder, door

SMALL = PackOptions(utterances_per_shard=8, group=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def keys(url: object) -> list[str]:
    catalogue = open_catalogue(str(url))
    return sorted(catalogue.key(u) for u in range(len(catalogue)))


def originals(root: Path, paths: list[str], *, convert: bool = False) -> list[int]:
    corpus = find_corpus(str(root))
    checked = check_sources(corpus, paths, convert=convert, workers=1, progress=False, lengths=True)
    return duplicates.originals(corpus, paths, checked, workers=1, progress=False).tolist()


def test_lengths_bound_what_is_packed_and_are_included(empty_corpus, tmp_path):
    for name, frames in (("short", 15999), ("low", 16000), ("high", 32000), ("long", 32001)):
        empty_corpus.add(f"a/{name}.wav", frames)
    summary = pack(
        str(empty_corpus.root),
        str(tmp_path / "out"),
        selection=Selection(min_seconds=1, max_seconds=2),
    )
    assert keys(tmp_path / "out") == ["a/high", "a/low"]
    assert summary.manifest.options["min_seconds"] == 1
    document = json.loads((tmp_path / "out" / "pack-selection.json").read_bytes())
    assert document["left_out"] == {
        "dropped": 0,
        "short": 1,
        "long": 1,
        "duplicate": 0,
        "few": 0,
        "speakers": 0,
    }
    assert document["listed"]["utterances"] == 4
    assert (tmp_path / "out" / "pack-left-out.tsv").read_text().splitlines()[1:] == [
        "long\ta\ta/long.wav\t2.000 s",
        "short\ta\ta/short.wav\t1.000 s",
    ]


def test_lengths_of_what_is_converted_are_those_of_its_header_or_of_decoding(empty_corpus, tmp_path):
    noise = np.random.default_rng(1).integers(-9000, 9000, (8000, 2)).astype(np.int16)
    root = empty_corpus.root
    (root / "a").mkdir()
    soundfile.write(root / "a" / "8k.wav", noise, 8000, subtype="PCM_16")
    soundfile.write(root / "a" / "8k.flac", noise[:4000], 8000, subtype="PCM_16")
    soundfile.write(root / "a" / "x.ogg", noise[:, 0] / 32768, 8000)
    (root / "a" / "pipe.wav").write_bytes(
        (data := audio.encode(noise[:, 0].copy(), "wav"))[:40] + b"\xff" * 4 + data[44:]
    )
    names = ["a/8k.wav", "a/8k.flac", "a/x.ogg", "a/pipe.wav"]
    found = check_sources(
        find_corpus(str(root)), names, convert=True, workers=1, progress=False, lengths=True
    )
    assert [round(file.seconds, 3) for file in found] == [1.0, 0.5, 1.0, 0.5]
    assert [file.codec for file in found] == [None] * 4


def test_the_length_of_m4a_is_its_container_s(tmp_path):
    from aac_files import encoded

    (tmp_path / "a.m4a").write_bytes(encoded(np.zeros(32000, np.int16)))
    [found] = check_sources(
        find_corpus(str(tmp_path)), ["a.m4a"], convert=True, workers=1, progress=False, lengths=True
    )
    assert found.seconds == pytest.approx(2.0, abs=0.07)  # to a block of 1024, and what encoders put before


def test_the_same_audio_is_found_as_wav_flac_and_bytes(empty_corpus):
    root = empty_corpus.root
    noise = np.random.default_rng(0).integers(-9000, 9000, 20000).astype(np.int16)
    other = noise.copy()
    other[10000] += 1  # in the sample of the middle
    late = noise.copy()
    late[-1] += 1  # beyond it
    files = {
        "0.wav": audio.encode(noise, "wav"),
        "1.wav": audio.encode(other, "wav"),
        "2.wav": audio.encode(late, "wav"),
        "3.wav": audio.encode(noise, "wav") + b"LIST\x04\x00\x00\x00abcd",
        "4.wav": audio.encode(late, "wav"),
        "5.wav": audio.encode(noise[:-1].copy(), "wav"),
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    assert originals(root, list(files)) == [0, 1, 2, 0, 2, 5]
    flacs = {"6.flac": audio.encode(other, "flac"), "7.flac": audio.encode(noise, "flac")}
    for name, data in flacs.items():
        (root / name).write_bytes(data)
    assert originals(root, [*files, *flacs]) == [0, 1, 2, 0, 2, 5, 1, 0]
    without = bytearray(flacs["7.flac"])
    without[26:42] = bytes(16)
    (root / "8.flac").write_bytes(without)
    assert originals(root, ["8.flac", "0.wav"]) == [0, 0]
    with open(root / "9.wav", "wb") as file:
        soundfile.write(file, np.stack([noise, noise], 1), 16000, format="WAV")
    (root / "10.wav").write_bytes((root / "9.wav").read_bytes())
    assert originals(root, ["10.wav", "0.wav", "9.wav"], convert=True) == [0, 1, 0]


def test_flac_s_digest_is_that_of_16_bit_pcm():
    """What duplicates are told by: the MD5 in a FLAC's header and the WAV's own."""
    md5 = AudioMd5(16)
    samples = np.arange(-300, 300, dtype=np.int16)
    md5.add(samples.astype(np.int32)[:, None] << 16)
    assert audio.encode(samples, "flac")[26:42] == md5.digest()


def test_duplicates_are_dropped_named_or_refused(empty_corpus, tmp_path, capsys):
    empty_corpus.add("a/1.wav")
    data = (empty_corpus.root / "a/1.wav").read_bytes()
    empty_corpus.add("b/0.wav")
    empty_corpus.add("b/2.wav", 999)
    for twin in ("a/2.wav", "b/1.wav"):
        (empty_corpus.root / twin).write_bytes(data)
    root = str(empty_corpus.root)
    flags = ["--workers", "1", "--duplicates"]
    assert main(["pack", root, str(tmp_path / "report"), *flags, "report"]) == 0
    said = capsys.readouterr().err
    assert (
        "duplicates: 2 utterances, 1 of them of another speaker (a/2.wav holds the audio of a/1.wav" in said
    )
    assert len(keys(tmp_path / "report")) == 5
    assert "duplicates" not in json.loads((tmp_path / "report" / "manifest.json").read_bytes())["options"]
    assert (tmp_path / "report" / "pack-left-out.tsv").read_text().splitlines()[1:] == [
        "duplicate\ta\ta/2.wav\tholds the audio of a/1.wav",
        "duplicate\tb\tb/1.wav\tholds the audio of a/1.wav, of speaker a, not b",
    ]
    assert main(["pack", root, str(tmp_path / "drop"), *flags, "drop"]) == 0
    said = capsys.readouterr().err
    assert "left out: 2 utterances hold the audio of another one: a/2.wav" in said
    assert "1 speaker with a single utterance, of whom no pair can be made: a; --min-utterances 2" in said
    assert keys(tmp_path / "drop") == ["a/1", "b/0", "b/2"]
    assert main(["pack", root, str(tmp_path / "refuse"), *flags, "refuse"]) == 1
    said = capsys.readouterr().err
    assert "2 problems; nothing was packed" in said
    assert "b/1.wav: holds the audio of a/1.wav, of speaker a, not b" in said
    assert not (tmp_path / "refuse").exists()
    # The first in the list's order stays.
    (tmp_path / "list").write_text("b b/1.wav\na a/2.wav\na a/1.wav\nb b/0.wav\n")
    assert (
        main(["pack", root, str(tmp_path / "other"), "--list", str(tmp_path / "list"), *flags, "drop"]) == 0
    )
    assert keys(tmp_path / "other") == ["b/0", "b/1"]


def test_speakers_with_few_utterances_go_after_all_else(empty_corpus, tmp_path):
    for path, frames in (("a/1", 16000), ("a/2", 100), ("b/1", 16000), ("b/2", 16001), ("c/1", 16002)):
        empty_corpus.add(f"{path}.wav", frames)
    root = str(empty_corpus.root)
    summary = pack(root, str(tmp_path / "few"), selection=Selection(min_utterances=2))
    assert summary.manifest.speakers == ("a", "b")
    summary = pack(root, str(tmp_path / "both"), selection=Selection(min_utterances=2, min_seconds=1))
    assert summary.manifest.speakers == ("b",)
    assert summary.report.speakers_listed - summary.report.speakers_packed == 2
    with pytest.raises(UserError, match=r"of 5 listed utterances none is left to pack \(5 few\)"):
        pack(root, str(tmp_path / "none"), selection=Selection(min_utterances=3))
    with pytest.raises(UserError, match="--min-seconds 3 is more than --max-seconds 2"):
        pack(root, str(tmp_path / "none"), selection=Selection(min_seconds=3, max_seconds=2))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_selection_gives_the_same_bytes_by_workers_parts_and_select(corpus, tmp_path):
    corpus.add("id9/0.wav", 3000)  # a speaker with a single one
    (corpus.root / "id3" / "twin.wav").write_bytes((corpus.root / "id1/video0/00000.wav").read_bytes())
    root = str(corpus.root)
    chosen = Selection(min_seconds=0.08, max_seconds=0.24, min_utterances=2, duplicates="drop")
    one = pack(root, str(tmp_path / "one"), options=SMALL, selection=chosen)
    pack(root, str(tmp_path / "two"), options=SMALL, selection=chosen, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert {each.kind for each in one.report.left} == {"short", "long", "duplicate", "few"}

    kept = str(tmp_path / "kept.txt")
    flags = ["--min-seconds", "0.08", "--max-seconds", "0.24", "--min-utterances", "2", "--workers", "1"]
    assert main(["select", root, kept, *flags, "--duplicates", "drop"]) == 0
    for part in (Part(2, 1), Part(2, 2)):
        pack_part(root, str(tmp_path / "parts"), part, list_url=kept, options=SMALL)
    merge(str(tmp_path / "parts"))
    shards = {name: data for name, data in contents(tmp_path / "one").items() if name.startswith("shard-")}
    parts = contents(tmp_path / "parts")
    assert {name: data for name, data in parts.items() if name.startswith("shard-")} == shards
    table = (tmp_path / "one" / "pack-left-out.tsv").read_text()
    assert (tmp_path / "kept.txt.left-out.tsv").read_text() == table


def test_an_interrupted_selection_is_finished_to_the_same_bytes(corpus, tmp_path, monkeypatch):
    root, chosen = str(corpus.root), Selection(min_seconds=0.08, min_utterances=2, duplicates="drop")
    pack(root, str(tmp_path / "whole"), options=SMALL, selection=chosen)
    publish = door.publish_bytes

    def interrupted(url, data):
        if url.endswith("shard-000001.index.npz"):
            raise KeyboardInterrupt
        publish(url, data)

    monkeypatch.setattr(door, "publish_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(root, str(tmp_path / "out"), options=SMALL, selection=chosen)
    monkeypatch.setattr(door, "publish_bytes", publish)
    assert pack(root, str(tmp_path / "out"), options=SMALL, selection=chosen).reused == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_parts_take_what_the_list_alone_tells_and_refuse_the_rest(corpus, tmp_path, capsys):
    root, few = str(corpus.root), Selection(min_utterances=5)
    pack(root, str(tmp_path / "whole"), options=SMALL, selection=few)
    for part in (Part(2, 1), Part(2, 2)):
        pack_part(root, str(tmp_path / "parts"), part, options=SMALL, selection=few)
    merge(str(tmp_path / "parts"))
    whole = contents(tmp_path / "whole")
    assert {"pack-selection.json", "pack-left-out.tsv"} <= whole.keys()
    assert contents(tmp_path / "parts") == whole
    for flags in (
        ["--min-seconds", "1"],
        ["--max-seconds", "1"],
        ["--duplicates", "report"],
        ["--statistics"],
    ):
        assert main(["pack", root, str(tmp_path / "none"), "--part", "1/2", *flags]) == 1
        assert f"error: {flags[0]}: not with --part" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_list_of_keys_is_left_out_of_whole_packs_and_of_parts(corpus, tmp_path, capsys):
    root, out = str(corpus.root), tmp_path / "out"
    pack(root, str(tmp_path / "all"), options=SMALL)
    every = keys(tmp_path / "all")
    gone = [every[7], every[2]]
    (tmp_path / "drop.txt").write_text("".join(f"{key}\n" for key in gone))
    broken = next(path for path in corpus.root.rglob(f"{gone[0]}.*"))
    broken.write_bytes(b"no audio")  # what is left out is not looked at
    options = ["--utterances-per-shard", "8", "--group", "2", "--drop", str(tmp_path / "drop.txt")]
    assert main(["pack", root, str(out), *options, "--min-seconds", "0.001"]) == 0
    assert f"left out: 2 utterances named by --drop: {gone[1]}" in capsys.readouterr().err
    assert keys(out) == [key for key in every if key not in gone]
    report = json.loads((out / "pack-selection.json").read_bytes())
    assert report["left_out"]["dropped"] == 2
    recorded = manifest_file.in_folder(Folder(str(out))).options["drop"]
    assert recorded == report["options"]["drop"] == KeyList("", tuple(every[2:8:5])).digest
    assert [line.split("\t")[0] for line in (out / "pack-left-out.tsv").read_text().splitlines()[1:]] == [
        "dropped",
        "dropped",
    ]
    assert main(["verify", str(out), "--repair", root]) == 0
    assert main(["pack", root, str(tmp_path / "whole"), *options]) == 0
    for part in ("1/2", "2/2"):
        assert main(["pack", root, str(tmp_path / "parts"), *options, "--part", part]) == 0
    merge(str(tmp_path / "parts"))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_keys_that_the_list_has_not_are_refused(corpus, tmp_path, capsys):
    (tmp_path / "drop.txt").write_text("".join(f"x/{n:02d}\n" for n in range(12)))
    words = ["pack", str(corpus.root), str(tmp_path / "out"), "--drop", str(tmp_path / "drop.txt")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "12 keys are not in the list of what is packed" in said
    assert "x/09, …" in said
    assert "x/10" not in said
    assert main([*words[:-1], str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_options_nothing_is_recorded_and_old_reports_go(corpus, tmp_path):
    root, out = str(corpus.root), tmp_path / "out"
    pack(root, str(out), options=SMALL, selection=Selection(min_seconds=0.08))
    assert (out / "pack-selection.json").exists()
    pack(root, str(out), options=SMALL, overwrite=True)
    assert set(manifest_file.in_folder(Folder(str(out))).options) == {
        "format",
        "convert",
        "utterances_per_shard",
        "group",
        "seed",
    }
    assert [path.name for path in out.iterdir() if path.name.startswith("pack-")] == []


def test_statistics_name_what_is_silent_and_what_is_clipped(empty_corpus, tmp_path, capsys):
    empty_corpus.add("a/fine.wav", 16000)
    loud = empty_corpus.add("a/loud.flac", 16000)
    loud[100:200] = 32767
    (empty_corpus.root / "a/loud.flac").write_bytes(audio.encode(loud, "flac"))
    (empty_corpus.root / "a/hush.wav").write_bytes(audio.encode(np.zeros(8000, np.int16), "wav"))
    out = tmp_path / "out"
    assert main(["pack", str(empty_corpus.root), str(out), "--statistics", "--workers", "1"]) == 0
    said = capsys.readouterr().err
    assert "silent: 1 of 3 utterances (33.33%)" in said
    assert "the worst: a/hush.wav (100.00%)" in said
    assert "clipped: 1 of 3 utterances" in said
    assert "a/loud.flac (0.62%)" in said or "a/loud.flac (0.63%)" in said
    found = json.loads((out / "pack-selection.json").read_bytes())["statistics"]
    assert (found["utterances"], found["silent"], found["clipped"]) == (3, 1, 1)
    assert found["most_clipped"] == [{"path": "a/loud.flac", "share": 0.00625}]
    damaged = bytearray((empty_corpus.root / "a/loud.flac").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (empty_corpus.root / "a/loud.flac").write_bytes(damaged)
    with pytest.raises(ProblemsError, match=r"a/loud\.flac: .*FLAC"):
        pack(str(empty_corpus.root), str(tmp_path / "bad"), selection=Selection(statistics=True))
    assert not (tmp_path / "bad").exists()


def test_select_writes_no_list_over_another(corpus, tmp_path, capsys):
    listed, root = corpus.write_list(), str(corpus.root)
    assert main(["select", root, listed, "--list", listed]) == 1
    assert "is the list that is read" in capsys.readouterr().err
    assert main(["select", root, listed]) == 1
    assert "is there already; give another name" in capsys.readouterr().err


def test_packing_again_without_a_report_keeps_that_of_the_same_set(corpus, tmp_path):
    root, out = str(corpus.root), tmp_path / "out"
    pack(root, str(out), options=SMALL, selection=Selection(statistics=True, duplicates="report"))
    before = contents(out)
    assert "pack-selection.json" in before
    pack(root, str(out), options=SMALL)
    assert contents(out) == before
    (out / "shard-000001.tar").unlink()
    pack(root, str(out), options=SMALL)
    assert contents(out) == before


def test_select_looks_at_all_its_names_and_leaves_no_older_table(corpus, tmp_path, capsys):
    root, out = str(corpus.root), tmp_path / "kept"
    for name in ("kept.json", "kept.left-out.tsv"):
        (tmp_path / name).write_text("mine")
        assert main(["select", root, str(out), "--workers", "1"]) == 1
        assert f"{name}: is there already; give another name" in capsys.readouterr().err
        assert not out.exists()
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    words = ["select", root, str(out), "--overwrite", "--workers", "1"]
    assert main([*words, "--min-utterances", "4"]) == 0
    assert (tmp_path / "kept.left-out.tsv").exists()
    assert main(words) == 0
    assert not (tmp_path / "kept.left-out.tsv").exists()


@pytest.mark.parametrize("chosen", [Selection(statistics=True), Selection(duplicates="report")])
def test_a_file_that_memory_does_not_hold_is_a_line(empty_corpus, tmp_path, monkeypatch, chosen):
    def full(*_: object) -> None:
        raise MemoryError

    empty_corpus.add("a/1.wav")
    empty_corpus.add("a/2.wav")
    monkeypatch.setattr("shard_tools.pack.statistics.silent_share", full)
    monkeypatch.setattr(duplicates, "_digest", full)
    with pytest.raises(ProblemsError, match=r"a/1\.wav: is more than this machine has memory for"):
        pack(str(empty_corpus.root), str(tmp_path / "out"), selection=chosen)
