from __future__ import annotations

import errno
import os
import shutil
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from requests_made import count_requests

from eval import utterances as utterances_module
from eval.utterances import FolderUtterances, ShardUtterances, open_utterances, require_all
from shard_tools import audio
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.storage import MissingError


@pytest.fixture(scope="module")
def shards(voices, tmp_path_factory):
    url = str(tmp_path_factory.mktemp("shards"))
    pack(str(voices.folder), url, options=PackOptions(format="flac", utterances_per_shard=5))
    return url


def test_folders_and_shards_give_the_same_audio(voices, shards):
    folder, packed = open_utterances(str(voices.folder)), open_utterances(shards)
    assert isinstance(folder, FolderUtterances)
    assert isinstance(packed, ShardUtterances)
    for name, frames in voices.lengths.items():
        samples = folder.load(name)
        assert (samples.shape, samples.dtype) == ((frames,), np.int16)
        np.testing.assert_array_equal(packed.load(name), samples)


def test_a_file_that_cannot_be_looked_at_is_not_missing(voices, monkeypatch):
    source, looked = open_utterances(str(voices.folder)), os.stat

    def stat(path, *rest, **options):
        if str(path).endswith("s0/01.wav"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return looked(path, *rest, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(UserError, match=r"s0/01\.wav: cannot be read .Permission denied"):
        source.missing(["s0/00.wav", "s0/01.wav"])


def test_any_url(voices):
    memory = fsspec.filesystem("memory")
    memory.pipe("/eval-data/s0/00.wav", (voices.folder / "s0/00.wav").read_bytes())
    source = open_utterances("memory://eval-data")
    assert source.missing(["s0/00.wav", "s0/01.wav"]) == ["s0/01.wav"]
    assert len(source.load("s0/00.wav")) == voices.lengths["s0/00.wav"]


@pytest.fixture(params=[False, True], ids=["whole", "chosen"])
def large(request, monkeypatch):
    """Sets are large, of which only what was asked for is held."""
    if request.param:
        monkeypatch.setattr(utterances_module, "_HELD_WHOLE", 0)
    return request.param


def test_a_set_is_asked_for_each_of_its_files_once(shards, large, monkeypatch):
    asked = count_requests(monkeypatch)
    source = open_utterances(shards)
    assert asked["manifest.json"] == 1
    assert len(source.names()) == 12
    assert max(asked.values()) == 1
    assert len(asked) == 4  # with three shards' indexes


def test_a_shard_index_that_is_lost_makes_no_folder_of_files_of_a_set(shards, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(shards, broken)
    (broken / "shard-000001.index.npz").unlink()
    with pytest.raises(MissingError, match=r"shard-000001\.index\.npz: does not exist"):
        open_utterances(str(broken))


def test_of_a_large_set_what_is_asked_for_is_looked_up_at_once(voices, shards, large, monkeypatch):
    looks = []
    choose = utterances_module.choose
    monkeypatch.setattr(utterances_module, "choose", lambda *given: looks.append(given[1]) or choose(*given))
    source, names = open_utterances(shards), list(voices.lengths)
    assert source.missing([*names[:3], "s0/99.wav"]) == ["s0/99.wav"]
    assert source.frames(names[:3]).tolist() == [voices.lengths[name] for name in names[:3]]
    assert source.speakers(names[:2]) == tuple(name.split("/")[0] for name in names[:2])
    assert len(set(source.stamps(names[:3]))) == 3
    assert len(source.load(names[0])) == voices.lengths[names[0]]
    assert len(looks) == large
    assert len(source.load(names[3])) == voices.lengths[names[3]]
    assert [len(keys) for keys in looks] == [4, 1] * large
    assert sorted(source.names()) == sorted(name.rpartition(".")[0] for name in names)
    with pytest.raises(UserError, match="no utterance with the key 's0/99'"):
        source.load("s0/99.wav")


def test_a_list_may_name_another_codec_than_the_shards_hold(shards):
    assert open_utterances(shards).missing(["s0/00.wav", "s0/00.flac", "s0/09.flac"]) == ["s0/09.flac"]


@pytest.mark.slow
@pytest.mark.usefixtures("large")
def test_shards_are_read_from_several_threads(voices, shards):
    source = open_utterances(shards)
    names = list(voices.lengths) * 20
    together = threading.Barrier(4)

    def load(number):
        if number < 4:
            together.wait()
        return source.load(names[number])

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, range(len(names))))
    assert [len(samples) for samples in loaded] == [voices.lengths[name] for name in names]


def test_missing_utterances_are_counted_and_the_first_are_named(voices, shards):
    names = ["s0/00.wav", "x/1.wav", "x/2.wav", "s1/00.wav", *[f"x/{n}.wav" for n in range(3, 12)]]
    for url in (str(voices.folder), shards):
        with pytest.raises(UserError) as caught:
            require_all(open_utterances(url), names, "list.txt")
        text = str(caught.value)
        assert f"{url}: 11 of the 13 utterances in list.txt" in text
        assert "x/1.wav, x/2.wav, x/3.wav" in text
        assert "x/10.wav, …" in text
        assert "x/11.wav" not in text
        require_all(open_utterances(url), list(voices.lengths), "list.txt")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_only_looks_like_a_file_is_neither_missing_nor_read(tmp_path, make):
    make(tmp_path / "a.wav")
    source = open_utterances(str(tmp_path))
    for read in (lambda: require_all(source, ["a.wav"], "list.txt"), lambda: source.load("a.wav")):
        with pytest.raises(UserError, match=r"a\.wav: is a .*, not a file of audio"):
            read()


def test_headers_that_can_be_read_in_two_ways_are_refused(tmp_path):
    whole = audio.encode(np.arange(8000, dtype=np.int16), "wav")
    (tmp_path / "align.wav").write_bytes(whole[:32] + b"\4" + whole[33:])
    (tmp_path / "two.wav").write_bytes(whole + b"data\4\0\0\0abcd")
    (tmp_path / "pipe.wav").write_bytes(whole[:40] + b"\0\xf0\xff\x7f" + whole[44:])
    source = open_utterances(str(tmp_path))
    for name, found in (
        ("align", "contradicts itself"),
        ("two", "second data chunk"),
        ("pipe", "gives no length .*; make-shards pack --convert"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.wav: .*{found}"):
            source.load(f"{name}.wav")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_utterances(str(tmp_path / "nowhere"))


def test_a_broken_manifest_is_not_taken_for_a_folder_of_audio(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json"):
        open_utterances(str(tmp_path))


def test_a_name_in_the_other_unicode_form_is_told_apart(tmp_path):
    composed = unicodedata.normalize("NFC", "Zoë/1.wav")
    folder = tmp_path / composed.split("/")[0]
    folder.mkdir()
    (folder / "1.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"Unicode form only is there: .*NFC"):
        require_all(open_utterances(str(tmp_path)), [unicodedata.normalize("NFD", composed)], "list.txt")
