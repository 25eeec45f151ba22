"""All figures of an evaluation in one table: what the cards at the head of the page have no room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eval.report.cards import ends_text
from eval.report.render import Column, Name, Table

_EER = {
    "eer": "EER, interpolated",
    "eer_convex_hull": "EER, convex hull",
    "eer_voxceleb_trainer": "EER as the VoxCeleb trainer's",
}


def figures_table(metrics: Mapping[str, Any]) -> Table:
    """A row for each figure of metrics.json, with its interval where it has one."""
    columns = [Column("figure"), Column("value", True), Column("interval"), Column("threshold", True)]
    rows = list(_rows(metrics))
    return Table("Figures", "as metrics.json has and defines them", columns, rows)


def _rows(metrics: Mapping[str, Any]) -> Iterator[list[str | Name]]:
    def row(name: str, path: tuple[str, ...], form: str, unit: str = "", at: Any = None) -> list[str | Name]:
        value: Any = metrics
        for each in path:
            value = value[each]
        ends = ends_text(metrics, path, form, unit) or "–"
        return [name, f"{form.format(value)}{unit}", ends, "–" if at is None else f"{at:.4f}"]

    for key, name in _EER.items():
        if key in metrics:
            yield row(name, (key,), "{:.3f}", " %", metrics["eer_threshold"] if key == "eer" else None)
    for point in metrics.get("min_dcf") or {}:
        at = metrics["min_dcf_threshold"][point]
        yield row(f"minDCF, p_target = {point}", ("min_dcf", point), "{:.4f}", at=at)
    for point in metrics.get("actual_dcf") or {}:
        yield row(f"actual DCF, p_target = {point}", ("actual_dcf", point), "{:.4f}")
    for share in metrics.get("frr_at_far") or {}:
        at = (metrics.get("frr_at_far_threshold") or {}).get(share)
        yield row(f"FRR at FAR {share} %", ("frr_at_far", share), "{:.2f}", " %", at)
    for key, name in (("cllr", "Cllr, bits"), ("min_cllr", "minCllr, bits")):
        if isinstance(metrics.get(key), float):
            yield row(name, (key,), "{:.4f}")
    found = metrics.get("identification") or {}
    for k, rate in (found.get("top_k") or {}).items():
        name = f"identification among {found['enrolled_speakers']:,} speakers, top {k}"
        yield [name, f"{rate:.2f} %", ends_text(found, ("top_k", k), "{:.2f}", " %") or "–", "–"]
