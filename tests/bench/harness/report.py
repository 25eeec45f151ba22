"""The results folder: a JSON file a table, and all of them as one Markdown page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import report_s3
from harness.markdown import absent, figure, short, table, target

INTRODUCTION = """# Benchmarks

Made by `make bench`; the JSON files beside this page hold every single run. Crops are 200 feature
frames (32,240 audio frames, 2.015 s) of utterances of 8 s, 16 kHz, 16-bit, in batches of 200;
contestants run on one core (pinned, one thread of each math library), each in a process of its own, in
rounds in which all take their turns. A figure is the median of the rounds, in brackets the
lowest and the highest; a ratio is computed within each round and then summarised in the same way. “Per CPU
second” counts the time that the process computed, whatever else the machine did. The audio is
generated unless real speech was given, which the tables from S3 are then measured with, and the page cache
is warm.
"""


def write_table(folder: Path, name: str, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_page(folder: Path, names: Sequence[str]) -> None:
    """README.md from the tables that lie in `folder`."""
    found = [json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").exists()]
    parts = [INTRODUCTION]
    for document in found:
        parts.append(f"## {document['title']}\n\n{document['about']}\n")
        parts.append(LAYOUTS[document["layout"]](document))
        parts.append(_footer(document))
    (folder / "README.md").write_text("\n".join(parts))


def _rates(document: dict[str, Any]) -> str:
    rows = []
    for result in document["contestants"]:
        if result["status"] == "ok":
            figures = [figure(result[unit]) for unit in ("crops_per_second", "crops_per_cpu_second")]
        else:
            figures = [absent(result), ""]
        rows.append([result["name"], *figures])
    text = table(["loader", "crops per second", "per CPU second"], rows)
    lines = [
        [f"{ratio['of']} ÷ {ratio['to']}", figure(ratio), figure(ratio["cpu"]), target(ratio)]
        for ratio in document["ratios"]
    ]
    return text + (
        "\n" + table(["ratio", "of crops per second", "per CPU second", "target"], lines) if lines else ""
    )


def _planning(document: dict[str, Any]) -> str:
    rows = []
    for result in document["contestants"]:
        marks = {name: " ✓" if met else " ✗" for name, met in result["met"].items()}
        rows.append(
            [
                result["name"],
                figure(result["epoch_seconds"]) + marks["epoch_seconds"],
                figure(result["seek_seconds"]),
                figure(result["next_ms"]),
                figure(result["peak_mib"]) + marks["peak_mib"],
            ]
        )
    heads = ["batch", "epoch, s (target ≤ 3)", "seek, s", "next, ms", "memory, MiB (target ≤ 300)"]
    return table(heads, rows)


def _scale(document: dict[str, Any]) -> str:
    rows = []
    for result in document["contestants"]:
        marks = {name: " ✓" if met else " ✗" for name, met in result.get("met", {}).items()}
        units = ("seconds", "cpu_seconds", "private_mib", "pss_mib")
        figures = [figure(result[unit]) + marks.get(unit, "") for unit in units]
        rows.append([result["name"], f"{result['utterances']:,}", *figures])
    most = document["limits"]
    heads = [
        "order",
        "utterances",
        "seconds",
        f"CPU seconds (mapped ≤ {most['cpu_seconds']:g})",
        f"private, MiB (mapped ≤ {most['private_mib']:g})",
        "PSS, MiB",
    ]
    starts = [
        [start["name"], f"{start['utterances']:,}", start["method"]]
        + [figure(start[unit]) for unit in ("seconds", "private_mib", "pss_mib")]
        for start in document["starts"]
    ]
    augmented = []
    for result in document.get("augmented", []):
        marks = {name: " ✓" if met else " ✗" for name, met in result["met"].items()}
        units = ("seconds", "cpu_seconds", "private_mib", "pss_mib", "node_seconds")
        figures = [figure(result[unit]) + marks.get(unit, "") for unit in units]
        augmented.append([result["name"], f"{result['utterances']:,}", *figures])
    of_augmented = [
        "augmented with",
        "recordings",
        "seconds",
        f"CPU seconds (≤ {most['cpu_seconds']:g})",
        f"private, MiB (≤ {most['private_mib']:g})",
        "PSS, MiB",
        "once on the node, CPU seconds",
    ]
    return (
        table(heads, rows)
        + "\n"
        + table(
            [
                "order",
                "utterances",
                "two processes by",
                "seconds",
                "private, MiB of each",
                "PSS, MiB of each",
            ],
            starts,
        )
        + ("\n" + table(of_augmented, augmented) if augmented else "")
    )


def _fetched(document: dict[str, Any]) -> str:
    rows = []
    for result in document["contestants"]:
        if result["status"] == "ok":
            figures = [short(result[of]) for of in ("requests", "of_crops", "of_shards")]
        else:
            figures = [absent(result), "", ""]
        rows.append([result["name"], *figures])
    return table(["reading", "requests", "bytes ÷ the crops' own", "bytes ÷ the shards'"], rows)


def _converting(document: dict[str, Any]) -> str:
    rows = []
    for result in document["contestants"]:
        if result["status"] == "ok":
            figures = [figure(result[unit]) for unit in ("files_per_second", "by_cpu")]
        else:
            figures = [absent(result), ""]
        rows.append([result["name"], *figures])
    lines = [
        [f"{ratio['of']} ÷ {ratio['to']}", figure(ratio), figure(ratio["cpu"]), target(ratio)]
        for ratio in document["ratios"]
    ]
    heads = ["files per second", "by CPU time"]
    return table(["with", *heads], rows) + "\n" + table(["ratio", *heads, "target"], lines)


def _packing(document: dict[str, Any]) -> str:
    units = ("mb_per_second", "mb_per_cpu_second")
    rows = [[result["name"], *(figure(result[unit]) for unit in units)] for result in document["contestants"]]
    lines = [
        [f"{ratio['of']} ÷ {ratio['to']}", figure(ratio), figure(ratio["cpu"]), target(ratio)]
        for ratio in document["ratios"]
    ]
    tiny = [
        [short(run["utterances"])]
        + [f"{1e6 * run[unit] / run['utterances']:.0f}" for unit in ("seconds", "cpu_seconds")]
        + [short(run["peak_mib"])]
        for run in document["tiny"]
    ]
    return "\n".join(
        (
            table([f"{document['megabytes']:.0f} MB", "MB/s", "MB per CPU second"], rows),
            table(["ratio", "of MB/s", "per CPU second", "target"], lines),
            table(["tiny utterances", "µs for each", "CPU µs for each", "memory, MiB"], tiny),
        )
    )


def _scoring(document: dict[str, Any]) -> str:
    rows = [
        [
            result["name"],
            figure(result["trials_per_second"]),
            figure(result["trials_per_cpu_second"]),
            short(result["mib"]["high"]),
            f"{result['error']['high']:.0e}",
        ]
        for result in document["contestants"]
    ]
    lines = [
        [f"{ratio['of']} ÷ {ratio['to']}", figure(ratio), figure(ratio["cpu"]), target(ratio)]
        for ratio in document["ratios"]
    ]
    norm = document["as_norm"]
    row = [
        f"{norm['cohort']:,} speakers, top {norm['top']}",
        *(short(norm[unit]) for unit in ("seconds", "cpu_seconds", "mib")),
        f"≤ 60 s, ≤ 2,048 MiB {'✓' if norm['met'] else '✗'}",
    ]
    heads = ["scores", "trials per second", "per CPU second", "memory, MiB", "error"]
    return "\n".join(
        (
            table(heads, rows),
            table(["ratio", "of trials per second", "per CPU second", "target"], lines),
            table(["AS-norm", "seconds", "CPU seconds", "memory, MiB", "target, CPU seconds"], [row]),
        )
    )


def _stages(document: dict[str, Any]) -> str:
    result = document["contestants"][0]
    rows = [["the whole batch", f"{result['ms_per_batch']:.1f}", ""]]
    rows += [
        [f"`{row['function']}`", f"{row['ms']:.1f}", f"{row['own_ms']:.1f}"] for row in result["functions"]
    ]
    return table(["function", "in all, ms", "own, ms"], rows)


def _bootstrap(document: dict[str, Any]) -> str:
    units = ("seconds", "cpu_seconds", "peak_mib")
    rows = []
    for result in document["contestants"]:
        mark = "" if result["met"] is None else " ✓" if result["met"] else " ✗"
        rows.append([result["name"], *(figure(result[unit]) for unit in units)])
        rows[-1][1] += mark
    heads = [
        f"{document['draws']:,} draws of {document['trials']:,} trials",
        f"s (target of 1,000 draws ≤ {document['limit_seconds']:.0f})",
        "CPU s",
        "memory, MiB",
    ]
    return table(heads, rows)


LAYOUTS = {
    "rates": _rates,
    "planning": _planning,
    "scale": _scale,
    "fetched": _fetched,
    "packing": _packing,
    "stages": _stages,
    "converting": _converting,
    "scoring": _scoring,
    "bootstrap": _bootstrap,
    **report_s3.LAYOUTS,
}


def _footer(document: dict[str, Any]) -> str:
    machine = document["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    short = " *A quick run: few and short rounds.*" if document["quick"] else ""
    return (
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB,"
        f" {machine['system']}, Python {machine['python']}; {libraries}.{short}\n"
    )
