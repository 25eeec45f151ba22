"""The numbers at the head of a report, each with what it means and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.report.plots import OperatingPoint, decimal


@dataclass(frozen=True)
class Card:
    """interval: as text, "" where there is none."""

    name: str
    value: str
    note: str
    interval: str = ""


def cards_of(metrics: Mapping[str, Any], points: Sequence[OperatingPoint], digits: int) -> list[Card]:
    """EER, minDCF and, where they are there, calibration's figures, and the counts; figures_table has all.

    points: the EER's and minDCF's operating points, none of a list without labels.
    """
    cards = []
    if points:
        cards.append(
            Card(
                "EER",
                f"{metrics['eer']:.2f} %",
                f"false accepts = false rejects at threshold {decimal(points[0].threshold, digits)}",
                interval_text(metrics, ("eer",), "{:.2f}", " %"),
            )
        )
        for point, (p_target, cost) in zip(points[1:], metrics["min_dcf"].items(), strict=True):
            where = (
                f"at {decimal(point.threshold, digits)}"
                if np.isfinite(point.threshold)
                else "rejecting every trial"
            )
            actual = (metrics.get("actual_dcf") or {}).get(p_target)
            beside = "" if actual is None else f"; actual DCF {actual:.4f}"
            cards.append(
                Card(
                    f"minDCF, p_target = {p_target}",
                    f"{cost:.4f}",
                    f"FA {100 * point.false_accept:.2f} %, FR {100 * point.false_reject:.2f} % {where}"
                    + beside,
                    interval_text(metrics, ("min_dcf", p_target), "{:.4f}"),
                )
            )
        for key, name, note in (
            ("cllr", "Cllr", "bits a trial; 1 says nothing"),
            ("min_cllr", "minCllr", "of the best calibration of these scores"),
        ):
            if isinstance(metrics.get(key), float):
                interval = interval_text(metrics, (key,), "{:.4f}")
                cards.append(Card(name, f"{metrics[key]:.4f}", note, interval))
    kinds = f"{metrics['targets']:,} target, {metrics['nontargets']:,} non-target; " if points else ""
    cards.append(Card("trials", f"{metrics['trials']:,}", f"{kinds}{metrics['utterances']:,} utterances"))
    return cards


def interval_text(metrics: Mapping[str, Any], path: Sequence[str], form: str, unit: str = "") -> str:
    """ "95 % interval 1.02 to 1.31 %", or "" where metrics.json has none of it."""
    ends = ends_text(metrics, path, form, unit)
    confidence = (metrics.get("bootstrap") or {}).get("confidence")
    share = f"{100 * confidence:g} % interval" if confidence else "interval"
    return f"{share} {ends}" if ends else ""


def ends_text(metrics: Mapping[str, Any], path: Sequence[str], form: str, unit: str = "") -> str:
    """ "1.02 to 1.31 %", or "" where metrics.json has none of it."""
    found: Any = metrics.get("intervals") or {}
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or found.get("low") is None or found.get("high") is None:
        return ""
    return f"{form.format(found['low'])} to {form.format(found['high'])}{unit}"


def how_cut(metrics: Mapping[str, Any]) -> str:
    """The protocol in words."""
    if metrics.get("crops"):
        return f"{metrics['crops']} crops of {metrics['crop_feature_frames']} feature frames"
    return str(metrics.get("protocol") or "whole utterances")
