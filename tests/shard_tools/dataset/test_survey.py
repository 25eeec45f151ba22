"""Recordings of a speaker, found by counts alone, are those that the whole catalogue's columns name."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from shard_tools.dataset import survey as module
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.dataset.survey import FramesOf, SpeakerRows, survey
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack


@pytest.fixture
def packed(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=4, group=2))
    return str(tmp_path / "out")


@pytest.fixture
def looks(monkeypatch):
    """The shards that have been looked at, by this process."""
    seen, look = [], module.indexes_between

    def noted(whole, first, last):
        for shard, index in look(whole, first, last):
            seen.append(shard)
            yield shard, index

    monkeypatch.setattr(module, "indexes_between", noted)
    return seen


@pytest.mark.parametrize("held", [1, 99])
def test_rows_and_samples_of_each_speaker(packed, held):
    whole = open_catalogue(packed)
    lazy = open_shardwise(packed, held=held)
    rng = np.random.default_rng(0)
    for label in range(len(whole.speakers)):
        expected = np.flatnonzero(whole.label == label)
        found = survey(lazy, label)
        assert (
            found.counts.tolist() == np.bincount(whole.shard[expected], minlength=len(found.counts)).tolist()
        )
        assert found.longest == whole.frames[expected].max()
        rows = pickle.loads(pickle.dumps(SpeakerRows(lazy, label, found.counts)))
        assert len(rows) == len(expected)
        assert rows.shards.tolist() == np.unique(whole.shard[expected]).tolist()
        for numbers in (np.arange(len(rows)), rng.integers(0, len(rows), (3, 5)), np.empty(0, np.int64)):
            assert np.array_equal(rows[numbers], expected[numbers])
            assert np.array_equal(FramesOf(lazy, rows)[numbers], whole.frames[expected][numbers])
        assert int(rows[np.array(0)]) == expected[0]
    of_all = survey(lazy, None)
    assert of_all.counts.sum() == len(whole)
    assert of_all.longest == whole.frames.max()


def test_shared_out_to_processes(packed, monkeypatch):
    monkeypatch.setattr(module, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(module, "swiftly", None)
    lazy = open_shardwise(packed, held=1)
    found = survey(lazy, 1, processes=2)
    monkeypatch.undo()
    alone = survey(lazy, 1)
    assert (found.counts.tolist(), found.longest) == (alone.counts.tolist(), alone.longest)


def test_a_node_reads_the_indexes_once(packed, tmp_path, looks):
    lazy, near = open_shardwise(packed, held=1), tmp_path / "near"
    shards = list(range(len(lazy.shard_urls)))
    found = [survey(lazy, 0, near=lambda: str(near)) for _ in range(2)]
    assert looks == shards
    assert found[0].counts.tolist() == found[1].counts.tolist()
    survey(lazy, None, near=lambda: str(near))
    assert looks == 2 * shards
    [file] = near.glob("*-0.npz")
    for times, damage in ((3, lambda data: data[:100]), (4, of_a_later_zip)):
        file.write_bytes(damage(file.read_bytes()))
        assert survey(lazy, 0, near=lambda: str(near)).counts.tolist() == found[0].counts.tolist()
        assert looks == times * shards


def of_a_later_zip(data):
    """Which zipfile does not know."""
    where = data.index(b"PK\x01\x02") + 6
    return data[:where] + b"\xff" + data[where + 1 :]


def test_where_the_disk_is_full_it_is_read_once_by_each(packed, tmp_path, looks, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    lazy, near = open_shardwise(packed, held=1), tmp_path / "near"
    monkeypatch.setattr(os, "replace", full)
    assert survey(lazy, 0, near=lambda: str(near)).counts.sum() > 0
    assert looks == list(range(len(lazy.shard_urls)))
    assert not list(near.glob("*.npz")) + list(near.glob(".survey*"))


def test_that_of_another_set_is_left_aside(packed, tmp_path, looks):
    lazy, near = open_shardwise(packed, held=1), tmp_path / "near"
    survey(lazy, 0, near=lambda: str(near))
    [file] = near.glob("*.npz")
    lazy.digest = lazy.digest[:16] + "0" * 48
    survey(lazy, 0, near=lambda: str(near))
    assert len(looks) == 2 * len(lazy.shard_urls)
    assert list(near.glob("*.npz")) == [file]


def test_where_no_folder_is_to_be_had_each_reads(packed, tmp_path, looks):
    def nowhere():
        raise UserError("no disk")

    (tmp_path / "file").touch()
    lazy = open_shardwise(packed, held=1)
    for near in (nowhere, lambda: str(tmp_path / "file" / "below")):
        assert survey(lazy, 0, near=near).counts.sum() == len(SpeakerRows(lazy, 0, survey(lazy, 0).counts))
    assert len(looks) == 4 * len(lazy.shard_urls)


def test_a_damaged_index_is_named(packed, tmp_path):
    index = Path(packed, "shard-000001.index.npz")
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-000001\.index\.npz: SHA-256 is"):
        survey(open_shardwise(packed, held=1), 0, near=lambda: str(tmp_path / "near"))
