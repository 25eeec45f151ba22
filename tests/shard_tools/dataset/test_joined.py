"""Several datasets as one table: what each holds, where it is then."""

from __future__ import annotations

import pickle
import re
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.dataset import joined_speakers as module
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.joined import JoinedTable
from shard_tools.dataset.joined_speakers import join_speakers
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.reader import Reader

COLUMNS = ("frames", "codec", "offset", "size", "pcm_offset")
NAMES = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6), min_size=1, max_size=4)


@given(NAMES)
def test_joined_speakers_are_one_label_a_name(sets):
    found = join_speakers([str(i) for i in range(len(sets))], sets, "joined")
    assert sorted(found.names) == sorted({name for own in sets for name in own})
    assert list(found.names[: len(sets[0])]) == sets[0]
    for own, labels in zip(sets, found.labels, strict=True):
        assert [found.names[label] for label in labels] == own


@given(NAMES, st.sampled_from([1, 3]))
def test_names_with_the_same_hash_are_told_apart(sets, hashes):
    expected = join_speakers([""] * len(sets), sets, "joined")
    try:
        module.hash = lambda name: ord(name) % hashes
        found = join_speakers([""] * len(sets), sets, "joined")
    finally:
        del module.hash
    assert list(found.names) == list(expected.names)
    for own, labels in zip(found.labels, expected.labels, strict=True):
        assert np.array_equal(own, labels)


def test_names_of_mapped_tables_and_of_tuples(corpus, tmp_path):
    url = str(tmp_path / "out")
    pack(str(corpus.root), url, options=PackOptions(utterances_per_shard=4, group=2))
    names = open_catalogue(url).speakers
    mapped, some = open_shardwise(url, held=1).speakers, ("nobody", *names[::2])
    for sets in ((mapped, some), (some, mapped), (mapped, mapped), (some, mapped, some)):
        found = join_speakers([""] * 3, sets, "joined")
        expected = join_speakers([""] * 3, [tuple(own) for own in sets], "joined")
        assert list(found.names) == [found.names[place] for place in range(len(found.names))]
        assert list(found.names) == list(expected.names) == list(dict.fromkeys(chain(*sets)))
        for own, labels in zip(sets, found.labels, strict=True):
            assert [found.names[label] for label in labels] == list(own)


@given(NAMES)
def test_speakers_apart_are_a_label_each(sets):
    found = join_speakers([str(i) for i in range(len(sets))], sets, "apart")
    assert np.array_equal(np.concatenate(found.labels), np.arange(sum(map(len, sets))))
    assert list(found.names) == [name for own in sets for name in own]


@pytest.mark.slow
@given(NAMES)
def test_refusing_differs_from_joining_in_the_refusal_alone(sets):
    urls = [f"url{i}" for i in range(len(sets))]
    names = [name for own in sets for name in own]
    if len(set(names)) == len(names):
        assert join_speakers(urls, sets, "refuse").names == join_speakers(urls, sets, "joined").names
    else:
        with pytest.raises(UserError, match=r"^url\d and url\d both have speakers named .*same_speakers"):
            join_speakers(urls, sets, "refuse")


def test_a_clash_names_the_datasets_and_some_of_the_speakers():
    message = "one and three both have speakers named b, c, d and 1 more: set data.same_speakers to joined"
    with pytest.raises(UserError, match=re.escape(message)):
        join_speakers(["one", "two", "three"], ["abcde", "xy", "ybcde"[1:]], "refuse")


@pytest.mark.slow
@pytest.mark.parametrize("opening", [open_catalogue, lambda url, **k: open_shardwise(url, held=2, **k)])
def test_everything_is_where_its_own_dataset_has_it(corpus, tmp_path, opening):
    for name, form in (("one", "keep"), ("two", "flac")):
        options = PackOptions(format=form, utterances_per_shard=4, group=2)
        pack(str(corpus.root), str(tmp_path / name), options=options)
    tables = [opening(str(tmp_path / name), block_crcs=True) for name in ("one", "two")]
    names = join_speakers([table.url for table in tables], [table.speakers for table in tables], "apart")
    joined = pickle.loads(pickle.dumps(JoinedTable(tables, names)))
    size, shards = len(tables[0]), len(tables[0].shard_urls)
    assert len(joined) == 2 * size
    assert joined.shard_urls == [*tables[0].shard_urls, *tables[1].shard_urls]
    every = np.arange(size)
    rows = np.random.default_rng(0).permutation(2 * size)
    for name in COLUMNS:
        expected = np.concatenate([getattr(table, name)[every] for table in tables])
        found = getattr(joined, name)[rows]
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected[rows])
    assert np.array_equal(joined.shard[every + size], tables[1].shard[every] + shards)
    assert np.array_equal(joined.label[every + size], tables[1].label[every] + 5)
    assert joined.label.__getitem__(size + 3) == tables[1].label[3] + 5
    readers = [Reader(table, verify="crops") for table in tables]
    reader = Reader(joined, verify="crops")
    for u in (0, size - 1, size, 2 * size - 1):
        number, own = joined.locate(u)
        assert joined.key(u) == tables[number].key(own)
        others = joined.others(u, elsewhere=False)
        assert np.array_equal(others, tables[number].others(own, elsewhere=False) + number * size)
        assert np.array_equal(reader.utterance(u), readers[number].utterance(own))
    assert joined.hours == pytest.approx(2 * tables[0].hours)


def test_the_digest_is_of_all_in_their_order(corpus, tmp_path):
    for name, form in (("one", "keep"), ("two", "flac")):
        pack(str(corpus.root), str(tmp_path / name), options=PackOptions(format=form))
    one, two = (open_catalogue(str(tmp_path / name)) for name in ("one", "two"))
    names = join_speakers(["one", "two"], [one.speakers, two.speakers], "joined")
    digests = {JoinedTable(tables, names).digest for tables in ([one, two], [two, one])}
    assert len(digests | {one.digest, two.digest}) == 4
