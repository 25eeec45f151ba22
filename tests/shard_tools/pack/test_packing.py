from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset as wds
from wav_files import chunk, form, tone, wav

from shard_tools import audio, storage
from shard_tools.audio.flac_header import without_length
from shard_tools.dataset import index as index_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.manifest_table import name_of
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack import state as pack_state
from shard_tools.pack import task as shard_task
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.merging import merge
from shard_tools.pack.packing import PackOptions, pack, pack_part
from shard_tools.pack.parts import Part
from shard_tools.read.reader import Reader
from shard_tools.storage import door

SMALL = PackOptions(utterances_per_shard=8, group=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def table_of(files: dict[str, bytes]) -> str:
    return name_of(hashlib.sha256(files["manifest.json"]).hexdigest())


def tars(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def test_webdataset_alone_reads_the_shards(corpus, tmp_path):
    summary = pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)
    samples = list(wds.WebDataset(tars(tmp_path / "out"), shardshuffle=False))
    assert len(samples) == len(corpus.samples) == summary.manifest.utterances
    for sample in samples:
        described = json.loads(sample["json"])
        extension = described["path"].rpartition(".")[2]
        assert sample[extension] == (corpus.root / described["path"]).read_bytes()
        assert sample["__key__"] == described["path"].rpartition(".")[0]
        assert described["speaker"] == described["path"].split("/")[0]
        assert described["label"] == summary.manifest.speakers.index(described["speaker"])
        assert described["frames"] == len(corpus.samples[described["path"]])
        assert described["sample_rate"] == 16000


@pytest.mark.slow
def test_bytes_do_not_depend_on_workers_runs_or_file_times(corpus, tmp_path):
    for name, workers in (("one", 1), ("four", 4)):
        pack(str(corpus.root), str(tmp_path / name), options=SMALL, workers=workers)
        for path in corpus.samples:
            os.utime(corpus.root / path, (1, 1))
    one = contents(tmp_path / "one")
    assert len([name for name in one if name.endswith(".tar")]) == 4
    assert set(one) == {f"shard-{n:06d}.{kind}" for n in range(4) for kind in ("tar", "index.npz")} | {
        "manifest.json",
        table_of(one),
    }
    assert contents(tmp_path / "four") == one


def test_tars_are_plain(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)
    for name in tars(tmp_path / "out"):
        with tarfile.open(name) as tar:
            for member in tar:
                assert member.mtime == 0
                assert not member.pax_headers
                assert member.offset_data - member.offset == 512


def test_long_and_foreign_names(empty_corpus, tmp_path):
    long = "id/" + "/".join(["x" * 60] * 4) + "/" + "y" * 80 + ".wav"
    empty_corpus.add(long)
    empty_corpus.add("id/ünïcödé 話者/é.flac")
    pack(str(empty_corpus.root), str(tmp_path / "out"))
    keys = {sample["__key__"] for sample in wds.WebDataset(tars(tmp_path / "out"), shardshuffle=False)}
    catalogue = open_catalogue(str(tmp_path / "out"))
    assert keys == {long[:-4], "id/ünïcödé 話者/é"} == {catalogue.key(0), catalogue.key(1)}
    for path, samples in empty_corpus.samples.items():
        u = catalogue.find(path.rpartition(".")[0])
        assert np.array_equal(Reader(catalogue).utterance(u), samples)
    assert verify(str(tmp_path / "out")).problems == []


@pytest.mark.parametrize("codec", ["wav", "flac"])
def test_reencoding_keeps_every_sample(corpus, tmp_path, codec):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(format=codec))
    catalogue = open_catalogue(str(tmp_path / "out"))
    assert set(catalogue.codec.tolist()) == {["wav", "flac"].index(codec)}
    for path, samples in corpus.samples.items():
        assert np.array_equal(Reader(catalogue).utterance(catalogue.find(path.rpartition(".")[0])), samples)


