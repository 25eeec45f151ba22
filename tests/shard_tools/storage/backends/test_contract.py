"""Each kind of storage is held to `contract.Place`: one suite over all of them."""

from __future__ import annotations

import os

import obstore_alone
import pytest
from s3_settings import forget_clients

from shard_tools.storage.backends import Place, choose, obstore_clients, place_at
from shard_tools.storage.backends.obstore import ObstorePlace
from shard_tools.storage.errors import ReplacedError, ShortError, StorageError

REAL_STORE = [pytest.mark.s3, pytest.mark.slow]


@pytest.fixture(
    params=[
        "path",
        "file",
        "memory",
        pytest.param("s3 by s3fs", marks=REAL_STORE),
        pytest.param("s3 by obstore", marks=REAL_STORE),
        "obstore's memory",
        "obstore's local",
    ]
)
def folder(request, tmp_path, monkeypatch):
    """The URL of a folder that does not exist yet, on each kind of storage."""
    if request.param in ("path", "file", "memory"):
        yield {"path": "", "file": "file://", "memory": "memory://"}[request.param] + str(tmp_path / "new")
        return
    if request.param.startswith("obstore's"):
        (tmp_path / "new").mkdir()
        client = obstore_alone.client_at(None if "memory" in request.param else tmp_path / "new")
        monkeypatch.setattr(obstore_clients, "_make", lambda bucket: client)
        monkeypatch.setattr(ObstorePlace, "_by_fsspec", lambda place: obstore_alone.Writing(place))
        yield "gs://bucket/some/prefix"
        forget_clients()
        return
    if not request.param.endswith("obstore"):
        monkeypatch.setattr(choose, "may_use", lambda: False)
    yield request.getfixturevalue("s3_folder") + "/some/prefix"


@pytest.fixture
def place(folder):
    return place_at(f"{folder}/x")


def verdict_of(place: Place, verb) -> object:
    with pytest.raises(Exception) as caught:
        verb(place)
    return place.judge(caught.value)


def test_what_is_written_is_read(folder, place):
    place.write(b"old")
    place.write(b"0123456789")
    place.check()
    place_at(folder).check()
    assert place.size() == 10
    assert place.modified() > 1.7e9
    assert place.read(None, None) == b"0123456789"
    assert (place.read(2, 5), place.read(8, None), place.read(None, 3)) == (b"234", b"89", b"012")
    assert (place.read(8, 20), place.read(0, 0)) == (b"89", b"")


def test_an_empty_file_is_a_file(place):
    place.write(b"")
    place.check()
    assert (place.size(), place.read(None, None)) == (0, b"")
    assert (place.read(0, 10), place.read(None, 10), place.read(5, 10)) == (b"", b"", b"")


@pytest.mark.parametrize(("start", "end"), [(0, 1), (3, 10), (0, 10)])
def test_a_range_is_read_exactly(place, start, end):
    place.write(b"0123456789")
    assert place.read_exactly(start, end, 10) == b"0123456789"[start:end]


@pytest.mark.parametrize(("start", "end"), [(3, 11), (10, 12), (15, 20)])
def test_a_range_beyond_the_end_is_short(place, start, end):
    place.write(b"0123456789")
    with pytest.raises(ShortError) as caught:
        place.read_exactly(start, end, 20)
    assert caught.value.size in (10, start)  # where the end is, as far as the store says


def test_another_size_is_said_by_those_who_know_it(folder, place):
    place.write(b"0123456789")
    if folder.startswith(("s3://", "gs://")):
        with pytest.raises(StorageError, match="has 10 bytes, the manifest says 9: it was packed anew"):
            place.read_exactly(0, 4, 9)
    else:
        assert place.read_exactly(0, 4, 9) == b"0123"


def test_what_was_replaced_is_not_read_on(folder, place):
    """Those who tell no versions apart are held by the sums that readers check."""
    place.write(b"0123456789")
    assert place.read_exactly(2, 5, 10) == b"234"
    assert place.read_exactly(0, 1, 10) == b"0"
    place.write(b"abcdefghij")
    if folder.startswith(("s3://", "gs://")):
        with pytest.raises(ReplacedError, match=f"{folder}/x: was replaced while it was being read"):
            place.read_exactly(2, 5, 10)
        assert not verdict_of(place, lambda place: place.read_exactly(2, 5, 10)).passing
        assert place.read(None, None) == b"abcdefghij"  # small files are replaced rightly
    else:
        assert place.read_exactly(2, 5, 10) == b"cde"


@pytest.mark.parametrize(
    "name", ["a b", "a+b", "a%b", "a%20b", "a#b", "a?b", "ü/é", "日本", "a&b=c;d", "(a)[b]"]
)
def test_odd_names_are_names(folder, name):
    place = place_at(f"{folder}/{name}")
    place.write(name.encode())
    assert place.read(None, None) == name.encode()
    assert place.read_exactly(0, 2, len(name.encode())) == name.encode()[:2]
    assert place.size() == len(name.encode())
    assert place_at(folder).names() == [name.partition("/")[0]]


@pytest.mark.parametrize(
    "verb",
    [
        Place.check,
        Place.size,
        Place.modified,
        lambda place: place.read(None, None),
        lambda place: place.read(1, 2),
        lambda place: place.read_exactly(1, 2, 3),
    ],
)
def test_nothing_there_is_judged_missing(place, verb):
    verb = getattr(type(place), verb.__name__, verb)
    verdict = verdict_of(place, verb)
    assert (verdict.missing, verdict.passing) == ("object", False)


def test_a_folder_lists_its_own(folder):
    for name in ("b", "a", "deep/x", "deep/y", "deep/deep/z"):
        place_at(f"{folder}/{name}").write(b"x")
    assert sorted(place_at(folder).names()) == ["a", "b", "deep"]
    assert sorted(place_at(f"{folder}/deep").names()) == ["deep", "x", "y"]
    place_at(f"{folder}/c").write(b"x")
    place_at(f"{folder}/a").remove()
    assert sorted(place_at(folder).names()) == ["b", "c", "deep"]


def test_what_is_removed_is_gone(place):
    place.write(b"x")
    place.remove()
    assert verdict_of(place, type(place).check).missing == "object"


def test_a_file_is_taken(place, tmp_path):
    local = tmp_path / "local"
    local.write_bytes(b"x" * 1000)
    place.take(str(local))
    assert place.read(None, None) == b"x" * 1000
    assert not local.exists()


def test_taking_what_is_not_there_leaves_what_was(place, tmp_path):
    place.write(b"old")
    assert verdict_of(place, lambda place: place.take(str(tmp_path / "none"))).passing is False
    assert place.read(None, None) == b"old"
    assert [name for name in os.listdir(tmp_path) if name != "new"] == []


def test_only_drafts_of_ours_are_removed(folder):
    names = ["x", ".x.0123abcd.part", ".y.0123abcd.part", ".x.part", "x.0123abcd.part"]
    for name in names:
        place_at(f"{folder}/{name}").write(b"x")
    removed = place_at(folder).remove_drafts(lambda name: name == "x")
    left = sorted(place_at(folder).names())
    assert removed == ([".x.0123abcd.part"] if place_at(folder).moves else [])
    assert left == sorted(set(names) - set(removed))


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("reset")])
def test_time_outs_and_resets_pass(place, error):
    verdict = place.judge(error)
    assert verdict.passing
    assert verdict.missing is None


def test_a_full_disk_and_a_refusal_do_not_pass(place):
    for error in (OSError(28, "No space left on device"), PermissionError(13, "Permission denied")):
        verdict = place.judge(error)
        assert not verdict.passing
        assert verdict.advice
