"""The tables from S3 as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.markdown import absent, figure, short, table, target

Row = dict[str, Any]


def _requests(document: Row) -> str:
    units = ("gets_per_second", "gets_per_cpu_second")
    rows = _rows(document["contestants"], [lambda row, unit=unit: figure(row[unit]) for unit in units])
    heads = ["GETs per second", "per CPU second"]
    return table(["client", *heads], rows) + _ratios(document["ratios"], "GETs")


def _crops(document: Row) -> str:
    parts = [f"Of {document['speech']}.\n"]
    cells = [*_SPEEDS, lambda row: figure(row["store_cpu"]), _least]
    heads = ["reading", "crops per second", "per CPU second", "store's CPU", "target, crops per second"]
    for found in document["stores"]:
        parts.append(f"*{found['name']}*\n")
        if "reason" in found:
            parts.append(found["reason"] + "\n")
            continue
        parts.append(table(heads, _rows(found["contestants"], cells)) + _ratios(found["ratios"], "crops"))
    return "\n".join(parts)


def _side_by_side(document: Row) -> str:
    heads = [
        "loader",
        "crops per second",
        "after the first batch",
        "seconds to the first batch",
        "requests",
        "bytes ÷ the crops' own",
        "store's CPU",
    ]
    units = ("crops_per_second", "after_first", "first_batch_seconds", "requests", "of_crops", "store_cpu")
    parts = []
    for found in document["stores"]:
        parts.append(f"*{found['name']}*\n")
        if "reason" in found:
            parts.append(found["reason"] + "\n")
            continue
        rows = _rows(found["contestants"], [lambda row, unit=unit: figure(row[unit]) for unit in units])
        for row, result in zip(rows, found["contestants"], strict=True):
            if "first" in result:
                row[1] += f" (first {_mark(result['first'])})"
                row[5] += f" (≤ 1.05 {_mark(result['few_bytes'])})"
        parts.append(table(heads, rows))
    return "\n".join(parts)


def _start(document: Row) -> str:
    cells = [
        lambda row: short(row["workers"]),
        lambda row: f"{figure(row['opening'])} (≤ {short(row['at_most'])} {_mark(row['met'])})",
        lambda row: figure(row["catalogue"]),
        lambda row: figure(row["shell"]),
    ]
    rows = _rows(document["contestants"], cells)
    for row, result in zip(rows, document["contestants"], strict=True):
        if result["status"] == "ok":
            row[0] += f": {document['utterances'][result['name']]:,} utterances"
    heads = ["set", "data.workers", "s from opening", "of which the catalogue, s", "s from the shell"]
    return table(heads, rows)


def _faults(document: Row) -> str:
    cells = [*_SPEEDS, lambda row: "yes" if row["same"] else "NO"]
    heads = ["store", "crops per second", "per CPU second", "same batches"]
    return table(heads, _rows(document["contestants"], cells)) + _ratios(document["ratios"], "crops")


def _latency(document: Row) -> str:
    cells = [*_SPEEDS, lambda row: figure(row["peak_mib"])]
    heads = ["store", "crops per second", "per CPU second", "memory, MiB"]
    return table(heads, _rows(document["contestants"], cells)) + _ratios(document["ratios"], "crops")


LAYOUTS = {
    "requests": _requests,
    "crops_from_stores": _crops,
    "side_by_side_from_stores": _side_by_side,
    "start": _start,
    "faults": _faults,
    "latency": _latency,
}
_SPEEDS: tuple[Callable[[Row], str], ...] = (
    lambda row: figure(row["crops_per_second"]),
    lambda row: figure(row["crops_per_cpu_second"]),
)


def _rows(results: Sequence[Row], cells: Sequence[Callable[[Row], str]]) -> list[list[str]]:
    """A row each: its name, then what `cells` say of it, or why there is nothing."""
    rows = []
    for result in results:
        if result["status"] == "ok":
            figures = [cell(result) for cell in cells]
        else:
            figures = [absent(result), *[""] * (len(cells) - 1)]
        rows.append([result["name"], *figures])
    return rows


def _ratios(found: Sequence[Row], what: str) -> str:
    lines = [
        [f"{ratio['of']} ÷ {ratio['to']}", figure(ratio), figure(ratio["cpu"]), target(ratio)]
        for ratio in found
    ]
    heads = ["ratio", f"of {what} per second", "per CPU second", "target"]
    return "\n" + table(heads, lines) if lines else ""


def _least(row: Row) -> str:
    return f"≥ {short(row['at_least'])} {_mark(row['met'])}" if "at_least" in row else ""


def _mark(met: bool) -> str:
    return "✓" if met else "✗"
