"""Records are read by their types: whatever else a file holds is one line that names file and field."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.records import RecordError, at_least, convert, decode, decode_lines


@dataclass(frozen=True)
class Part:
    url: str
    count: Annotated[int, at_least(0)]


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    options: Mapping[str, Any]
    rate: float = 1.0


GOOD = b'{"parts": [{"url": "a", "count": 1, "later": 2}], "options": {"x": [1]}}'


def test_a_good_record_is_read() -> None:
    assert decode(GOOD, Whole, "w.json", "write it") == Whole((Part("a", 1),), {"x": [1]})
    assert convert({"url": "a", "count": 1}, Part, "w.yaml", "write it") == Part("a", 1)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"parts": [{"url": 1, "count": 1}], "options": {}}', "parts[0].url"),
        (b'{"parts": [{"url": "a", "count": -1}], "options": {}}', "parts[0].count"),
        (b'{"parts": [{"url": "a", "count": true}], "options": {}}', "parts[0].count"),
        (b'{"parts": [{"url": "a", "count": 1.5}], "options": {}}', "parts[0].count"),
        (b'{"parts": [{"url": "a", "count": ' + b"9" * 5000 + b'}], "options": {}}', "parts[0].count"),
        (b'{"parts": null, "options": {}}', "parts"),
        (b'{"parts": [], "options": {}, "rate": 1e999}', "rate"),
        (b'{"parts": [], "options": []}', "options"),
        (b'{"parts": []}', "options"),
        (b"[]", "expected `object`"),
        (b'{"parts": [], "options": {}, "rate": NaN}', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b'{"parts": [], "options": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_field(data: bytes, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode(data, Whole, "w.json", "write it again")
    text = str(caught.value)
    assert text.startswith("w.json: ")
    assert field in text
    assert text.endswith("; write it again")
    assert "\n" not in text
    assert len(text) < 250


def test_lines_that_are_no_records_are_none() -> None:
    lines = b'{"url": "a", "count": 1}\n[]\n\n{"url": "b", "count": 2}\n{"url": "c", "co'
    assert list(decode_lines(lines, Part)) == [Part("a", 1), None, Part("b", 2), None]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_record_error(data: bytes) -> None:
    with contextlib.suppress(RecordError):
        decode(data, Whole, "w.json", "write it again")
