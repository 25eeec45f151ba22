"""Some of the JSON lines of a long file, without decoding the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20  # bytes


def lines_with(path: Path, part: bytes, last_bytes: int | None) -> list[dict[str, Any]]:
    """Those with `part` in them. Only these are decoded: a long run's file has hundreds of thousands."""
    found: list[dict[str, Any]] = []
    try:
        with open(path, "rb") as file:
            if last_bytes is not None and (begin := file.seek(0, os.SEEK_END) - last_bytes) > 0:
                file.seek(begin - 1)
                file.readline()  # the rest of a line that began before
            else:
                file.seek(0)
            rest = b""
            while chunk := file.read(_CHUNK):
                text = rest + chunk
                end = text.rfind(b"\n") + 1
                found += _objects(_those_with(part, text, end))
                rest = text[end:]
            return found + _objects(_those_with(part, rest, len(rest)))
    except OSError:
        return found


def _those_with(part: bytes, text: bytes, end: int) -> bytes:
    """The lines of text[:end] with `part` in them."""
    kept = []
    at = text.find(part, 0, end)
    while at >= 0:
        begin, newline = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at, end)
        after = end if newline < 0 else newline + 1
        kept.append(text[begin:after])
        at = text.find(part, after, end)
    return b"".join(kept)


def _objects(text: bytes) -> list[dict[str, Any]]:
    found = []
    for line in text.split(b"\n"):
        try:
            value = json.loads(line)  # NaN too, which a loss may be
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
