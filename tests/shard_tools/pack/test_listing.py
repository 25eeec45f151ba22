from __future__ import annotations

import contextlib
import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.keys import key_of, key_problem, member_name
from shard_tools.dataset.layout import shard_rows
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError, read_listing
from shard_tools.pack.packing import pack


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("id1/vid/0001.wav", "id1/vid/0001"),
        ("./id1//vid/0001.flac", "id1/vid/0001"),
        ("id1/vid/a.b.c.wav", "id1/vid/a_b_c"),
        ("id.1/v.d/x.WAV", "id.1/v.d/x"),
        ("x.wav", "x"),
    ],
)
def test_key_of(path, key):
    assert key_of(path) == key


@given(st.lists(st.text("abc._-é ", min_size=1, max_size=8), min_size=1, max_size=4).map("/".join))
def test_webdataset_splits_a_member_at_its_key(path):
    key = key_of(path + ".wav")
    assert base_plus_ext(key + ".wav") == (key, "wav")
    assert member_name(key + ".wav").key == key or key.startswith("../")  # which no list may hold


def test_key_that_webdataset_would_skip_has_a_problem():
    assert key_problem("__meta__/x") is not None
    assert key_problem("a/bad\nname") is not None
    assert key_problem("__a/b__") is None


def test_list_lines(tmp_path):
    lines = tmp_path / "list"
    lines.write_bytes(b"\xef\xbb\xbfa a/1.wav\r\n\n  b \t b/2 with blank.wav  \n\n")
    listing = read_listing(str(tmp_path), str(lines))
    assert listing.speakers == ["a", "b"]
    assert listing.paths == ["a/1.wav", "b/2 with blank.wav"]
    assert listing.keys == ["a/1", "b/2 with blank"]


@pytest.mark.parametrize(
    "data",
    [
        "{a} {p}\n{b} {q}\n",
        "\ufeff{a} {p}\r\n{b} {q}\r\n",
        "{a}\t{p}\n{b}\t\t{q}",
        "{a} {p}   \n{b} {q}\t \r\n   \r\n",
        "\ufeff\r\n{a}\t {p}\t\r{b} \t{q} \r",
        "  {a} ./{p}\n\t{b} {q}\u00a0\n",
    ],
)
def test_a_list_is_taken_as_meant(corpus, tmp_path, data):
    """With CRLF, a byte-order mark, tabs, blanks at an end: the same shards, of the same names and keys."""
    names = "ünï 話者/ein Satz mit  Lücken.wav", "id0/ Ω.flac"
    for name in names:
        corpus.add(name)
    lines = tmp_path / "list"
    lines.write_bytes(data.format(a="sprecher-ä", b="id0", p=names[0], q=names[1]).encode())
    pack(str(corpus.root), str(tmp_path / "out"), list_url=str(lines))
    catalogue = open_catalogue(str(tmp_path / "out"))
    found = {catalogue.key(u): catalogue.speakers[catalogue.label[u]] for u in range(len(catalogue))}
    assert found == {names[0][:-4]: "sprecher-ä", names[1][:-5]: "id0"}


