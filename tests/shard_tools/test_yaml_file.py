"""A YAML file that no configuration can be is refused by one line that names file and line."""

from __future__ import annotations

import pytest

from shard_tools.errors import UserError
from shard_tools.yaml_file import check_yaml_file, check_yaml_value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands in line 1 already"),
        (b"a:\n  b: [{c: 1,\n  c: 2}]\n", "line 3: the key 'c' stands in line 2 already"),
        (b"a: 1\nb: \xe9\n", "line 2: not UTF-8"),
        (b"- 1\n", "line 1: the file must be a mapping"),
        (b"a: " + b"9" * 5000, "line 1: a number of 5000 digits"),
        (b"a: " + b"[" * 5000, "nested more than 32"),
        (b"a: \x00\n", "not YAML"),
        (b"a: &x [1]\nb: [" + b"*x, " * 200 + b"]", "line 2: more than 100 aliases"),
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"a: 1\n---\nb: 1\n", "line 2: a second document"),
        (b"a: !!python/name:os.system\n", "line 1: the tag tag:yaml.org,2002:python/name:os.system"),
        (b"a: &x data\n*x : 1\n", "line 2: an alias stands for a key"),
        (b"a: 1\n? [b]\n: 1\n", "line 2: a list or mapping stands for a key"),
        (b"a: &x [*x]\n", "line 1: the alias *x stands before"),
        (b"a: *x\n", "line 1: the alias *x stands before"),
        (b"a: 0x" + b"f" * 5000, "line 1: a number of 5002 digits"),
        (b"a: " + b"9:" * 500 + b"9", "line 1: a number of"),
        (
            b"a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in b"bcdef"
            ),
            "line 5: more than 100000 values",
        ),
    ],
)
def test_what_is_refused(tmp_path, content, said):
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        check_yaml_file(file)
    assert said in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_equal_names_in_different_sections_and_a_bom_are_taken(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: {url: 1, x: [url, url]}\nb: {url: url}\n")
    assert check_yaml_file(file).startswith("a:")
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="there is no such file"):
            check_yaml_file(missing)


def test_anchors_and_merge_keys_are_taken(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert check_yaml_file(file)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["9" * 5000, "[" * 5000, "{a: 1, a: 2}", "[&x [*x]]"])
def test_what_no_typed_value_can_be(text):
    with pytest.raises(UserError, match=r"^--data\.workers: "):
        check_yaml_value(text, "--data.workers")


@pytest.mark.parametrize("text", ["3", "s3://bucket/a: b", "*", "!x", "", "[1, 2", "runs/{a}", "\0"])
def test_typed_values_that_are_not_yaml_are_left_alone(text):
    check_yaml_value(text, "--data.url")
