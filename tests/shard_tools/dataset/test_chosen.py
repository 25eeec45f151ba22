"""Utterances of a set by their keys: as the whole catalogue has them, whatever indexes they are in."""

from __future__ import annotations

import numpy as np
import pytest

from shard_tools.dataset import chosen as module
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.chosen import all_keys, choose
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.reader import Reader


@pytest.fixture
def packed(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=4, group=2))
    return str(tmp_path / "out")


def test_they_are_those_of_the_whole_catalogue(packed):
    whole = open_catalogue(packed)
    keys = [whole.key(u) for u in range(len(whole))]
    assert list(all_keys(open_shardwise(packed, held=1))) == keys
    few = keys[::3]
    found = choose(open_shardwise(packed, held=1), {*reversed(few), "nobody/0"})
    rows = np.arange(0, len(whole), 3)
    assert list(found.rows.items()) == [(key, row) for row, key in enumerate(few)]
    assert [found.key(u) for u in range(len(found))] == few
    for name in ("shard", "label", "frames", "codec", "offset", "size", "pcm_offset"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)[rows]), name
    for row, u in enumerate(rows.tolist()):
        assert np.array_equal(Reader(found).utterance(row), Reader(whole).utterance(u))
        same = {whole.key(other) for other in whole.others(u, elsewhere=False)} & {*few}
        assert {few[other] for other in found.others(row, elsewhere=False)} == same


def test_no_key_and_none_that_is_there(packed, monkeypatch):
    nothing = choose(open_shardwise(packed, held=1), ["nobody/0"])
    assert (len(nothing), nothing.rows, nothing.label.dtype) == (0, {}, np.int32)
    monkeypatch.setattr(module, "fetched", None)
    assert len(choose(open_shardwise(packed, held=1), [])) == 0


def test_once_all_are_found_no_other_index_is_looked_at(packed, monkeypatch):
    looked = []
    check = module.checked_index
    monkeypatch.setattr(module, "checked_index", lambda *given: looked.append(given[1]) or check(*given))
    table = open_shardwise(packed, held=1)
    first = next(iter(all_keys(table)))
    looked.clear()
    assert list(choose(table, [first]).rows) == [first]
    assert len(looked) == 1 < len(table.shard_urls)


def test_shared_out_to_processes(packed, monkeypatch):
    monkeypatch.setattr(module, "WORTH_A_PROCESS", 1)
    started = []
    monkeypatch.setattr(module, "apart", lambda work, items: started.append(len(items)) or map(work, items))
    keys = list(all_keys(open_shardwise(packed, held=1)))
    assert list(choose(open_shardwise(packed, held=1), keys, processes=3).rows) == keys
    assert started[0] > 1


def test_an_index_of_another_packing(packed, tmp_path):
    (tmp_path / "out/shard-000002.index.npz").write_bytes(
        (tmp_path / "out/shard-000001.index.npz").read_bytes()
    )
    with pytest.raises(UserError, match="damaged, or from another packing"):
        choose(open_shardwise(packed, held=1), ["nobody/0"])
