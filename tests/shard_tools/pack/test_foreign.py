from __future__ import annotations

import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from shard_tools import audio
from shard_tools.cli import main
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.speakers import USUAL, SpeakerRule, parse_rule
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack.foreign import index_tars
from shard_tools.pack.listing import ProblemsError
from shard_tools.read.reader import Reader


def noise(seed: int, frames: int = 900) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, frames).astype(np.int16)


WAV = audio.encode(noise(0), "wav")


def write_tar(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], **options: object) -> None:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files.items() if isinstance(files, dict) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def verdict(folder: Path, rule: SpeakerRule = USUAL) -> list[str]:
    """What indexing finds wrong; what it takes, verifying takes too."""
    try:
        index_tars(str(folder), rule=rule, overwrite=True)
    except ProblemsError as error:
        return error.problems
    assert verify(str(folder)).problems == []
    return []


def test_tars_of_webdatasets_own_writer(tmp_path):
    with wds.ShardWriter(str(tmp_path / "train-%04d.tar"), maxcount=3, verbose=0) as writer:
        for number in range(8):
            sample = {
                "__key__": f"spk{number % 3}/u{number}",
                "flac": audio.encode(noise(number), "flac"),
                "txt": "hello",
            }
            writer.write(sample)
    summary = index_tars(str(tmp_path))
    assert summary.manifest.utterances == 8
    assert summary.manifest.speakers == ("spk0", "spk1", "spk2")
    catalogue = open_catalogue(str(tmp_path))
    for number in range(8):
        u = catalogue.find(f"spk{number % 3}/u{number}")
        assert np.array_equal(Reader(catalogue).utterance(u), noise(number))
        assert catalogue.speakers[catalogue.label[u]] == f"spk{number % 3}"
    assert verify(str(tmp_path)).problems == []


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_speaker_from_json_and_names_with_dots(tmp_path, format_):
    files = {
        "./a.json": json.dumps({"speaker": 17, "label": 999, "frames": -1}).encode(),
        "./a.wav": audio.encode(noise(1), "wav"),
        "./" + "long/" * 19 + "b.wav": audio.encode(noise(2), "wav"),
    }
    write_tar(tmp_path / "x.tar", files, format=format_)
    index_tars(str(tmp_path))
    catalogue = open_catalogue(str(tmp_path))
    assert catalogue.speakers == ("17", "long")
    assert np.array_equal(Reader(catalogue).utterance(catalogue.find("a")), noise(1))
    assert verify(str(tmp_path)).problems == []


def test_all_that_cannot_be_indexed_is_named_and_nothing_written(tmp_path):
    wav = audio.encode(noise(1), "wav")
    stereo = wav[:22] + b"\2" + wav[23:32] + b"\4" + wav[33:]
    files = {
        "s/good.wav": wav,
        "s/mp3.mp3": b"x",
        "s/both.wav": wav,
        "s/both.flac": audio.encode(noise(1), "flac"),
        "s/cut.wav": wav[:-9],
        "s/stereo.wav": stereo,
        "nospeaker.wav": wav,
        "s/json.wav": wav,
        "s/json.json": b"{",
    }
    write_tar(tmp_path / "a.tar", files)
    write_tar(tmp_path / "b.tar", {"s/good.wav": wav})
    write_tar(tmp_path / "c.tar.gz", {"s/x.wav": wav})
    (tmp_path / "d.tar").write_bytes(b"no tar" * 1000)
    write_tar(tmp_path / "e.tar", {"s/long.wav": wav * 20})
    with open(tmp_path / "e.tar", "r+b") as file:
        file.truncate(10000)
    write_tar(tmp_path / "f.tar", {})
    with pytest.raises(ProblemsError) as caught:
        index_tars(str(tmp_path))
    found = {
        problem.partition(": ")[0] + " " + problem.partition(": ")[2].partition(":")[0]
        for problem in caught.value.problems
    }
    assert {text.split(" ")[0] for text in found} == {"a.tar", "b.tar", "c.tar.gz", "d.tar", "e.tar", "f.tar"}
    text = "\n".join(caught.value.problems)
    for expected in (
        "s/mp3.mp3: shards hold .wav and .flac alone",
        "s/both.wav and s/both.flac would both have the key 's/both'",
        "s/cut.wav: truncated",
        "s/stereo.wav: 16000 Hz, 2 channels",
        "nospeaker: no speaker",
        "s/json.json: not JSON",
        "b.tar: key 's/good' is also in a.tar",
        "c.tar.gz: a compressed tar",
        "d.tar: byte 0: no tar header",
        "e.tar: byte 0: cut short: s/long.wav has 36880 bytes from byte 512, the file ends at byte 10000",
        "f.tar: holds no sample",
    ):
        assert expected in text
    assert not list(tmp_path.glob("*.npz"))
    assert not (tmp_path / "manifest.json").exists()


