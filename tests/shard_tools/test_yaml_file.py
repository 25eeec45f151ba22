"""A YAML file that no configuration can be is refused by one line that names file and line."""

from __future__ import annotations

import pytest

from shard_tools.errors import UserError
from shard_tools.yaml_file import check_yaml_file


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
