from __future__ import annotations

import pytest

from shard_tools.dataset.key_list import check_all_found, read_keys
from shard_tools.errors import UserError


def test_keys_are_lines_each_once(tmp_path):
    (tmp_path / "list").write_bytes("\ufeffb/2\r\na b/1\n\nb/2\nc/3".encode())
    assert read_keys(str(tmp_path / "list")) == ("b/2", "a b/1", "c/3")
    (tmp_path / "empty").write_bytes(b"")
    assert read_keys(str(tmp_path / "empty")) == ()


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "list").write_bytes(b"a/1\n\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_keys(str(tmp_path / "list"))


def test_unknown_keys_are_counted_and_the_first_ten_named():
    keys = [f"s/{n:02d}" for n in range(14)]
    with pytest.raises(UserError, match=r"drop: 12 of its 14 keys are not in x: s/02, .*s/11, …;") as error:
        check_all_found("drop", keys, {"s/00", "s/01"}, "x")
    assert "s/12" not in str(error.value)
    check_all_found("drop", keys, set(keys), "x")
    with pytest.raises(UserError, match="drop: 1 key is not in x: a;"):
        check_all_found("drop", ["a"], set(), "x")
