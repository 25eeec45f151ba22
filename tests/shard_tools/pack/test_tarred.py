from __future__ import annotations

import io
import json
import os
import re
import shlex
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aac_files import encoded, speechlike

from shard_tools.audio.convert import convert
from shard_tools.cli import main
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack.corpus import find_corpus
from shard_tools.pack.foreign import index_tars
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.packing import PackOptions, pack, pack_part
from shard_tools.pack.parts import Part
from shard_tools.pack.repair import repair
from shard_tools.read.reader import Reader

CONVERT = PackOptions(convert=True, utterances_per_shard=3)


def audio(kind: str, number: int) -> bytes:
    samples = speechlike(5000, number)
    if kind == "m4a":
        return encoded(samples)
    file = io.BytesIO()
    subtype = {"MP3": "MPEG_LAYER_III", "OGG": "VORBIS"}.get(kind.upper(), "PCM_16")
    soundfile.write(file, samples, 16000, format=kind.upper(), subtype=subtype)
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def theirs(tmp_path) -> Path:
    """Two tars with all kinds of audio, whose speakers stand beside them."""
    kinds = ("mp3", "ogg", "m4a", "wav", "flac", "mp3")
    for shard in range(2):
        files: dict[str, bytes] = {}
        for number in range(3):
            kind, key = kinds[3 * shard + number], f"x/{shard}{number}"
            files |= {f"{key}.spk": f"id{number}".encode(), f"{key}.{kind}": audio(kind, 3 * shard + number)}
        write_tar(tmp_path / "theirs" / f"s-{shard}.tar", files)
    return tmp_path / "theirs"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_that_the_refusal_names_packs_them_anew(theirs, tmp_path, capsys):
    assert main(["index", str(theirs), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    for name in ("x/00.mp3", "x/01.ogg", "x/02.m4a", "x/12.mp3"):
        assert f"{name}: shards hold .wav and .flac alone" in error
    command = re.search("and (make-shards pack .*) makes shards of all of it", error)[1]
    program, *words = shlex.split(command.replace("OUT", str(tmp_path / "out")))
    assert program == "make-shards"
    assert main([*words, "--workers", "1"]) == 0
    assert "6 utterances of 3 speakers" in capsys.readouterr().out
    assert verify(str(tmp_path / "out")).problems == []
    catalogue = open_catalogue(str(tmp_path / "out"))
    for number, kind in enumerate(("mp3", "ogg", "m4a", "wav", "flac", "mp3")):
        u = catalogue.find(f"x/{number // 3}{number % 3}")
        assert catalogue.speakers[catalogue.label[u]] == f"id{number % 3}"
        wanted = (
            speechlike(5000, number)
            if kind in ("wav", "flac")
            else convert(audio(kind, number), f"x.{kind}").samples
        )
        assert np.array_equal(Reader(catalogue).utterance(u), wanted)


@pytest.mark.parametrize(
    ("url", "rule", "said"),
    [
        ("{theirs}", "name:noise", "OUT --convert --speaker noise"),
        ("{theirs}", "member:spk", "OUT --convert --list LIST"),
        (
            "memory://theirs",
            "usual",
            "make-shards pack FOLDER OUT --convert makes shards of all of it once it lies in a FOLDER here",
        ),
    ],
)
def test_the_command_is_that_of_the_case(theirs, url, rule, said):
    from shard_tools.dataset.speakers import parse_rule
    from shard_tools.storage import Folder

    url = url.format(theirs=theirs)
    if url.startswith("memory"):
        Folder(url).publish("s-0.tar", (theirs / "s-0.tar").read_bytes())
    with pytest.raises(ProblemsError) as caught:
        index_tars(url, rule=parse_rule(rule))
    assert said in str(caught.value)


@pytest.mark.slow
def test_workers_parts_and_one_tar_make_the_same(theirs, tmp_path):
    pack(str(theirs), str(tmp_path / "one"), options=CONVERT)
    pack(str(theirs), str(tmp_path / "two"), options=CONVERT, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    for index in (1, 2):
        pack_part(str(theirs), str(tmp_path / "parts"), Part(2, index), options=CONVERT)
    parts = contents(tmp_path / "parts")
    assert all(parts[name] == data for name, data in contents(tmp_path / "one").items() if ".tar" in name)
    (tmp_path / "one" / "shard-000001.tar").unlink()
    assert repair(str(tmp_path / "one"), str(theirs)).after.problems == []
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    alone = pack(str(theirs / "s-1.tar"), str(tmp_path / "alone"), options=PackOptions(convert=True))
    assert alone.manifest.utterances == 3


def test_shards_of_ours_are_packed_with_other_options(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "old"))
    pack(str(tmp_path / "old"), str(tmp_path / "new"), options=PackOptions(format="flac", group=1))
    old, new = (open_catalogue(str(tmp_path / name)) for name in ("old", "new"))
    assert old.speakers == new.speakers
    assert new.codec.all()
    for u in range(len(old)):
        found = Reader(new).utterance(new.find(old.key(u)))
        assert np.array_equal(Reader(old).utterance(u), found)


def test_without_convert_only_what_fits_counts_as_in_a_folder(theirs, tmp_path):
    assert pack(str(theirs), str(tmp_path / "out")).manifest.utterances == 2


def test_a_list_or_a_name_says_whose_it_is(theirs, tmp_path):
    (tmp_path / "list").write_text("a x/00.mp3\nb x/10.wav\n")
    made = pack(str(theirs), str(tmp_path / "out"), list_url=str(tmp_path / "list"), options=CONVERT)
    assert made.manifest.speakers == ("a", "b")
    (tmp_path / "list").write_text("a x/00.mp3\nb x/99.wav\n")
    with pytest.raises(ProblemsError, match=r"x/99\.wav: does not exist"):
        pack(str(theirs), str(tmp_path / "no"), list_url=str(tmp_path / "list"), options=CONVERT)
    made = pack(str(theirs), str(tmp_path / "noise"), speaker="noise", options=CONVERT)
    assert made.manifest.speakers == ("noise",)


def test_what_cannot_be_taken_from_tars_is_named(theirs, tmp_path):
    wav = audio("wav", 1)
    write_tar(
        tmp_path / "a" / "a.tar", {"none.wav": wav, "s/a.wav": wav, "s/b.json": b'{"spk": 1}', "s/b.wav": wav}
    )
    with pytest.raises(ProblemsError) as caught:
        pack(str(tmp_path / "a"), str(tmp_path / "out"))
    assert len(caught.value.problems) == 2
    for problem in caught.value.problems:
        assert "a.tar: " in problem
        assert "--speaker-from" not in problem
        assert "give --speaker NAME for all" in problem
    write_tar(tmp_path / "b" / "a.tar", {"s/a.wav": wav})
    write_tar(tmp_path / "b" / "b.tar", {"s/a.wav": wav})
    with pytest.raises(ProblemsError, match=r"b.tar: s/a.wav is also in .*a.tar; keep one"):
        pack(str(tmp_path / "b"), str(tmp_path / "out"))
    (tmp_path / "b" / "b.tar").rename(tmp_path / "b" / "b.tar.gz")
    with pytest.raises(UserError, match=r"b.tar.gz: a compressed tar"):
        find_corpus(str(tmp_path / "b"))
    cut = theirs / "s-0.tar"
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"s-0.tar: .*cut short"):
        find_corpus(str(theirs))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_audio_beside_tars_is_a_folder(theirs, corpus):
    (theirs / "s-0.tar").rename(corpus.root / "s-0.tar")
    assert len(find_corpus(str(corpus.root)).paths((".wav", ".flac"))[0]) == 25


def test_json_tells_the_speaker(tmp_path):
    files = {"a.wav": audio("wav", 0), "a.json": json.dumps({"speaker": "id7"}).encode()}
    write_tar(tmp_path / "a.tar", files)
    assert pack(str(tmp_path / "a.tar"), str(tmp_path / "out")).manifest.speakers == ("id7",)


def test_a_pipe_among_tars_is_not_waited_for(theirs):
    os.mkfifo(theirs / "t.tar")
    with pytest.raises(UserError, match=r"t\.tar: is no file that can be read"):
        find_corpus(str(theirs))


def test_a_list_names_members_as_they_are_called(tmp_path):
    wav = audio("wav", 1)
    write_tar(tmp_path / "a.tar", {"./s/A.WAV": wav, "s/b.wav": wav, "s/c.wav.wav": wav})
    listed = tmp_path / "list"
    listed.write_text("s s/A.WAV\ns s/b.wav\nt s/c.wav.wav\n")
    made = pack(str(tmp_path / "a.tar"), str(tmp_path / "out"), list_url=str(listed))
    assert made.manifest.utterances == 3
    assert find_corpus(str(tmp_path / "a.tar")).paths((".wav",))[0] == ["s/A.wav", "s/b.wav", "s/c.wav"]
    assert pack(str(tmp_path / "a.tar"), str(tmp_path / "all"), speaker="s").manifest.utterances == 3