@pytest.mark.parametrize("other", ["id0/twin.flac", "id0/twin.WAV"])
def test_two_files_that_differ_in_their_ending_alone_are_named(corpus, tmp_path, other):
    corpus.add("id0/twin.wav")
    corpus.add(other)
    both = r"id0/twin\.[a-zA-Z]+ and id0/twin\.[a-zA-Z]+ would both have the key 'id0/twin'"
    with pytest.raises(
        ProblemsError, match=rf"{both}; rename one, or give a list of one of them with --list"
    ):
        pack(str(corpus.root), str(tmp_path / "out"))
    (tmp_path / "list").write_text(f"id0 id0/twin.wav\nid0 {other}\n")
    with pytest.raises(ProblemsError, match=rf"list:2: {both}; rename one"):
        pack(str(corpus.root), str(tmp_path / "out"), list_url=str(tmp_path / "list"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "list").write_text(f"id0 {other}\n")
    summary = pack(str(corpus.root), str(tmp_path / "out"), list_url=str(tmp_path / "list"))
    assert summary.manifest.utterances == 1


def test_every_bad_line_is_named_with_its_number(tmp_path):
    lines = tmp_path / "list"
    lines.write_text("a a/1.wav\n\nb\na ../x.wav\na /x.wav\nc ./a/1.wav\na a/1.flac\na a/1/../../../y.wav\n")
    with pytest.raises(ProblemsError) as caught:
        read_listing(str(tmp_path), str(lines))
    expected = {
        3: "one field",
        4: "outside ROOT",
        5: "absolute",
        6: f"already at {lines}:1",
        7: "key 'a/1'",
        8: "outside",
    }
    assert len(caught.value.problems) == len(expected)
    for problem, (number, text) in zip(caught.value.problems, expected.items(), strict=True):
        assert problem.startswith(f"{lines}:{number}: ")
        assert text in problem


def test_problems_beyond_ten_are_counted():
    text = str(ProblemsError([f"p{n}" for n in range(25)], "nothing done"))
    assert text.splitlines()[0] == "25 problems; nothing done:"
    assert "p9" in text
    assert "p10" not in text
    assert text.endswith("… and 15 more")


def test_walk_finds_audio_through_links_and_not_in_circles(empty_corpus):
    empty_corpus.add("s2/v/b.flac")
    empty_corpus.add("s1/a.WAV")
    (empty_corpus.root / "s1" / "notes.txt").write_text("x")
    os.symlink(empty_corpus.root, empty_corpus.root / "s1" / "loop")
    other = empty_corpus.root.parent / "elsewhere"
    other.mkdir()
    (other / "c.wav").write_bytes(b"x")
    os.symlink(other, empty_corpus.root / "s3")
    listing = read_listing(str(empty_corpus.root), None)
    assert listing.paths == ["s1/a.WAV", "s2/v/b.flac", "s3/c.wav"]
    assert listing.speakers == ["s1", "s2", "s3"]


def test_a_file_directly_in_root_needs_a_list(empty_corpus):
    empty_corpus.add("noise.wav")
    with pytest.raises(UserError, match=r"noise\.wav: .*--list"):
        read_listing(str(empty_corpus.root), None)


class _UnreadableFolder:
    """os.scandir, but one folder cannot be listed: at once, or after its first entry."""

    def __init__(self, folder: str, error: int, after: int) -> None:
        self.folder, self.error, self.after = folder, error, after
        self.original = os.scandir

    def __call__(self, path):
        found = self.original(path)
        return self._failing(found) if os.fspath(path) == self.folder else contextlib.nullcontext(found)

    @contextlib.contextmanager
    def _failing(self, entries):
        def some():
            for _, entry in zip(range(self.after), entries, strict=False):
                yield entry
            raise OSError(self.error, os.strerror(self.error))

        yield some()


@pytest.mark.parametrize(("error", "after"), [(errno.EACCES, 0), (errno.EIO, 0), (errno.EIO, 1)])
def test_a_folder_that_cannot_be_listed_is_refused(corpus, monkeypatch, error, after):
    folder = str(corpus.root / "id2" / "video0")
    monkeypatch.setattr(os, "scandir", _UnreadableFolder(folder, error, after))
    with pytest.raises(ProblemsError) as caught:
        read_listing(str(corpus.root), None)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{folder}: ")


def test_a_listing_that_fails_once_is_asked_for_again(corpus, monkeypatch):
    wanted = read_listing(str(corpus.root), None)
    listed, failed = os.scandir, []

    def scandir(path):
        if str(path).endswith("id3") and not failed:
            failed.append(path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert read_listing(str(corpus.root), None) == wanted
    assert failed


def test_links_that_lead_nowhere_are_named(corpus):
    os.symlink("/nowhere/at/all", corpus.root / "id9")
    os.symlink("circle", corpus.root / "circle")
    os.symlink("/nowhere/notes", corpus.root / ".hidden")
    with pytest.raises(ProblemsError) as caught:
        read_listing(str(corpus.root), None)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(corpus.root / "circle"),
        str(corpus.root / "id9"),
    ]


def test_the_systems_own_folder_of_a_disk_is_not_looked_at(corpus):
    corpus.add("lost+found/x.wav")
    assert "lost+found" not in read_listing(str(corpus.root), None).speakers


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"a a/1.wa\0v", "control characters"),
        (b"\x1b[31ma a/1.wav", "control characters"),
        ("a a/\x85b.wav".encode(), "control characters"),
        ("a a/\u2028b.wav".encode(), "control characters"),
        (b"a " + b"b/" * 3000 + b"c.wav", "longer than a path"),
        (b"x" * 10**6, "is one field"),
    ],
)
def test_lines_that_no_list_has(tmp_path, line, said):
    lines = tmp_path / "list"
    lines.write_bytes(b"a a/0.wav\n" + line + b"\n")
    with pytest.raises(ProblemsError, match=said) as caught:
        read_listing(str(tmp_path), str(lines))
    assert str(caught.value).startswith(f"{lines}:2: ")
    assert len(str(caught.value)) < 300


