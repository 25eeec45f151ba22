from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.cli import main
from shard_tools.dataset import index as index_file
from shard_tools.dataset import layout
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.manifest_table import is_table, name_of
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack import appending
from shard_tools.pack import claim as pack_claim
from shard_tools.pack.appending import append, options_of
from shard_tools.pack.corpus import find_corpus
from shard_tools.pack.intake import Wanted
from shard_tools.pack.listing import Listing, ProblemsError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.pack.plan import Before, PackPlan
from shard_tools.pack.selection import Selection
from shard_tools.read.reader import Reader
from shard_tools.storage import Folder, door

SMALL = PackOptions(utterances_per_shard=8, group=2)
FLAGS = ["--workers", "1"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def two(corpus, tmp_path):
    """A set of five speakers at tmp_path/out, and a list of more of id1 and id3 and of three others."""
    pack(str(corpus.root), str(tmp_path / "out"), options=SMALL)
    rows = [("id3", 4), ("aa", 3), ("zz", 5), ("id1", 2), ("id22", 3)]
    lines = []
    for speaker, count in rows:
        for number in range(count):
            path = f"{speaker}/more/{number}.{'flac' if number == 1 else 'wav'}"
            corpus.add(path, 900 + 50 * number)
            lines.append(f"{speaker} {path}\n")
    (tmp_path / "more.txt").write_text("".join(lines))
    return Wanted(str(corpus.root), str(tmp_path / "more.txt"), options=SMALL)


def test_what_is_there_stays_and_labels_follow(two, corpus, tmp_path):
    out = tmp_path / "out"
    before, old = contents(out), manifest_file.in_folder(Folder(str(out)))
    old_catalogue = open_catalogue(str(out))
    labels = {old_catalogue.key(u): int(old_catalogue.label[u]) for u in range(len(old_catalogue))}
    summary = append(str(out), two)
    after, manifest = contents(out), manifest_file.in_folder(Folder(str(out)))
    assert (summary.added, summary.new_speakers, summary.again) == (17, 3, False)
    assert manifest.speakers == ("id0", "id1", "id2", "id3", "id4", "aa", "id22", "zz")
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }
    catalogue = open_catalogue(str(out))
    assert catalogue.digest != old_catalogue.digest
    assert catalogue.grown_from == {old_catalogue.digest: 5}
    assert open_shardwise(str(out), held=1).grown_from == catalogue.grown_from
    assert [entry.url for entry in manifest.shards[: len(old.shards)]] == [e.url for e in old.shards]
    found = {catalogue.key(u): u for u in range(len(catalogue))}
    assert {key: int(catalogue.label[found[key]]) for key in labels} == labels
    assert len(found) == len(labels) + 17 == len(corpus.samples)
    for path, samples in corpus.samples.items():
        u = found[path.rpartition(".")[0]]
        assert np.array_equal(Reader(catalogue).utterance(u), samples)
        assert catalogue.speakers[catalogue.label[u]] == path.split("/")[0]
    assert verify(str(out)).problems == []
    assert not {name for name in after if name.startswith(("packing", "made-from", "."))}


def test_the_places_among_a_speaker_s_utterances_are_those_of_both(two, tmp_path):
    out = str(tmp_path / "out")
    append(out, two)
    catalogue = open_shardwise(out, held=99)
    rows = np.arange(len(catalogue))
    places = layout.places(catalogue.label[rows], catalogue.shard[rows])
    assert np.array_equal(catalogue.turn[rows], places.turn)
    assert np.array_equal(catalogue.total[rows], places.total)


