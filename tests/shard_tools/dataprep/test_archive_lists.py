from __future__ import annotations

import re

import pytest
from file_lists import write_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.dataprep.archive_lists import Joined, Listed, chosen, misfits, names_in, read_lists
from shard_tools.errors import UserError

MD5, OTHER = "0123456789abcdef" * 2, "f" * 32


def read(tmp_path, *texts: str):
    return read_lists(write_lists(tmp_path / "lists", *texts))


def test_what_a_list_holds(tmp_path):
    lists = read(
        tmp_path, f"a {MD5}\nb {OTHER}\n", f"a* whole.zip {OTHER}\n", f"http://h/p/c%20d.zip?x=1 {MD5}\n"
    )
    folder = tmp_path / "lists"
    assert lists.fileparts == [
        Listed("a", MD5, f"{folder}/fileparts.txt:1"),
        Listed("b", OTHER, f"{folder}/fileparts.txt:2"),
    ]
    assert lists.files == [Joined("a*", "whole.zip", OTHER, f"{folder}/files.txt:1")]
    [augment] = lists.augment
    assert (augment.name, augment.urls, augment.open_to_all) == (
        "c d.zip",
        ("http://h/p/c%20d.zip?x=1",),
        True,
    )
    assert lists.parts_of(lists.files[0]) == lists.fileparts[:1]
    assert lists.joined_from(lists.fileparts[1]) is None


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff# parts\r\n\r\na\t{MD5.upper()}  \t\r\nname with blanks {OTHER}",
        f"  a   {MD5}\rname with blanks\t{OTHER}\r",
        f"{MD5}  a\n{OTHER} *name with blanks\n",  # as md5sum writes it
    ],
)
def test_text_that_editors_made_is_taken_as_meant(tmp_path, text):
    assert [(each.name, each.md5) for each in read(tmp_path, text).fileparts] == [
        ("a", MD5),
        ("name with blanks", OTHER),
    ]


def test_urls_of_one_file_are_its_mirrors(tmp_path):
    lists = read(tmp_path, f"http://one/a {MD5}\nhttp://two/a {MD5}\na {MD5}\n")
    assert [each.urls for each in lists.fileparts] == [("http://one/a", "http://two/a")]
    assert not lists.fileparts[0].open_to_all


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("a\n",), r"fileparts.txt:1: 'a' is not a name and an MD5"),
        (("a b\n",), "is not a name and an MD5"),
        ((f"\na {MD5[:-1]}g\n",), r"fileparts.txt:2: .* is not a name and an MD5"),
        ((f"a {MD5}\na {OTHER}\n",), r"fileparts.txt:2: a has another MD5 than at .*fileparts.txt:1"),
        ((f"../a {MD5}\n",), r"'../a' is no name of a file"),
        ((f".a {MD5}\n",), "is no name of a file"),
        ((f"http://host/ {MD5}\n",), "'' is no name of a file"),
        ((f"http://host/%2e%2e%2fa {MD5}\n",), r"'../a' is no name of a file"),
        (("", f"a* a.zip {MD5}\nb* a.zip {MD5}\n"), r"files.txt:2: a.zip is joined at .*:1 already"),
        (("", f"a* {MD5}\n"), "is not a pattern, a name and an MD5"),
        (("", f"a* /b {MD5}\n"), "'/b' is no name of a file"),
    ],
)
def test_lines_that_are_wrong(tmp_path, texts, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, *texts)


def test_lists_that_cannot_be_read(tmp_path):
    with pytest.raises(
        UserError, match=r"fileparts.txt: cannot be read \(No such file.*; --lists names a folder"
    ):
        read_lists(tmp_path)
    folder = write_lists(tmp_path / "lists", "")
    (folder / "files.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"files.txt: is not UTF-8 text"):
        read_lists(folder)


def test_which_file_is_missing_from_which_list(tmp_path):
    parts = "".join(f"x_part{letters} {MD5}\n" for letters in ("aa", "ac", "af"))
    lists = read(tmp_path, f"{parts}y_partab {MD5}\nz.zip {MD5}\n", f"x_parta* x.zip {MD5}\nw* w.zip {MD5}\n")
    assert misfits(lists, ["x_partaa", "x.zip", "old_partaa"]) == [
        "files.txt joins w* to w.zip, but no such part is in fileparts.txt",
        "fileparts.txt lists y_partab, but no pattern of files.txt joins it",
        "x_partab is missing from fileparts.txt, which lists parts before and after it",
        "x_partad is missing from fileparts.txt, which lists parts before and after it",
        "x_partae is missing from fileparts.txt, which lists parts before and after it",
        "y_partaa is missing from fileparts.txt, which lists parts before and after it",
        "finished.txt has old_partaa, which is missing from fileparts.txt, files.txt and augment.txt",
    ]


def test_a_list_of_finished_files(tmp_path):
    path = tmp_path / "finished.txt"
    assert names_in(path) == []
    path.write_text(f"https://host/x/a {MD5}\r\n# done\nb {MD5} 12 13\nvoxceleb1/dev/wav/ {MD5} - -\n")
    assert names_in(path) == ["a", "b"]


def test_chosen():
    names = ["vox1_a", "vox1_b", "vox2"]
    assert chosen(names, [], what="file") == set(names)
    assert chosen(names, ["vox1*", "vox?"], what="file") == set(names)
    with pytest.raises(
        UserError, match=re.escape("--only x*: matches no file; there are: vox1_a, vox1_b, vox2")
    ):
        chosen(names, ["vox2", "x*"], what="file")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_refused(tmp_path_factory, data):
    folder = write_lists(tmp_path_factory.mktemp("lists"), "")
    (folder / "fileparts.txt").write_bytes(data)
    try:
        found = read_lists(folder).fileparts
    except UserError:
        return
    assert all(each.name and "/" not in each.name and len(each.md5) == 32 for each in found)
