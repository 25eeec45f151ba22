"""The few lines that an evaluation ends with."""

from __future__ import annotations

from typing import Any

from shard_tools.text import shown


def summary(metrics: dict[str, Any], report: str) -> str:
    """What the command prints at its end: a few lines with the operating point beside each number."""
    intervals = metrics.get("intervals") or {}
    lines = [
        f"{metrics['trial_list']}: {metrics['trials']:,} trials, {metrics['targets']:,} of them target, "
        f"{metrics['utterances']:,} utterances, {metrics['seconds']:.1f} s",
        f"  EER                    {metrics['eer']:7.3f} %{_between(intervals.get('eer'), 3)}",
    ]
    for what, label in (("min_dcf", "minDCF"), ("actual_dcf", "actual DCF")):
        for point, cost in metrics.get(what, {}).items():
            name = f"{label}(p_target={point})"
            lines.append(f"  {name:<22} {cost:7.4f}{_between(intervals.get(what, {}).get(point), 4)}")
    if reason := (metrics.get("bootstrap") or {}).get("reason"):
        lines.append(f"  no intervals: {reason}")
    if "cllr" in metrics:
        lines.append(f"  Cllr                   {metrics['cllr']:7.4f} (min {metrics['min_cllr']:.4f})")
    if "identification" in metrics:
        found = metrics["identification"]
        tops = ", ".join(f"top {k} {rate:.2f} %" for k, rate in found["top_k"].items())
        lines.append(
            f"  identification of {found['test_utterances']:,} utterances among "
            f"{found['enrolled_speakers']:,} speakers: {tops}"
        )
    return "\n".join([*lines, f"  report: {shown(report)}"])


def _between(interval: dict[str, float] | None, digits: int) -> str:
    if interval is None:
        return ""
    return f"  [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"
