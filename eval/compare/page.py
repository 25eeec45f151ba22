"""A comparison as JSON and as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eval.compare.disagreements import MOST, disagreements
from eval.compare.systems import Comparison, System
from eval.metrics import OperatingPoint, equal_error_rate, error_rates
from eval.report import plots
from eval.report.cards import ends_text, how_cut
from eval.report.render import Column, Name, Table, picture, render
from shard_tools.text import redacted

_FIGURES = ("eer", "eer_threshold", "min_dcf", "cllr", "min_cllr", "intervals", "bootstrap")
_WORDS = {
    "eer": "EER",
    "min_dcf": "minDCF",
    "cllr": "Cllr",
    "min_cllr": "minCllr",
    "frr_at_far": "FRR at FAR",
}


def points_of(comparison: Comparison) -> dict[str, OperatingPoint]:
    """The operating points at which all systems have a minDCF, by their names in metrics.json."""
    first, *others = (system.points for system in comparison.systems)
    return {name: point for name, point in first.items() if all(name in found for found in others)}


def compared(comparison: Comparison, tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What compare.json holds. tests: of every system but the first, as eval.compare.paired gives them.

    trial_list, trial_list_sha256, trials; systems: folder, name, checkpoint and figures; pairs: of every
    system with the first the test and the disagreements, each at its own EER threshold.
    """
    systems, trials = comparison.systems, comparison.trials
    at = [equal_error_rate(error_rates(system.scores, trials.label))[1] for system in systems]
    pairs = []
    for number, (other, test) in enumerate(zip(systems[1:], tests, strict=True), start=1):
        found = disagreements(systems[0].scores, other.scores, trials.label, (at[0], at[number]))
        pairs.append(
            {
                "first": systems[0].name,
                "second": other.name,
                **test,
                "disagreements": {
                    "only_first_right": found.only_first,
                    "only_second_right": found.only_second,
                    "worst": [_disagreement(comparison, other, row) for row in found.rows.tolist()],
                },
            }
        )
    return {
        "trial_list": trials.name,
        "trial_list_sha256": trials.digest,
        "trials": len(trials),
        "systems": [
            {
                "name": system.name,
                "folder": redacted(system.url),
                "checkpoint": system.metrics.get("checkpoint"),
                **{name: system.metrics[name] for name in _FIGURES if name in system.metrics},
            }
            for system in systems
        ],
        "pairs": pairs,
    }


def _disagreement(comparison: Comparison, other: System, row: int) -> dict[str, Any]:
    trials = comparison.trials
    return {
        "trial": row + 1,
        "label": int(trials.label[row]),
        "left": trials.names[trials.left[row]],
        "right": trials.names[trials.right[row]],
        "first": float(comparison.systems[0].scores[row]),
        "second": float(other.scores[row]),
    }


def build_comparison(comparison: Comparison, found: Mapping[str, Any]) -> str:
    """The page. found: see `compared`."""
    trials, systems = comparison.trials, comparison.systems
    reasons = {(pair["second"], (pair.get("bootstrap") or {}).get("reason")) for pair in found["pairs"]}
    return render(
        "compare.html",
        title=f"{len(systems)} systems on {trials.name}",
        subtitle=f"{', '.join(system.name for system in systems)} · {len(trials):,} trials",
        metrics=_metrics(comparison),
        det=picture(
            plots.det_overlay(
                [(system.name, error_rates(system.scores, trials.label)) for system in systems], "svg"
            )
        ),
        differences=_differences(found),
        no_test=[f"No test against {second}: {reason}." for second, reason in sorted(reasons) if reason],
        disagreements=[_disagreements(pair) for pair in found["pairs"]],
        provenance=_provenance(comparison),
    )


def _metrics(comparison: Comparison) -> Table:
    names = list(points_of(comparison))
    columns = [Column("system"), Column("EER", True), Column("interval")]
    for name in names:
        columns += [Column(f"minDCF({name})", True), Column("interval")]
    rows: list[list[str | Name]] = []
    for system in comparison.systems:
        metrics = system.metrics
        row: list[str | Name] = [Name(system.name), f"{metrics['eer']:.3f} %"]
        row.append(ends_text(metrics, ("eer",), "{:.2f}", " %") or "–")
        for name in names:
            row.append(f"{metrics['min_dcf'][name]:.4f}")
            row.append(ends_text(metrics, ("min_dcf", name), "{:.4f}") or "–")
        rows.append(row)
    return Table("Metrics", "as each evaluation's metrics.json has them", columns, rows)


def _differences(found: Mapping[str, Any]) -> Table:
    columns = [
        Column("figure"),
        Column("second"),
        *(Column(name, True) for name in ("difference", "from", "to", "p")),
    ]
    rows: list[list[str | Name]] = []
    for pair in found["pairs"]:
        for name, value in _leaves(pair.get("differences") or {}):
            numbers = [f"{value[key]:+.4f}" for key in ("difference", "low", "high")]
            rows.append([name, Name(pair["second"]), *numbers, f"{value['p']:.4f}"])
    first = found["systems"][0]["name"]
    note = f"each system's figure minus that of {first}, with its interval, by drawing speakers"
    return Table("Paired test", note, columns, rows, "no test")


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in values.items():
        own = f"{path} {_WORDS.get(name, name)}".strip()
        if isinstance(value, Mapping) and "difference" in value:
            yield own, value
        elif isinstance(value, Mapping):
            yield from _leaves(value, own)


def _disagreements(pair: Mapping[str, Any]) -> Table:
    found = pair["disagreements"]
    columns = [
        Column("trial", True), Column("speakers"), Column("first", True), Column("second", True),
        Column("utterance"), Column("utterance"),
    ]  # fmt: skip
    rows: list[list[str | Name]] = [
        [
            f"{one['trial']:,}",
            "one" if one["label"] else "two",
            plots.decimal(one["first"], 4),
            plots.decimal(one["second"], 4),
            Name(one["left"]),
            Name(one["right"]),
        ]
        for one in found["worst"]
    ]
    note = (
        f"each at its own EER threshold; {found['only_first_right']:,} trials only {pair['first']} decides "
        f"rightly, {found['only_second_right']:,} only {pair['second']}; those furthest apart, {MOST} at most"
    )
    return Table(f"Disagreements: {pair['first']} and {pair['second']}", note, columns, rows)


def _provenance(comparison: Comparison) -> Table:
    rows: list[list[str | Name]] = [
        ["trial list", f"{comparison.trials.name}, SHA-256 {comparison.trials.digest}"]
    ]
    for system in comparison.systems:
        metrics = system.metrics
        made = f"{metrics.get('checkpoint', '–')}, {metrics.get('scoring', '–')} scores of {how_cut(metrics)}"
        rows.append([Name(system.name), redacted(f"{made}; {system.url}")])
    return Table("", "", [Column("what"), Column("which")], rows)