def test_a_manifest_that_is_there_stays(tmp_path):
    write_tar(tmp_path / "a.tar", {"s/a.wav": audio.encode(noise(1), "wav")})
    index_tars(str(tmp_path))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        index_tars(str(tmp_path))
    index_tars(str(tmp_path), overwrite=True)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_no_tars(tmp_path):
    with pytest.raises(UserError, match=r"no \.tar directly below"):
        index_tars(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("s0/A.WAV", "s0/A"),
        ("s0//a.wav", "s0/a"),
        (".//./s0/a.wav", "s0/a"),
        ("s0/x/../a.wav", "s0/a"),
        ("s0/a.b.wav", "s0/a_b"),
        ("s0/a.wav.wav", "s0/a"),
        ("s.0/é a.wav", "s.0/é a"),
    ],
)
def test_odd_names_are_read_the_same_way_by_all(tmp_path, name, key):
    write_tar(tmp_path / "a.tar", {name: WAV, "s1/other.wav": WAV})
    assert verdict(tmp_path) == []
    catalogue = open_catalogue(str(tmp_path))
    assert np.array_equal(Reader(catalogue).utterance(catalogue.find(key)), noise(0))
    assert catalogue.speakers[catalogue.label[catalogue.find(key)]] == key.split("/")[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["/data/s0/a.wav"], "/data/s0/a.wav: .* absolute .* --speaker-from 'key:.data/"),
        (["../s0/a.wav"], "../s0/a.wav: .* absolute or leads out"),
        (["s0/../../s1/a.wav"], "s0/../../s1/a.wav: .* absolute or leads out"),
        (["./a.wav"], "a: no speaker"),
        ([r"s0\a.wav"], "no speaker"),
        ([r"s0\x/a.wav"], "the folder .* is no speaker"),
        ([".git/a.wav"], "the folder '.git' is no speaker"),
        (["s 0/a.wav"], "its speaker 's 0' .* blanks"),
        ([f"{'s' * 300}/a.wav"], "300 characters"),
        (["s0/a\nb.wav"], r"'s0/a\\nb.wav': .* cannot be printed"),
        (["s0/\udcff.wav"], "cannot be printed or are not UTF-8"),
        (["s0/\x1b[31m.wav"], "cannot be printed"),
        (["__s__/a.wav"], "WebDataset skips"),
        (["s0/a.wav", "s0/a.wav"], "s0/a.wav is in it more than once"),
        (["s0/a.wav", "./s0/a.wav"], "would both have the key 's0/a'"),
        (["s0/a.wav", "s0/a.WAV"], "would both have the key 's0/a'"),
        (["s0/a_b.wav", "s0/a.b.wav"], "would both have the key 's0/a_b'"),
        (["s0/a.wav", "s0/a.mp3"], "s0/a.mp3: shards hold"),
        (["\x1b/../s0/a.wav", "s0/a.wav"], r"'.x1b/../s0/a.wav' and s0/a.wav would both"),
        (["README", "s0/._a.wav"], "holds no sample"),
    ],
)
def test_names_that_no_honest_sample_has_are_refused(tmp_path, names, message):
    # tarfile makes odd bytes of lone surrogates
    write_tar(tmp_path / "a.tar", [(name, WAV) for name in names], errors="surrogateescape", format=1)
    (problem,) = verdict(tmp_path)
    assert re.search(message, problem)
    assert problem.isprintable()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S"])