def test_what_is_no_list_is_read_no_further(tmp_path):
    lines = tmp_path / "list"
    lines.write_text("word\n" * 30_000)
    with pytest.raises(ProblemsError, match=r"10000 problems; .*read no further"):
        read_listing(str(tmp_path), str(lines))
    os.truncate(lines, 2**33)
    with pytest.raises(UserError, match=r"8192 MiB; .* is it a list"):
        read_listing(str(tmp_path), str(lines))


@pytest.mark.parametrize(
    ("root", "text"), [("none", "does not exist"), ("file", "not a folder"), ("empty", "no .wav")]
)
def test_bad_root(tmp_path, root, text):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=text):
        read_listing(str(tmp_path / root), None)


def test_list_that_is_empty_or_not_text(tmp_path):
    lines = tmp_path / "list"
    lines.write_text("\n  \n")
    with pytest.raises(UserError, match="lists no utterance"):
        read_listing(str(tmp_path), str(lines))
    lines.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_listing(str(tmp_path), str(lines))


@pytest.mark.slow
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    per_shard=st.integers(1, 60),
    group=st.integers(1, 8),
    seed=st.integers(0, 5),
)
def test_layout_deals_every_utterance_once_and_keeps_groups(labels, per_shard, group, seed):
    labels = np.array(labels)
    shards = shard_rows(labels, utterances_per_shard=per_shard, group=group, seed=seed)
    assert sorted(np.concatenate(shards).tolist()) == list(range(len(labels)))
    sizes = [len(rows) for rows in shards]
    assert min(sizes) > 0
    assert max(sizes) < per_shard + min(group, per_shard)
    shard_of = np.empty(len(labels), int)
    for number, rows in enumerate(shards):
        shard_of[rows] = number
    for label in np.unique(labels):
        mine = shard_of[labels == label]
        step = min(group, per_shard)
        for first in range(0, len(mine), step):
            assert len(set(mine[first : first + step])) == 1
    again = shard_rows(labels, utterances_per_shard=per_shard, group=group, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(shards, again, strict=True))


def test_layout_mixes_speakers_and_depends_on_the_seed():
    labels = np.repeat(np.arange(100), 10)
    one, other = (shard_rows(labels, utterances_per_shard=100, group=2, seed=seed) for seed in (0, 1))
    assert len(one) == 10
    assert all(len(set(labels[rows])) > 30 for rows in one)
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_speaker_of_all_files(tmp_path):
    for name in ("a.wav", "deep/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = read_listing(str(tmp_path), None, "noise")
    assert listing.speakers == ["noise", "noise"]
    assert listing.paths == ["a.wav", "deep/b.wav"]
    with pytest.raises(UserError, match="--speaker NAME"):
        read_listing(str(tmp_path), None)


@pytest.mark.parametrize("speaker", ["a\u200b", "b\ufeff", "c\u00ad", "x" * 256, ".."])
def test_a_speaker_that_no_manifest_can_name_is_refused_by_its_line(empty_corpus, tmp_path, speaker):
    empty_corpus.add("a/1.wav")
    lines = tmp_path / "list"
    lines.write_text(f"\n{speaker} a/1.wav\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"list:2: the speaker .* name it otherwise; nothing was packed"):
        pack(str(empty_corpus.root), str(tmp_path / "out"), list_url=str(lines))
    assert not (tmp_path / "out").exists()


def test_a_manifest_that_could_not_be_read_is_not_published(empty_corpus, tmp_path):
    empty_corpus.add("a/1.wav")
    with pytest.raises(UserError, match="a speaker without a name that can be printed"):
        pack(str(empty_corpus.root), str(tmp_path / "out"), speaker="a\u200b")
    assert not (tmp_path / "out" / "manifest.json").exists()
