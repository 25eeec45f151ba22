"""Embeddings come back as they were saved, or a line says why not."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.embeddings import Embeddings, load_embeddings
from shard_tools import storage
from shard_tools.errors import UserError

NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def some() -> Embeddings:
    vectors = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    return Embeddings(("a/1", "b/é", "c 2"), vectors, 2, 400, "abc")


@pytest.mark.slow
@given(st.lists(NAME, unique=True, max_size=6), st.integers(0, 3), st.integers(1, 5), NAME)
def test_what_is_saved_is_read(names, crops, size, made_by):
    vectors = np.random.default_rng(1).standard_normal((len(names), max(crops, 1), size)).astype(np.float32)
    saved = Embeddings(
        tuple(names), vectors, crops, 400 if crops else 0, made_by, np.arange(len(names), dtype=np.float32)
    )
    saved.save("memory://embeddings.npz")
    read = load_embeddings("memory://embeddings.npz")
    assert (read.names, read.crops, read.crop_feature_frames, read.made_by) == (
        saved.names, saved.crops, saved.crop_feature_frames, saved.made_by,
    )  # fmt: skip
    assert np.array_equal(read.vectors, saved.vectors)
    assert np.array_equal(read.seconds, saved.seconds)


def test_utterances_are_found_by_name():
    assert some().rows(["c 2", "a/1"]).tolist() == [2, 0]
    with pytest.raises(UserError, match=r"no embedding of .d.; embed it too"):
        some().rows(["a/1", "d"])


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="2 names for the embeddings of 3"):
        Embeddings(("a", "b"), some().vectors, 2, 400)
    with pytest.raises(ValueError, match="seconds are"):
        Embeddings(some().names, some().vectors, 2, 400, seconds=np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="2 embeddings of each utterance, of 5 crops"):
        Embeddings(some().names, some().vectors, 5, 400)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": np.int64(9)}, "field version is 9, this release reads 2"),
        ({"vectors": None}, "field vectors is missing"),
        ({"vectors": np.zeros((3, 2))}, "field vectors is float64 of 2 dimensions"),
        ({"name_ends": np.array([3, 2, 9])}, "field name_ends does not fit the names"),
        ({"crops": np.int64(7)}, "2 embeddings of each utterance, of 7 crops"),
        ({"names": np.full(10, 255, np.uint8)}, "embed again"),
    ],
)
def test_fields_that_cannot_be_are_named(tmp_path, changed, words):
    url = str(tmp_path / "e.npz")
    some().save(url)
    with np.load(url) as file:
        fields = {name: file[name] for name in file.files} | changed
    np.savez(url, **{name: value for name, value in fields.items() if value is not None})
    with pytest.raises(UserError, match=words):
        load_embeddings(url)


def said_of(url: str) -> str:
    try:
        load_embeddings(url)
    except UserError as error:
        return str(error)
    return ""


def test_damage_is_a_line(tmp_path):
    some().save(str(tmp_path / "e.npz"))
    whole = (tmp_path / "e.npz").read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        length = rng.choice([len(data), rng.randrange(len(data))])
        storage.publish_bytes("memory://damaged.npz", bytes(data[:length]))
        assert "\n" not in said_of("memory://damaged.npz")


def test_pickles_are_not_opened(tmp_path):
    file = io.BytesIO()
    np.savez(file, version=np.array([{}], dtype=object))
    (tmp_path / "e.npz").write_bytes(file.getvalue())
    with pytest.raises(UserError, match="no embeddings"):
        load_embeddings(str(tmp_path / "e.npz"))