def test_audio_that_is_not_stored_as_it_is_is_named(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("s0/a.wav", "s0/b.wav"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.REGTYPE, "") if name == "s0/a.wav" else (kind, "s0/a.wav")
            member.size = len(WAV) if name == "s0/a.wav" else 0
            tar.addfile(member, io.BytesIO(WAV))
    (problem,) = verdict(tmp_path)
    assert re.fullmatch(r"a.tar: s0/b.wav \(byte \d+\) is a .*; make the tar with.*", problem)


def test_what_is_passed_over_is_counted(tmp_path, capsys):
    files = {
        "README": b"x",
        ".DS_Store": b"x",
        "__index__.json": b"{}",
        "__MACOSX/s0/._a.wav": b"x",
        "s0/._a.wav": b"x",
        "s0/a.wav": WAV,
        "s0/a.txt": b"words",
        "s0/a.json": b"{}",
        "s0/lost.json": b"{}",
    }
    write_tar(tmp_path / "a.tar", files)
    (tmp_path / "._a.tar").write_bytes(b"of a Mac")
    assert main(["index", str(tmp_path), "--workers", "1"]) == 0
    assert main(["verify", str(tmp_path), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:-1] == [
        "speakers are from the first folder of the key (1)",
        "passed over: 1 without extension (a.tar: README)",
        "passed over: 3 hidden (a.tar: .DS_Store, …)",
        "passed over: 2 .json without audio (a.tar: __index__.json, …)",
        "passed over: 1 .txt (a.tar: s0/a.txt)",
    ]


def told(json_text: str | bytes | None = None, **beside: bytes) -> dict[str, bytes]:
    """Members of a sample whose folder is no speaker's."""
    files = {"train/a.wav": WAV, **{f"train/a.{name}": data for name, data in beside.items()}}
    if json_text is not None:
        files["train/a.json"] = json_text.encode() if isinstance(json_text, str) else json_text
    return files


@pytest.mark.parametrize(
    ("files", "rule", "speaker"),
    [
        (told(), "usual", "train"),
        (told('{"speaker": "id7"}'), "usual", "id7"),
        (told('{"speaker": 17}'), "usual", "17"),
        (told('{"snr": NaN, "speaker": "é"}'), "usual", "é"),
        (told(spk=b"id7\n"), "usual", "id7"),
        (told('{"speaker": "id7"}', spk=b"id7"), "usual", "id7"),
        (told('{"text": "x"}'), "usual", "train"),
        ({"id0/v/0.wav.spk": b"id7", "id0/v/0.wav.wav": WAV}, "usual", "id7"),
        ({"s/0.wav": WAV, "s/0.WAV.JSON": b'{"speaker": "id7"}'}, "usual", "id7"),
        ({"s/0.mic.wav": WAV, "s/0.json": b'{"speaker": "id7"}'}, "usual", "id7"),
        (told("[]"), "folder", "train"),
        (told("{broken", spk=b"x y"), "folder", "train"),
        (told('{"speaker": null, "spk": "id7"}'), "json:spk", "id7"),
        (told('{"meta": {"spk": 3}}'), "json:meta.spk", "3"),
        (told('{"meta.spk": "id7"}'), "json:meta.spk", "id7"),
        (told(cls=b"12"), "member:cls", "12"),
        (told(cls=b"12"), "member:.CLS", "12"),
        ({"/data/s0/u.wav": WAV}, "key:^data/([^/]+)/", "s0"),
        ({"../s0/u.wav": WAV}, "key:^([^/]+)/", "s0"),
        ({"id7-0001.wav": WAV}, "key:^([^-]+)-", "id7"),
        (told(), "name:noise", "noise"),
    ],
)
def test_where_the_speaker_stands(tmp_path, files, rule, speaker):
    write_tar(tmp_path / "a.tar", files)
    assert verdict(tmp_path, parse_rule(rule)) == []
    assert open_catalogue(str(tmp_path)).speakers == (speaker,)


@pytest.mark.parametrize(
    ("files", "rule", "message"),
    [
        (told('{"speaker": ""}'), "usual", "its speaker '' .* is empty; tell"),
        (told('{"speaker": ".."}'), "usual", "is no name"),
        (told('{"speaker": "a b"}'), "usual", "blanks"),
        (told(r'{"speaker": "a\u001b[2J"}'), "usual", "cannot be printed"),
        (told(r'{"speaker": "\ud800"}'), "usual", "cannot be printed"),
        (told('{"speaker": null}'), "usual", '"speaker" in its JSON is null'),
        (told('{"speaker": true}'), "usual", "is true"),
        (told('{"speaker": 1.5}'), "usual", "is the number 1.5"),
        (told('{"speaker": NaN}'), "usual", "is the number nan"),
        (told('{"speaker": {"id": "x"}}'), "usual", "is an object"),
        (told('{"speaker": ["x"]}'), "usual", "is a list"),
        (told('{"speaker": "a", "speaker": "b"}'), "usual", "'speaker' stands in it twice"),
        (told('{"speaker": ' + "1" * 5000 + "}"), "usual", "train/a"),
        (told("[" * 100000), "usual", "not JSON"),
        (told("[]"), "usual", "a list; tell where"),
        (told("null"), "usual", "null; tell where"),
        (told(b"\xff\xfe\xfa"), "usual", "not JSON"),
        (told(b""), "usual", "not JSON"),
        (told('{"speaker_id": "id7"}'), "usual", "--speaker-from 'json:speaker_id'"),
        (told('{"spk": "id7"}'), "usual", "--speaker-from 'json:spk'"),
        (told(cls=b"12"), "usual", "may be its .cls"),
        (told('{"speaker": "a"}', spk=b"b"), "usual", "says speaker 'a', its .spk 'b'"),
        (told(spk=b""), "usual", "is empty"),
        (told(spk=b"\xff"), "usual", "not UTF-8"),
        (told(spk=b"x" * 5000), "usual", "too many"),
        ({**told(spk=b"a"), "train/a.SPK": b"b"}, "usual", "keep one"),
        (told('{"a": {"b": 1}}'), "json:a.c", 'no "a.c" in its JSON'),
        (told('{"a": 1}'), "json:a.b.c", "no .* in its JSON"),
        (told(), "json:spk", "no KEY.json"),
        (told(), "member:cls", "no cls member"),
        (told(), "key:(x)", "does not match"),
        (told(), "key:(x)?", "does not match"),
    ],
)
def test_a_speaker_that_is_none_is_refused(tmp_path, files, rule, message):
    write_tar(tmp_path / "a.tar", files)
    (problem,) = verdict(tmp_path, parse_rule(rule))
    assert re.search(message, problem)
    assert problem.isprintable()
    assert len(problem) < 600


@pytest.mark.parametrize(
    "text", ["", "spk", "json", "json:", "folder:2", "key:(", "key:a", "key:(a)(b)", "name:a b"]
)
def test_rules_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        main(["index", "x", "--speaker-from", text])
    assert "error: argument --speaker-from: " in capsys.readouterr().err


def test_verify_finds_another_speaker_by_the_rule_of_the_index(tmp_path):
    write_tar(tmp_path / "a.tar", {"id1-a.wav": WAV, "id2-a.wav": WAV})
    index_tars(str(tmp_path), rule=parse_rule("key:^(id.)"))
    manifest = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest.replace('"id2"', '"id3"'))
    assert verify(str(tmp_path)).problems == [
        "a.tar: id2-a: speaker is 'id2' (the pattern), the index says 'id3'"
    ]


def test_shards_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    (tmp_path / "b.tar").mkdir()
    for name, problem in zip("ab", verdict(tmp_path), strict=True):
        assert problem.endswith(f"{name}.tar: is no file; a shard is one")