def test_only_new_speakers_change_no_old_index(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    before = contents(out)
    other = tmp_path / "other"
    corpus.root, corpus.samples = other, {}
    corpus.add("new/1.wav")
    append(str(out), Wanted(str(other), options=SMALL))
    after = contents(out)
    table = name_of(hashlib.sha256(after["manifest.json"]).hexdigest())
    assert set(after) - set(before) == {"shard-000004.tar", "shard-000004.index.npz", table}


@pytest.mark.slow
def test_appended_again_nothing_happens(two, tmp_path, capsys):
    out = tmp_path / "out"
    append(str(out), two)
    once = contents(out)
    assert append(str(out), two).again
    assert contents(out) == once
    assert main(["pack", two.root, str(out), "--list", str(two.list_url), "--append", *FLAGS]) == 0
    assert capsys.readouterr().out == f"{out}: had 17 utterances of this list already; nothing was appended\n"
    os.unlink(out / "shard-000005.tar")
    append(str(out), two)
    assert contents(out) == once


@pytest.mark.slow
def test_two_appends_by_any_number_of_workers_are_the_same_bytes(two, corpus, tmp_path):
    third = tmp_path / "third.txt"
    corpus.add("id3/third/0.wav")
    corpus.add("bb/third/0.wav")
    third.write_text("id3 id3/third/0.wav\nbb bb/third/0.wav\n")
    again = Wanted(two.root, str(third), options=SMALL)
    out, copy = tmp_path / "out", tmp_path / "copy"
    copy.mkdir()
    for name, data in contents(out).items():
        (copy / name).write_bytes(data)
    append(str(out), two)
    append(str(out), again)
    append(str(copy), two, workers=2)
    append(str(copy), again, workers=2)
    assert contents(copy) == contents(out)
    manifest = manifest_file.in_folder(Folder(str(out)))
    assert manifest.speakers[5:] == ("aa", "id22", "zz", "bb")
    assert [(each.speakers, each.shards) for each in manifest.appended] == [(5, 4), (8, 7)]
    assert verify(str(out)).problems == []


def test_a_reader_of_the_old_manifest_goes_on(two, tmp_path):
    out = str(tmp_path / "out")
    old = open_shardwise(out, held=1)
    labels = old.label[np.arange(len(old))]
    append(out, two)
    assert np.array_equal(old.label[np.arange(len(old))], labels)  # whose indexes are read again


def test_keys_that_are_there_are_refused_by_name(two, tmp_path):
    out = tmp_path / "out"
    before = contents(out)
    with open(str(two.list_url), "a") as lines:
        lines.write("id0 id0/video0/00000.wav\nid9 id2/video1/00001.flac\n")
    with pytest.raises(ProblemsError) as caught:
        append(str(out), two)
    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "id0/video0/00000.wav",
        "id2/video1/00001.flac",
    ]
    assert "has an utterance of the key 'id0/video0/00000' already" in caught.value.problems[0]
    assert contents(out) == before


@pytest.mark.parametrize("kind", ["none", "indexed", "damaged"])
def test_what_cannot_be_appended_to(two, tmp_path, kind):
    out = tmp_path / "out"
    path = out / "manifest.json"
    document = json.loads(path.read_bytes())
    if kind == "none":
        path.unlink()
    elif kind == "indexed":
        document["options"] = {"indexed": True}
        path.write_text(json.dumps(document))
    else:
        path.write_text("{")
    words = {"none": "no dataset is here", "indexed": "made by others", "damaged": "cut short"}
    with pytest.raises(UserError, match=words[kind]):
        append(str(out), two)


def test_the_set_s_options_are_taken_and_others_are_said(two, corpus, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert options_of(out, {"convert": False}) == SMALL
    arguments = ["pack", two.root, out, "--list", str(two.list_url), "--append", *FLAGS]
    assert main([*arguments, "--part", "1/2"]) == 1
    assert "--append: not with --part" in capsys.readouterr().err
    assert main([*arguments, "--format", "flac", "--min-seconds", "0.06"]) == 0
    said = capsys.readouterr()
    assert "--format: keep for the set, flac for what was added\n" in said.err
    assert "--min-seconds: not given for the set, 0.06 for what was added\n" in said.err
    assert said.out.startswith(f"{out}: appended 7 utterances, 3 speakers of them new; now ")
    assert (tmp_path / "out" / "pack-left-out-1.tsv").exists()
    assert verify(out).problems == []


def test_a_plain_pack_names_append(two, tmp_path):
    with pytest.raises(UserError, match="--append to add the list to it"):
        pack(two.root, str(tmp_path / "out"), list_url=two.list_url, options=SMALL)


def test_files_that_changed_since_are_named(two, tmp_path):
    out = tmp_path / "out"
    append(str(out), two)
    once = contents(out)
    path = Path(two.root) / "zz" / "more" / "2.wav"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"added already, but .*zz/more/2\.wav has changed"):
        append(str(out), two)
    assert contents(out) == once


