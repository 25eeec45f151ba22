"""Ways to damage a file: its bytes, its lines, its JSON or YAML values, its numpy columns."""

from __future__ import annotations

import io
import json
import random
import struct
from typing import Any

import numpy as np

WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
STRANGE_NUMBERS = (0, -1, 1, 2**31, 2**32, 2**63, -(2**63), 10**400, 0.5, 1e300, float("nan"), float("inf"))
STRANGE_TEXTS = (
    "", " ", "\0", "\n", "\x1b[2J", "../up", "/etc/passwd", "a" * 5000, "é", "\udcff", "~", "$HOME", "null",
    "1e999", "9" * 5000, "s3://", "https://user:secret@host/x", "%s", "{}", "-", "--", "*", "&a",
    "!!python/x",
)  # fmt: skip
STRANGE_VALUES: tuple[Any, ...] = (*STRANGE_NUMBERS, *STRANGE_TEXTS, None, True, [], {}, [[]], {"": None})


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to three wounds, two thirds of them in the first KiB, where headers are."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(min(len(out), 1024) if rng.random() < 2 / 3 else len(out)) if out else 0
        length = rng.choice((1, 2, 4, 8, 64, 512, 4096))
        kind = rng.choice(("flip", "word", "cut", "insert", "delete", "repeat", "zero", "random", "append"))
        if kind == "flip" and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == "word":
            form = rng.choice(("<H", ">H", "<I", ">I"))
            word = struct.pack(form, rng.choice(WORDS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
            out[at : at + len(word)] = word
        elif kind == "cut":
            del out[at:]
        elif kind == "insert":
            out[at:at] = rng.randbytes(length)
        elif kind == "delete":
            del out[at : at + length]
        elif kind == "repeat":
            out[at:at] = out[at : at + length]
        elif kind == "zero":
            out[at : at + length] = bytes(min(length, len(out) - at))
        elif kind == "random":
            out[at : at + length] = rng.randbytes(min(length, len(out) - at))
        else:
            out += rng.choice((bytes(length), rng.randbytes(length)))
    return bytes(out)


def damage_wav(data: bytes, rng: random.Random) -> bytes:
    """A field of the header that says something else, a chunk that stands twice or is lost; or bytes."""
    if rng.random() < 0.4:
        return damage_bytes(data, rng)
    fmt, body = data.find(b"fmt "), data.find(b"data")
    fields = [(4, 4), (fmt + 4, 4), (body + 4, 4), *((fmt + 8 + at, 2) for at in (0, 2, 12, 14))]
    fields += [(fmt + 8 + at, 4) for at in (4, 8)]
    kind = rng.choice(("field", "field", "field", "double", "lost", "order", "cut", "tail"))
    chunk = data[fmt:body] if rng.random() < 0.5 else data[body : body + 1008]
    if kind == "field":
        at, size = rng.choice(fields)
        old = int.from_bytes(data[at : at + size], "little")
        new = rng.choice((*WORDS, old + 1, old - 1, old * 2, old // 2, len(data))) % 2 ** (8 * size)
        return data[:at] + new.to_bytes(size, "little") + data[at + size :]
    if kind == "double":
        return data[:fmt] + chunk + data[fmt:] if rng.random() < 0.5 else data + chunk
    if kind == "lost":
        return data.replace(chunk, b"", 1)
    if kind == "order":
        return data[:fmt] + data[body:] + data[fmt:body]
    return (
        data[: rng.randrange(body, len(data))]
        if kind == "cut"
        else data + rng.randbytes(rng.randrange(1, 999))
    )


def damage_flac(data: bytes, rng: random.Random) -> bytes:
    """A field of STREAMINFO that says something else; or bytes."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng)
    out = bytearray(data)
    kind = rng.choice(("total", "rate", "blocks", "sums"))
    info = int.from_bytes(out[18:26], "big")  # rate: 20 bits, channels: 3, sample size: 5, samples: 36
    total = info & (2**36 - 1)
    if kind == "total":
        other = rng.choice((0, 1, total - 1, total + 1, total // 2, total * 2, 2**36 - 1, 2**31))
        out[18:26] = (info - total + other).to_bytes(8, "big")
    elif kind == "rate":
        out[18:26] = ((info & (2**44 - 1)) | (rng.choice((0, 1, 8000, 16001, 655350)) << 44)).to_bytes(
            8, "big"
        )
    elif kind == "blocks":
        out[8:12] = rng.choice((0, 16, 4608, 65535)).to_bytes(2, "big") * 2
    else:
        out[26:42] = rng.choice((bytes(16), rng.randbytes(16)))
    return bytes(out)


def damage_lines(data: bytes, rng: random.Random) -> bytes:
    """Lines that are lost, doubled, swapped, or hold a strange word; or another encoding; or bytes."""
    lines = data.decode().split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(("drop", "double", "swap", "word", "word", "word", "indent", "encoding", "bytes"))
    if kind == "drop":
        del lines[at]
    elif kind == "double":
        lines.insert(other, lines[at])
    elif kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "word":
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = str(rng.choice(STRANGE_VALUES))
        lines[at] = " ".join(words)
    elif kind == "indent":
        lines[at] = rng.choice((" ", "\t", "  - ")) + lines[at]
    elif kind == "encoding":
        return "\n".join(lines).encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    else:
        return damage_bytes(data, rng)
    return "\n".join(lines).encode(errors="surrogateescape")


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """One value, anywhere in the document, that is lost, strange, or nested without end; or bytes."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    document = json.loads(data)
    places = list(_places(document))
    if not places:
        return damage_bytes(data, rng)
    holder, key = rng.choice(places)
    kind = rng.choice(("drop", "value", "value", "value", "near", "near", "nest", "add"))
    if kind == "drop":
        del holder[key]
    elif kind == "near" and type(holder[key]) in (int, float):
        holder[key] = rng.choice(
            (holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 2, str(holder[key]))
        )
    elif kind == "nest":
        holder[key] = "NEST"
        return json.dumps(document).replace('"NEST"', "[" * 50_000 + "]" * 50_000).encode()
    elif kind == "add" and isinstance(holder, dict):
        holder["strange"] = rng.choice(STRANGE_VALUES)
    else:
        holder[key] = rng.choice(STRANGE_VALUES)
    return json.dumps(document).encode()


def damage_json_lines(data: bytes, rng: random.Random) -> bytes:
    """As `damage_json` in one line of a file of lines."""
    lines = data.rstrip(b"\n").split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = damage_json(lines[at], rng)
    return b"\n".join(lines) + rng.choice((b"\n", b""))


def damage_columns(data: bytes, rng: random.Random) -> bytes:
    """One column of an .npz whose numbers are shifted, negative, cut, or of another type; or bytes."""
    if rng.random() < 0.2:
        return damage_bytes(data, rng)
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    name = rng.choice(sorted(columns))
    column = columns[name]
    kind = rng.choice(("one", "one", "one", "all", "cut", "type", "drop", "shape"))
    numeric = column.dtype.kind in "iu"
    if kind in ("one", "all") and numeric and column.size:
        column = column.copy()
        where = slice(None) if kind == "all" else rng.randrange(column.size)
        flat = column.reshape(-1).astype(np.int64)
        change = rng.choice(("+1", "+44", "-2", "half", "double", "zero", "negative", "big"))
        flat[where] = {
            "+1": flat[where] + 1,
            "+44": flat[where] + 44,
            "-2": flat[where] - 2,
            "half": flat[where] // 2,
            "double": flat[where] * 2,
            "zero": flat[where] * 0,
            "negative": -flat[where],
            "big": flat[where] * 0 + 2**40,
        }[change]
        columns[name] = flat.astype(column.dtype).reshape(column.shape)
    elif kind == "cut" and column.ndim:
        columns[name] = column[: len(column) // 2]
    elif kind == "type":
        columns[name] = (
            column.astype(rng.choice(("f4", "U5", "i1"))) if column.dtype.kind != "U" else np.zeros(3)
        )
    elif kind == "shape":
        columns[name] = column.reshape(1, *column.shape)
    else:
        del columns[name]
    out = io.BytesIO()
    np.savez(out, **columns)
    return out.getvalue()


def _places(document: Any) -> Any:
    """(holder, key) of every value below the document, depth first."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
