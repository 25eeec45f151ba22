"""An evaluation as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from eval.metrics import ErrorRates
from eval.report import plots
from eval.report.plots import OperatingPoint
from eval.trials import Trials
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.text import redacted

WORST = 20


def operating_points(rates: ErrorRates, metrics: Mapping[str, Any]) -> list[OperatingPoint]:
    """The EER's point and, for each p_target in `metrics`, minDCF's."""
    points = [
        OperatingPoint(
            f"EER {metrics['eer']:.2f} %",
            metrics["eer_threshold"],
            metrics["eer"] / 100,
            metrics["eer"] / 100,
        )
    ]
    for p_target, cost in metrics["min_dcf"].items():
        threshold = metrics["min_dcf_threshold"][p_target]
        threshold = float("inf") if threshold is None else threshold
        points.append(
            OperatingPoint(f"minDCF(p_target={p_target}) {cost:.4f}", threshold, *rates.at(threshold))
        )
    return points


def worst_trials(scores: Float64Array, trials: Trials, threshold: float, label: int) -> Int64Array:
    """Up to WORST trials of kind `label` on the wrong side of `threshold`, the most wrong first.

    Label 0 gives false accepts (highest scores first), label 1 false rejects (lowest first).
    """
    wrong = np.flatnonzero((trials.label == label) & ((scores >= threshold) == (label == 0)))
    order = np.argsort(scores[wrong] if label else -scores[wrong], kind="stable")
    return wrong[order[:WORST]]


def build_report(
    scores: Float64Array,
    trials: Trials,
    rates: ErrorRates,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
) -> str:
    """The page: numbers, figures, the worst errors, the evaluation (`metrics`), the run's whole `config`."""
    points = operating_points(rates, metrics)
    threshold = metrics["eer_threshold"]
    digits = plots.score_digits(scores)
    cards = [
        _card(
            "EER",
            f"{metrics['eer']:.2f} %",
            f"false accepts = false rejects at threshold {threshold:.{digits}f}",
        )
    ]
    for point, (p_target, cost) in zip(points[1:], metrics["min_dcf"].items(), strict=True):
        where = (
            f"at {point.threshold:.{digits}f}" if np.isfinite(point.threshold) else "rejecting every trial"
        )
        cards.append(
            _card(
                f"minDCF, p_target = {p_target}",
                f"{cost:.4f}",
                f"FA {100 * point.false_accept:.2f} %, FR {100 * point.false_reject:.2f} % {where}",
            )
        )
    cards.append(
        _card(
            "trials",
            f"{metrics['trials']:,}",
            f"{metrics['targets']:,} target, {metrics['nontargets']:,} non-target; "
            f"{metrics['utterances']:,} utterances",
        )
    )
    det = plots.det_curve(rates, points, "", "svg", digits=digits)
    histogram = plots.score_histogram(scores, trials.label, threshold, "svg")
    how = (
        f"{metrics['crops']} crops of {metrics['crop_feature_frames']} feature frames"
        if metrics["crops"]
        else ""
    )
    subtitle = (
        f"{metrics['checkpoint']}, step {metrics['step']:,} · {trials.name} · {metrics['scoring']} scores "
        f"of {how or 'whole utterances'}"
    )
    return _PAGE.format(
        title=html.escape(f"Speaker verification: {trials.name}"),
        style=_STYLE,
        subtitle=html.escape(redacted(subtitle)),
        cards="\n".join(cards),
        det=_image(det, "DET curve"),
        histogram=_image(histogram, "Histograms of target and non-target scores"),
        accepts=_table(
            "Worst false accepts",
            "two speakers taken for one",
            scores,
            trials,
            worst_trials(scores, trials, threshold, 0),
        ),
        rejects=_table(
            "Worst false rejects",
            "one speaker taken for two",
            scores,
            trials,
            worst_trials(scores, trials, threshold, 1),
        ),
        evaluation=_yaml(metrics),
        config=_yaml(config),
    )


def _card(name: str, value: str, note: str) -> str:
    return (
        f'<div class="card"><div class="name">{html.escape(name)}</div>'
        f'<div class="value">{html.escape(value)}</div><div class="note">{html.escape(note)}</div></div>'
    )


def _image(svg: bytes, text: str) -> str:
    # As data, not inline: ids inside one SVG would clash with those of the other.
    return f'<img alt="{text}" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'


def _table(title: str, meaning: str, scores: Float64Array, trials: Trials, worst: Int64Array) -> str:
    digits = plots.score_digits(scores)
    rows = "\n".join(
        f"<tr><td>{scores[trial]:.{digits}f}</td><td>{html.escape(trials.names[trials.left[trial]])}</td>"
        f"<td>{html.escape(trials.names[trials.right[trial]])}</td></tr>"
        for trial in worst
    )
    none = '<tr><td colspan="3">none at the EER threshold</td></tr>'
    return (
        f"<section><h2>{title}</h2>"
        f'<p class="note">{meaning}; at the EER threshold, {WORST} at most</p>'
        "<table>"
        "<thead><tr><th>score</th><th>utterance</th><th>utterance</th></tr></thead>"
        f"<tbody>{rows or none}</tbody></table></section>"
    )


def _yaml(values: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return html.escape(redacted(text))


_STYLE = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --paper: #ffffff; --ground: #f6f7f9;
  --blue: #1d4ed8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 24px 56px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 0 0 2px; }
.subtitle, .note { color: var(--soft); margin: 0; }
.subtitle { overflow-wrap: anywhere; }
.note { font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); gap: 14px;
  margin: 26px 0 14px; }
.card, section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px 18px; }
.card .name { font-size: 13px; color: var(--soft); }
.card .value { font-size: 30px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card:first-child .value { color: var(--blue); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 14px;
  margin-bottom: 14px; align-items: start; }
img { display: block; width: 100%; height: auto; margin-top: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin-top: 10px; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { white-space: nowrap; overflow-wrap: normal;
  font-variant-numeric: tabular-nums; }
pre { margin: 10px 0 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="subtitle">{subtitle}</p>
<div class="cards">
{cards}
</div>
<div class="pair">
<section><h2>DET curve</h2>
<p class="note">normal-deviate axes; closer to the lower left is better</p>{det}</section>
<section><h2>Scores</h2><p class="note">the less the two overlap, the better</p>{histogram}</section>
</div>
<div class="pair">
{accepts}
{rejects}
</div>
<div class="pair">
<section><h2>Evaluation</h2><p class="note">as in metrics.json</p><pre>{evaluation}</pre></section>
<section><h2>Run</h2>
<p class="note">the complete configuration kept in the checkpoint</p><pre>{config}</pre></section>
</div>
</main>
</body>
</html>
"""
