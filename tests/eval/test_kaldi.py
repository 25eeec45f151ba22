"""Kaldi's archives, against bytes written out by the format's description."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from eval.embedding_files import read_embeddings, write_embeddings
from eval.embeddings import Embeddings
from eval.kaldi import decode_ark, decode_scp, encode_ark
from shard_tools import storage
from shard_tools.errors import UserError

VECTORS = np.array([[[1.0, -2.5]], [[0.25, 3.0]]], np.float32)
# "utt1 " \0 B "FV " 4 dim(int32) floats
ARK = (
    b"a/1 \0BFV \4\2\0\0\0" + struct.pack("<2f", 1.0, -2.5)
    + b"b \0BFV \4\2\0\0\0" + struct.pack("<2f", 0.25, 3.0)
)  # fmt: skip


def test_vectors():
    archive, script = encode_ark(["a/1", "b"], VECTORS, "/x/e.ark")
    assert archive == ARK
    assert script == "a/1 /x/e.ark:4\nb /x/e.ark:24\n"
    assert [(key, value.tolist()) for key, value in decode_ark(ARK, "e")] == [
        ("a/1", [[1.0, -2.5]]),
        ("b", [[0.25, 3.0]]),
    ]


def test_matrices():
    archive, _ = encode_ark(["a"], VECTORS.reshape(1, 2, 2), "e.ark")
    assert archive == b"a \0BFM \4\2\0\0\0\4\2\0\0\0" + struct.pack("<4f", 1.0, -2.5, 0.25, 3.0)
    ((key, value),) = decode_ark(archive, "e")
    assert (key, value.tolist()) == ("a", [[1.0, -2.5], [0.25, 3.0]])


def test_double_precision_is_read():
    data = b"a \0BDV \4\1\0\0\0" + struct.pack("<d", 0.5)
    assert [(key, value.tolist()) for key, value in decode_ark(data, "e")] == [("a", [[0.5]])]


def test_files(tmp_path):
    url = str(tmp_path / "e.ark")
    write_embeddings(Embeddings(("a/1", "b"), VECTORS, 0, 0, "someone"), url)
    for ending in ("ark", "scp"):
        read = read_embeddings(str(tmp_path / f"e.{ending}"))
        assert (read.names, read.crops, read.made_by) == (("a/1", "b"), 0, "")
        np.testing.assert_array_equal(read.vectors, VECTORS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no embeddings"),
        (ARK[:-1], "b: cut short or damaged"),
        (ARK[:8], "a/1: neither a vector nor a matrix"),
        (ARK[:12], "a/1: cut short"),
        (b"a [ 1 2 ]\n", "byte 0 begins no entry of a binary"),
        (b"a \0BCM \4\2\0\0\0", "uncompressed"),
        (ARK + ARK, "two entries have the key a/1"),
        (ARK + b"c \0BFV \4\1\0\0\0" + struct.pack("<f", 1.0), "alike"),
        (b"c \0BFV \4\xff\xff\xff\x7f", "cut short"),
        (b"c \0BFM \4\xff\xff\xff\x7f\4\xff\xff\xff\x7f", "cut short"),
    ],
)
def test_damage_is_a_line(data, words):
    storage.publish_bytes("memory://bad.ark", data)
    with pytest.raises(UserError, match=words):
        read_embeddings("memory://bad.ark")


def test_names_that_no_archive_can_hold():
    with pytest.raises(UserError, match=r"'a b' holds blanks"):
        encode_ark(["a b", "c"], VECTORS, "e.ark")


def test_scripts_of_another_form_are_refused():
    with pytest.raises(UserError, match="line 1: each line is"):
        decode_scp(b"a e.ark\n", "e.scp")
    assert decode_scp(b"a C:/x e.ark:12\n", "e") == [("a", "C:/x e.ark", 12)]