def test_convert_changes_only_what_does_not_fit(empty_corpus, tmp_path):
    fits = empty_corpus.add("a/fits.wav")
    stereo = np.stack([fits, fits], 1)
    soundfile.write(empty_corpus.root / "a" / "stereo8k.flac", stereo, 8000, subtype="PCM_16")
    with pytest.raises(ProblemsError, match=r"stereo8k\.flac: 8000 Hz, 2 channels, PCM_16.*--convert"):
        pack(str(empty_corpus.root), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    pack(str(empty_corpus.root), str(tmp_path / "out"), options=PackOptions(convert=True))
    catalogue = open_catalogue(str(tmp_path / "out"))
    assert np.array_equal(Reader(catalogue).utterance(catalogue.find("a/fits")), fits)
    converted = catalogue.find("a/stereo8k")
    assert catalogue.frames[converted] == 2 * len(fits)
    assert catalogue.codec[converted] == 1


def test_all_bad_headers_are_known_before_anything_is_published(corpus, tmp_path):
    (corpus.root / "id0" / "zero.wav").write_bytes(b"")
    (corpus.root / "id1" / "text.wav").write_bytes(b"text")
    wav = (corpus.root / "id0/video0/00000.wav").read_bytes()
    (corpus.root / "id1" / "cut.wav").write_bytes(wav[:1000])
    listed = corpus.write_list()
    with open(listed, "a") as lines:
        lines.write("id0 id0/zero.wav\nid1 id1/text.wav\nid1 id1/none.wav\nid1 id1/cut.wav\n")
    with pytest.raises(ProblemsError) as caught:
        pack(str(corpus.root), str(tmp_path / "out"), list_url=listed, options=SMALL)
    found = [problem.removeprefix(str(corpus.root) + "/") for problem in caught.value.problems]
    assert [line.partition(":")[0] for line in found] == [
        "id0/zero.wav",
        "id1/text.wav",
        "id1/none.wav",
        "id1/cut.wav",
    ]
    assert "empty" in found[0]
    assert "neither WAV nor FLAC" in found[1]
    assert "does not exist" in found[2]
    assert "truncated" in found[3]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("convert", [False, True])
def test_what_only_looks_like_a_file_is_named(empty_corpus, tmp_path, monkeypatch, convert):
    empty_corpus.add("a/file.wav")
    os.mkfifo(empty_corpus.root / "a" / "pipe.wav")  # which nobody writes to
    os.symlink("/dev/zero", empty_corpus.root / "a" / "zero.wav")
    os.symlink("loop.wav", empty_corpus.root / "a" / "loop.wav")
    monkeypatch.chdir(empty_corpus.root / "a")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.wav")
        (tmp_path / "list").write_text(
            "".join(
                f"a a/{name}\n" for name in ("file.wav", "pipe.wav", "zero.wav", "loop.wav", "socket.wav")
            )
            + "b a\n"
        )
        with pytest.raises(ProblemsError) as caught:
            pack(
                str(empty_corpus.root),
                str(tmp_path / "out"),
                list_url=str(tmp_path / "list"),
                options=PackOptions(convert=convert),
            )
    found = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for name, kind in (
        ("a/pipe.wav", "a named pipe"),
        ("a/zero.wav", "a device"),
        ("a/socket.wav", "a socket"),
    ):
        assert f"{name}: is {kind}, not a file of audio" in found
    assert "a/loop.wav: cannot be read" in found
    assert "audio/a: is a folder" in found


def test_headers_are_looked_at_to_the_file_s_end_before_anything_is_published(empty_corpus, tmp_path):
    (empty_corpus.root / "a").mkdir()
    many = chunk(b"LIST", bytes(20_000))
    (empty_corpus.root / "a" / "late.wav").write_bytes(wav(many, form(), pcm=tone(9000).tobytes(), tail=many))
    pack(str(empty_corpus.root), str(tmp_path / "out"))
    assert np.array_equal(Reader(open_catalogue(str(tmp_path / "out"))).utterance(0), tone(9000))
    two = wav(many, form(), pcm=tone(9000).tobytes(), tail=many + chunk(b"data", b"abcd"))
    (empty_corpus.root / "a" / "two.wav").write_bytes(two)
    with pytest.raises(ProblemsError, match=r"a second data chunk at byte 58060\); nothing was packed"):
        pack(str(empty_corpus.root), str(tmp_path / "other"))


def test_what_no_header_tells_the_length_of_is_converted_whole(empty_corpus, tmp_path):
    folder = empty_corpus.root / "a"
    folder.mkdir()
    (folder / "pipe.wav").write_bytes(wav(length=0x7FFFF000))
    (folder / "killed.wav").write_bytes(wav(length=0, riff=0))
    (folder / "align.wav").write_bytes(wav(form(align=4, byte_rate=32000)))
    (folder / "pipe.flac").write_bytes(without_length(audio.encode(tone(), "flac")))
    os.rename(folder / "pipe.flac", folder / "live.flac")
    with pytest.raises(ProblemsError, match=r"4 problems; nothing was packed \(--convert makes"):
        pack(str(empty_corpus.root), str(tmp_path / "out"))
    pack(str(empty_corpus.root), str(tmp_path / "out"), options=PackOptions(convert=True))
    catalogue = open_catalogue(str(tmp_path / "out"))
    assert len(catalogue.frames) == 4
    for u in range(4):
        assert np.array_equal(Reader(catalogue).utterance(u), tone())
    assert verify(str(tmp_path / "out")).problems == []


def test_what_converting_cut_off_is_said(empty_corpus, tmp_path, capsys):
    empty_corpus.add("a/bad.flac")
    break_flac(empty_corpus.root / "a/bad.flac")
    for name, peak in (("loud", 1.5), ("louder", 1.9), ("quiet", 1.0)):
        path = empty_corpus.root / "a" / f"{name}.wav"
        soundfile.write(path, peak * np.sin(np.arange(8000) / 10), 16000, subtype="FLOAT")
    with pytest.raises(ProblemsError, match=r"bad\.flac"):
        pack(str(empty_corpus.root), str(tmp_path / "out"), options=PackOptions(convert=True))
    found = re.fullmatch(
        r"converting cut off what went beyond full scale in 2 files;"
        r" samples: (\d+), most of them \((\d+)\) in a/louder\.wav\n",
        capsys.readouterr().err,
    )
    assert found
    assert 16_000 > int(found[1]) > int(found[2]) > 4000


def break_flac(path: Path) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_damage_found_in_packing_leaves_no_manifest_and_mending_it_finishes(corpus, tmp_path, workers):
    out = tmp_path / "out"
    broken = corpus.root / "id3/video1/00001.flac"
    whole = break_flac(broken)
    with pytest.raises(ProblemsError, match=r"00001\.flac: truncated") as caught:
        pack(str(corpus.root), str(out), options=SMALL, workers=workers)
    assert len(caught.value.problems) == 1
    assert len(tars(out)) == 3
    assert not (out / "manifest.json").exists()
    assert not list(out.glob(".*"))
    with pytest.raises(UserError, match="does not exist"):
        open_catalogue(str(out))
    broken.write_bytes(whole)
    # the size of one file changed back, so its shard's inputs did; the three others are kept
    summary = pack(str(corpus.root), str(out), options=SMALL)
    assert summary.reused == 3
    pack(str(corpus.root), str(tmp_path / "fresh"), options=SMALL)
    assert contents(out) == contents(tmp_path / "fresh")


def test_packing_again_reuses_everything(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name.startswith("shard-")}
    assert pack(str(corpus.root), str(out), options=SMALL).reused == 4
    assert {
        path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name.startswith("shard-")
    } == before


@pytest.mark.parametrize("lost", ["shard-000001.tar", "shard-000002.index.npz", "manifest.json"])
def test_lost_parts_are_put_back(corpus, tmp_path, lost):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before = contents(out)
    (out / lost).unlink()
    summary = pack(str(corpus.root), str(out), options=SMALL)
    assert summary.reused == (4 if lost == "manifest.json" else 3)
    assert contents(out) == before


def test_a_shard_cut_short_is_made_again(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before = contents(out)
    os.truncate(out / "shard-000000.tar", 5120)
    assert pack(str(corpus.root), str(out), options=SMALL).reused == 3
    assert contents(out) == before


def test_another_list_or_other_options_do_not_mix(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before = contents(out)
    other = PackOptions(utterances_per_shard=20, group=2)
    with pytest.raises(UserError, match=r"manifest\.json: a complete dataset from another list.*--overwrite"):
        pack(str(corpus.root), str(out), options=other)
    assert contents(out) == before
    assert pack(str(corpus.root), str(out), options=other, overwrite=True).reused == 0
    pack(str(corpus.root), str(tmp_path / "fresh"), options=other)
    assert contents(out) == contents(tmp_path / "fresh")  # so shards 2 and 3 of the old pack are gone


def test_overwriting_takes_the_manifest_away_before_it_changes_a_shard(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    seen = []
    monkeypatch.setattr(
        door,
        "publish_file",
        lambda *_: seen.append((out / "manifest.json").exists()) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        pack(str(corpus.root), str(out), options=PackOptions(seed=1), overwrite=True)
    assert seen == [False]


def test_a_changed_source_is_not_reused(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    path = "id2/video0/00002.wav"
    corpus.add(path, len(corpus.samples[path]))  # the same size, and newer than the shards
    os.utime(corpus.root / path, (2**31, 2**31))
    with pytest.raises(UserError, match=r"00002\.wav has changed since"):
        pack(str(corpus.root), str(out), options=SMALL)
    assert pack(str(corpus.root), str(out), options=SMALL, overwrite=True).reused == 3
    catalogue = open_catalogue(str(out))
    assert np.array_equal(Reader(catalogue).utterance(catalogue.find(path[:-4])), corpus.samples[path])


class _Killed(BaseException):
    """Ends a pack as a kill would, as far as shards are concerned."""


def pack_some(corpus, out, shards):
    """A pack that is killed when it is about to publish its next shard."""
    publish, left = door.publish_file, iter(range(shards))

    def publish_or_die(file, url):
        if next(left, None) is None:
            raise _Killed
        publish(file, url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "publish_file", publish_or_die)
        with pytest.raises(_Killed):
            pack(str(corpus.root), str(out), options=SMALL)


FUTURE, LONG_AGO = 2**31, 10**9


@pytest.mark.parametrize("recorded", [True, False])
def test_a_clock_that_is_ahead_costs_no_shard(corpus, tmp_path, recorded):
    out = tmp_path / "out"
    for path in corpus.samples:
        os.utime(corpus.root / path, (FUTURE, FUTURE))
    pack_some(corpus, out, 3)
    if not recorded:  # as earlier versions left it
        (out / "made-from.json").unlink()
    assert pack(str(corpus.root), str(out), options=SMALL).reused == 3
    before = contents(out)
    assert pack(str(corpus.root), str(out), options=SMALL).reused == 4
    assert pack_part(str(corpus.root), str(out), Part(2, 1), options=SMALL).reused == 2
    (out / "shard-000002.index.npz").unlink()
    assert pack(str(corpus.root), str(out), options=SMALL).reused == 3
    merge(str(out))
    assert contents(out) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        *itertools.product(("begun", "begun again"), (LONG_AGO, FUTURE, None)),
        ("complete", FUTURE),
        ("complete", None),
    ],
)
def test_a_clock_hides_no_change(corpus, tmp_path, moment, seconds):
    out, path = tmp_path / "out", "id2/video0/00002.wav"
    if moment == "complete":
        pack(str(corpus.root), str(out), options=SMALL)
    else:
        pack_some(corpus, out, 3)
    corpus.add(path, len(corpus.samples[path]))  # other samples, as many bytes
    seconds = seconds or time.time() - 3600  # by a clock that is late
    os.utime(corpus.root / path, (seconds, seconds))
    if moment == "complete":
        with pytest.raises(UserError, match=r"00002\.wav has changed since"):
            pack(str(corpus.root), str(out), options=SMALL)
        return
    if moment == "begun again":
        pack_some(corpus, out, 0)
    pack(str(corpus.root), str(out), options=SMALL)
    pack(str(corpus.root), str(tmp_path / "fresh"), options=SMALL)
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("kind", ["tar", "index.npz"])
def test_a_lost_shard_whose_file_has_changed_is_not_put_back(corpus, tmp_path, kind):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    path = "id2/video0/00002.wav"
    corpus.add(path, len(corpus.samples[path]))
    indexes = [index_file.from_bytes((out / shard_task.shard_names(n)[1]).read_bytes(), "") for n in range(4)]
    [number] = [n for n, index in enumerate(indexes) if index.keys().count(path[:-4])]
    (out / f"shard-{number:06d}.{kind}").unlink()
    before = contents(out)
    with pytest.raises(UserError, match=rf"a file of shard-{number:06d}\.tar has changed since"):
        pack(str(corpus.root), str(out), options=SMALL)
    assert contents(out) == before


def test_a_store_that_fails_is_not_taken_for_an_empty_one(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before, read = contents(out), storage.read_bytes

    def fail(url, *rest):
        if url.endswith("1.index.npz"):
            raise storage.StorageError(f"{url}: permission denied")
        return read(url, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "read_bytes", fail)
        with pytest.raises(UserError, match=r"shard-000001\.index\.npz: permission denied"):
            pack(str(corpus.root), str(out), options=SMALL, overwrite=True)
    assert contents(out) == before


def test_tars_of_others_are_left_alone(corpus, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-000000.tar").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"shard-000000\.tar"):
        pack(str(corpus.root), str(out), options=SMALL)
    assert contents(out) == {"shard-000000.tar": b"precious"}


def test_leftovers_of_a_killed_pack_are_swept_up(corpus, tmp_path):
    out = tmp_path / "out"
    (out / ".packing-dead").mkdir(parents=True)
    (out / ".packing-dead" / "shard-000000.tar").write_bytes(b"half")
    (out / ".shard-000000.tar.12345678.part").write_bytes(b"half")
    (out / pack_state.STATE_NAME).write_text("{}")
    (out / "shard-000009.tar").write_bytes(b"of another list")
    pack(str(corpus.root), str(out), options=SMALL)
    assert len(contents(out)) == 10


def test_two_packs_at_once_do_not_meet(corpus, tmp_path, monkeypatch):
    out = str(tmp_path / "out")

    def pack_again(*_: object) -> None:
        with pytest.raises(UserError, match="another make-shards pack is writing"):
            pack(str(corpus.root), out, options=SMALL)
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "publish_file", pack_again)
    with pytest.raises(KeyboardInterrupt):
        pack(str(corpus.root), out, options=SMALL)


def test_a_source_that_changes_meanwhile_is_refused(corpus, tmp_path, monkeypatch):
    path = next(iter(corpus.samples))
    original = door.publish_bytes

    def publish(url: str, data: bytes) -> None:
        if url.endswith(pack_state.STATE_NAME):
            corpus.add(path, len(corpus.samples[path]))  # other samples, as many bytes
        original(url, data)

    monkeypatch.setattr(door, "publish_bytes", publish)
    with pytest.raises(ProblemsError, match="changed while it was being packed"):
        pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(corpus, tmp_path, monkeypatch):
    os.makedirs(tmp_path / "scratch")
    os.symlink("/dev/full", tmp_path / "scratch" / "shard-000000.tar")
    task_type = shard_task.ShardTask
    monkeypatch.setattr(
        "shard_tools.pack.plan.ShardTask",
        lambda number, url, scratch, *rest: task_type(number, url, str(tmp_path / "scratch"), *rest),
    )
    with pytest.raises(UserError, match="no space left on the disk"):
        pack(str(corpus.root), str(tmp_path / "out"))
    assert not tars(tmp_path / "out")


def test_memory(corpus, tmp_path):
    url = f"memory://{tmp_path.name}"
    pack(str(corpus.root), url, options=SMALL, workers=3)
    pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)
    assert {
        name: storage.read_bytes(storage.join(url, name)) for name in storage.list_names(url)
    } == contents(tmp_path / "out")
    assert verify(url).problems == []
    catalogue = open_catalogue(url)
    for path, samples in corpus.samples.items():
        assert np.array_equal(Reader(catalogue).utterance(catalogue.find(path.rpartition(".")[0])), samples)


@pytest.mark.slow
def test_real_speech(real_audio, tmp_path):
    folder = real_audio / "librispeech-mini"
    lines = (folder / "lists" / "train_list.txt").read_text().splitlines()[:40]
    (tmp_path / "list").write_text("\n".join(lines))
    options = PackOptions(format="wav", utterances_per_shard=20)
    pack(str(folder / "wav"), str(tmp_path / "out"), list_url=str(tmp_path / "list"), options=options)
    catalogue = open_catalogue(str(tmp_path / "out"))
    reader = Reader(catalogue)
    for line in lines:
        speaker, path = line.split()
        u = catalogue.find(path.removesuffix(".flac"))
        assert catalogue.speakers[catalogue.label[u]] == speaker
        assert np.array_equal(reader.utterance(u), audio.decode((folder / "wav" / path).read_bytes(), path))
