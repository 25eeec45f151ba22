from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.trials import read_trials, repeated
from shard_tools.errors import UserError

NAMES = st.lists(
    st.text(st.characters(categories=("L", "N", "Zs"), exclude_characters="\u2028\u2029"), min_size=1)
    .map(str.strip)
    .filter(lambda part: part and part.strip(" \t\r\n\v\f") == part),
    min_size=1,
    max_size=3,
).map("/".join)


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


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path):
    text = b"\xef\xbb\xbf1 a b\n0 a c\n"
    trials = read_trials(write(tmp_path, text))
    assert (trials.names, trials.label.tolist()) == (["a", "b", "c"], [1, 0])
    assert trials.digest == hashlib.sha256(text).hexdigest()


def test_paths_with_blanks_in_a_list_of_tabs(tmp_path):
    trials = read_trials(write(tmp_path, "1\ta/my file.wav\ta/1.wav\r\n0 \t a/1.wav\tb/2 3.wav\r\n"))
    assert trials.names == ["a/my file.wav", "a/1.wav", "b/2 3.wav"]


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), NAMES, NAMES), min_size=1, max_size=8), st.booleans())
def test_what_is_written_is_read_back(rows, mark):
    rows = [*rows, (True, "a", "b"), (False, "a", "c")]
    seen: dict[frozenset[str], bool] = {}  # one trial has one label
    rows = [(seen.setdefault(frozenset((left, right)), same), left, right) for same, left, right in rows]
    assume(len(set(seen.values())) == 2)
    text = "".join(f"{int(same)}\t{left}\t{right}\n" for same, left, right in rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.txt")
        path.write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
        trials = read_trials(str(path))
    assert [bool(label) for label in trials.label] == [same for same, _, _ in rows]
    assert [trials.names[place] for place in trials.left] == [left for _, left, _ in rows]
    assert [trials.names[place] for place in trials.right] == [right for _, _, right in rows]


def test_names_keep_blanks_that_are_not_ascii(tmp_path):
    assert read_trials(write(tmp_path, "1 a\u00a0b c\n0 é/1.wav c\n")).names == ["a\u00a0b", "c", "é/1.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("1 a b\n0 a\n", r"line 2: expected 3 fields .* found 2: '0 a'"),
        ("1 a b\na b\n", r"line 2: expected 3 fields"),
        ("a b\na c\n1 a b\n", r"line 3: expected 2 fields 'path path', .* found 3"),
        ("1 a b\n0 a c\n0 b a\n", "line 3: the trial of line 1 with the label 0, there 1"),
        ("1 a b c\n0 a b\n", r"line 1: .* found 4"),
        ("1 a b\n\n0 a b\n", r"line 2: .* found 0"),
        ("1 a b\n0 a c\nsame a b\n", r"line 3: the label must be 1 .* 'same'"),
        ("1 a b\n2 a c\n", "line 2: the label"),
        ("1.0 a b\n0 a c\n", "line 1: the label"),
        ("1 a b\n1 a c\n", r"none of the 2 trials are non-target"),
        ("0 a b\n", r"none of the 1 trials are target"),
        (b"1 a b\n0 a \xff\n", "line 2: .*not UTF-8"),
        ("1 a/my file.wav a/1.wav\n0 a b\n", "line 1: .* found 4: .*; where paths hold blanks, .* tabs"),
        ("1,a,b\n0,a,c\n", "line 1: .*not by commas"),
        ("1 a b\n0 a /etc/c.wav\n", "line 2: the path '/etc/c.wav' does not start from the data folder"),
        ("1 a b\n0 a x/../../c.wav\n", "line 2: .* does not start from the data folder"),
        ("1 a b\n0 a c\0d\n", "line 2: .* holds control characters"),
        ("1 a b\n0 a \x1b[31mc\n", "line 2: .* holds control characters"),
        ("1 a b\n0 a c\n".encode("utf-16"), "UTF-16"),
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


def test_lists_without_labels(tmp_path):
    trials = read_trials(write(tmp_path, "a/1.wav b/1.wav\na/1.wav\tc/2.wav\na/my file.wav\tb/1.wav\n"))
    assert not trials.labelled
    assert trials.label.tolist() == [-1, -1, -1]
    assert trials.names == ["a/1.wav", "b/1.wav", "c/2.wav", "a/my file.wav"]
    assert (trials.left.tolist(), trials.right.tolist()) == ([0, 0, 3], [1, 2, 1])


def test_a_label_and_a_blank_before_a_tab_are_a_labelled_trial(tmp_path):
    trials = read_trials(write(tmp_path, "1 a\tb\n0 a\tc\n"))
    assert (trials.label.tolist(), trials.names) == ([1, 0], ["a", "b", "c"])


def test_of_thousands_of_wrong_lines_the_first_ten_are_shown(tmp_path):
    lines = [f"{number % 2} a{number} b" for number in range(5000)]
    lines[7] = "0 a b c"
    for number in range(1000, 3000):
        lines[number] = "yes a b"
    with pytest.raises(UserError) as caught:
        read_trials(write(tmp_path, "\n".join(lines)))
    said = str(caught.value)
    assert "2,001 lines are wrong: line 8: expected 3 fields" in said
    assert said.count("line ") == 10
    assert "line 1009: the label must be" in said
    assert said.endswith("; …")
    assert len(said) < 2000


def test_repeated_trials_are_counted(tmp_path):
    assert repeated(read_trials(write(tmp_path, "1 a b\n0 a c\n1 b a\n1 a b\n"))) == 2