def test_another_append_that_was_begun_takes_overwrite(two, corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = contents(out)
    publish = door.publish_bytes

    class _KilledError(BaseException):
        pass

    def failing(url, data):
        if url.endswith("shard-000005.index.npz"):
            raise _KilledError
        publish(url, data)

    monkeypatch.setattr("shard_tools.pack.claim.given_up_on_failure", _nothing)
    monkeypatch.setattr(door, "publish_bytes", failing)
    with pytest.raises(_KilledError):
        append(str(out), two)
    monkeypatch.setattr(door, "publish_bytes", publish)
    assert {name: data for name, data in contents(out).items() if name in before} == before
    assert verify(str(out)).problems == []
    corpus.add("other/0.wav")
    (tmp_path / "other.txt").write_text("other other/0.wav\n")
    other = Wanted(two.root, str(tmp_path / "other.txt"), options=SMALL)
    with pytest.raises(UserError, match="another list or with other options is under way"):
        append(str(out), other)
    append(str(out), other, overwrite=True)
    assert verify(str(out)).problems == []
    new = {name for name in set(contents(out)) - set(before) if not is_table(name)}
    assert new == {"shard-000004.index.npz", "shard-000004.tar"}


class _nothing:
    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


KILLED = """
import os, signal, sys
from shard_tools.storage import door
from shard_tools.cli import main

name = sys.argv.pop(1)

def publish(url, data, original=door.publish_bytes):
    if url.endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    original(url, data)

door.publish_bytes = publish
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_old_set_is_valid_and_the_append_goes_on(two, tmp_path):
    """Before a new shard's index, before an old shard's other one, and before the manifest."""
    whole, out = tmp_path / "out", tmp_path / "copy"
    before = contents(whole)
    append(str(whole), two)
    wanted = contents(whole)
    other = max(name for name in wanted if name.endswith(".index-1.npz"))
    for name in ("shard-000005.index.npz", other, "manifest.json"):
        out.mkdir(exist_ok=True)
        for path in out.iterdir():
            path.unlink()
        for old, data in before.items():
            (out / old).write_bytes(data)
        arguments = ["pack", two.root, str(out), "--list", str(two.list_url), "--append", *FLAGS]
        killed = subprocess.run([sys.executable, "-c", KILLED, name, *arguments], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert (out / "manifest.json").read_bytes() == before["manifest.json"]
        assert verify(str(out)).problems == []
        append(str(out), two)
        assert contents(out) == wanted


def test_a_manifest_of_another_order_is_refused(two, tmp_path):
    out = tmp_path / "out"
    append(str(out), two)
    path = out / "manifest.json"
    good = json.loads(path.read_bytes())
    assert good["version"] == 2
    for change in (
        lambda d: d["speakers"].reverse(),
        lambda d: d.pop("appended"),
        lambda d: d["appended"][0].update(speakers=4),
        lambda d: d["appended"][0].update(speakers=99),
        lambda d: d["appended"][0].update(shards=99),
        lambda d: d["speakers"].__setitem__(7, "id0"),
    ):
        document = json.loads(json.dumps(good))
        change(document)
        with pytest.raises(UserError, match="not sorted, or not unique"):
            manifest_file.from_bytes(json.dumps(document).encode(), "manifest.json")


@pytest.mark.slow
@given(
    old=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    new=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30),
    per_shard=st.integers(1, 9),
)
def test_labels_and_places_go_on_from_any_set(old, new, per_shard):
    known = np.unique(old, return_inverse=True)[1]
    speakers = tuple("hgfcba"[: known.max() + 1])
    shard = np.sort(np.arange(len(old)) // 4).astype(np.int32)
    before = Before("0" * 64, speakers, int(shard[-1]) + 1, known.astype(np.int32), shard)
    listing = Listing(new, [f"{n}.wav" for n in range(len(new))], [str(n) for n in range(len(new))])
    plan = PackPlan(find_corpus("/"), listing, PackOptions(utterances_per_shard=per_shard), before=before)
    assert plan.speakers[: len(speakers)] == speakers
    assert list(plan.speakers[len(speakers) :]) == sorted(set(new) - set(speakers))
    assert [plan.speakers[label] for label in plan.labels] == new
    files = dict.fromkeys(range(len(new)), (1, 1))
    tasks = plan.tasks(plan.numbers, files, Folder("memory://x"), "")
    assert [task.number for task in tasks] == list(range(before.shards, before.shards + len(plan.shards)))
    labels = [*known.tolist(), *(source.label for task in tasks for source in task.sources)]
    for speaker, name in enumerate(plan.speakers):
        sources = [source for task in tasks for source in task.sources if source.label == speaker]
        assert {source.speaker for source in sources} <= {name}
        assert {source.total for source in sources} <= {labels.count(speaker)}
        first = int((known == speaker).sum())
        assert [source.turn for source in sources] == list(range(first, first + len(sources)))


def test_versions_of_indexes_are_those_of_packing(two, tmp_path):
    """An index that was made anew says of its shard what the old one says."""
    out = tmp_path / "out"
    append(str(out), two)
    names = [path.name for path in out.glob("*.index-1.npz")]
    assert names
    for name in names:
        new = index_file.from_bytes((out / name).read_bytes(), name)
        old = index_file.from_bytes((out / name.replace("index-1", "index")).read_bytes(), name)
        for column in ("label", "offset", "size", "frames", "block_crc32", "key_bytes"):
            assert np.array_equal(getattr(new, column), getattr(old, column))
        assert (new.shard_sha256, new.inputs) == (old.shard_sha256, old.inputs)


def more(corpus, tmp_path, name: str, *paths: str) -> Wanted:
    """A list of new files, of the speakers that their folders name."""
    for path in paths:
        corpus.add(path, 900)
    (tmp_path / name).write_text("".join(f"{path.split('/')[0]} {path}\n" for path in paths))
    return Wanted(str(corpus.root), str(tmp_path / name), options=SMALL)


@pytest.mark.slow
def test_readers_of_every_earlier_manifest_go_on(two, corpus, tmp_path):
    out = str(tmp_path / "out")
    everyone = [f"id{number}/third/0.wav" for number in range(5)]
    third = more(corpus, tmp_path, "third", *everyone, "zz/third/0.wav")
    fourth = more(corpus, tmp_path, "fourth", *(path.replace("third", "fourth") for path in everyone))
    readers = [open_shardwise(out, held=1)]
    for wanted in (two, third, fourth):
        append(out, wanted)
        readers.append(open_shardwise(out, held=1))
    counts = [len(reader.total[np.arange(len(reader))]) for reader in readers]  # whose indexes are read now
    assert counts == sorted(set(counts))
    stray = tmp_path / "out" / "shard-000000.index-9.npz"  # of an append that never ended
    stray.write_bytes(b"")
    append(out, more(corpus, tmp_path, "fifth", "new/0.wav"))
    assert not stray.exists()
    assert verify(out).problems == []
    most = [int(reader.total[np.arange(len(reader))].max()) for reader in readers]
    assert most[0] < most[2] < most[3]


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_append_that_ends_meanwhile_keeps_its_shards(two, corpus, tmp_path, monkeypatch, overwrite, late):
    """Whether it ends while files are looked at, or while this one takes the place."""
    out = tmp_path / "out"
    other = more(corpus, tmp_path, "other", "other/0.wav", "id0/other.wav")
    where = "shard_tools.pack.claim.take" if late else "shard_tools.pack.appending.choose"
    original = pack_claim.take if late else appending.choose
    kept: dict[str, bytes] = {}

    def meanwhile(*args, **named):
        monkeypatch.setattr(where, original)
        if late:  # another machine, whose lock is not seen here
            monkeypatch.setattr("shard_tools.pack.scratch._remove_folders", lambda *_: None)
        append(str(out), other)
        kept.update(contents_of_files(out))
        return original(*args, **named)

    monkeypatch.setattr(where, meanwhile)
    with pytest.raises(UserError, match=r"has changed while a list was being appended"):
        append(str(out), two, overwrite=overwrite)
    after = contents_of_files(out)
    assert {name: after[name] for name in kept} == kept
    assert verify(str(out)).problems == []
    append(str(out), two)
    assert verify(str(out)).problems == []


def contents_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_min_utterances_counts_those_of_the_set(corpus, tmp_path):
    out = tmp_path / "out"
    pack(str(corpus.root), str(out), options=SMALL)
    wanted = more(corpus, tmp_path, "few", "id1/x.wav", "new/x.wav", "two/x.wav", "two/y.wav")
    wanted = replace(wanted, selection=Selection(min_utterances=2))
    summary = append(str(out), wanted)
    assert summary.added == 3
    assert summary.report.single == ()
    assert [(left.path, left.why) for left in summary.report.left] == [
        ("new/x.wav", "its speaker has 1 utterance left, with those of the set")
    ]
    once = contents(out)
    assert append(str(out), wanted).again
    assert contents(out) == once


@pytest.mark.slow
def test_a_lost_shard_is_not_put_back_as_another(two, tmp_path):
    """A file of it has other contents, with its size and an old time."""
    out = tmp_path / "out"
    append(str(out), two)
    path = Path(two.root) / "zz" / "more" / "2.wav"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for file in Path(two.root).glob("**/*.*"):
        os.utime(file, (1e9, 1e9))
    number = next(n for n in (4, 5, 6) if b"zz/more/2.wav" in (out / f"shard-{n:06d}.tar").read_bytes())
    (out / f"shard-{number:06d}.tar").unlink()
    once = contents(out)
    with pytest.raises(
        ProblemsError, match=f"shard-{number:06d}.tar: made again it is not what the manifest"
    ):
        append(str(out), two)
    after = contents(out)
    assert {name: after[name] for name in once} == once
    assert f"shard-{number:06d}.tar" not in after
    data[-1] ^= 1
    path.write_bytes(data)
    append(str(out), two)
    assert verify(str(out)).problems == []
