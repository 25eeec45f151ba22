from __future__ import annotations

import hashlib

import numpy as np
import pytest

from eval.trials import read_trials
from shard_tools.errors import UserError


def write(tmp_path, text, name="trials.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_columns(tmp_path):
    text = "1 a/1.wav a/2.wav\n0\ta/1.wav  b/1.wav\r\n1 b/1.wav b/1.wav\n0 a/1.wav b/1.wav\n\n"
    trials = read_trials(write(tmp_path, text, "veri_test.txt"))
    assert trials.names == ["a/1.wav", "a/2.wav", "b/1.wav"]
    np.testing.assert_array_equal(trials.label, [1, 0, 1, 0])
    np.testing.assert_array_equal(trials.left, [0, 0, 2, 0])
    np.testing.assert_array_equal(trials.right, [1, 2, 2, 2])  # self-trials and repetitions are trials
    assert (trials.label.dtype, trials.left.dtype, trials.right.dtype) == (np.int8, np.int64, np.int64)
    assert (trials.name, len(trials)) == ("veri_test.txt", 4)
    assert trials.digest == hashlib.sha256(text.encode()).hexdigest()


def test_any_url():
    import fsspec

    fsspec.filesystem("memory").pipe("/lists/t.txt", b"1 a b\n0 a c")
    trials = read_trials("memory://lists/t.txt")
    assert (trials.name, trials.names) == ("t.txt", ["a", "b", "c"])


def test_names_keep_blanks_that_are_not_ascii(tmp_path):
    assert read_trials(write(tmp_path, "1 a\u00a0b c\n0 é/1.wav c\n")).names == ["a\u00a0b", "c", "é/1.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("1 a b\n0 a\n", r"line 2: expected 3 fields .* found 2: '0 a'"),
        ("1 a b\na b\n", r"line 2: expected 3 fields"),
        ("1 a b c\n0 a b\n", r"line 1: .* found 4"),
        ("1 a b\n\n0 a b\n", r"line 2: .* found 0"),
        ("1 a b\n0 a c\nsame a b\n", r"line 3: the label must be 1 .* 'same'"),
        ("1 a b\n2 a c\n", "line 2: the label"),
        ("1.0 a b\n0 a c\n", "line 1: the label"),
        ("1 a b\n1 a c\n", r"none of the 2 trials are non-target"),
        ("0 a b\n", r"none of the 1 trials are target"),
        (b"1 a b\n0 a \xff\n", "not UTF-8"),
    ],
)
def test_bad_lists_are_refused_in_one_line_that_names_them(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_trials(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        read_trials(str(tmp_path / "nowhere.txt"))
