"""The figures of a report: DET curve and score histograms, as PNG or SVG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import expit, logit, ndtri

from eval.metrics import ErrorRates
from eval.report.projection import Projection
from shard_tools.arrays import Float32Array, Float64Array
from shard_tools.figures import INK, STYLE, drawn, plain

TARGET, NONTARGET, CURVE = "#0f766e", "#c2410c", "#1d4ed8"
SYSTEMS = (CURVE, NONTARGET, TARGET, "#7e22ce", "#a16207", "#be123c")
PEOPLE = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f",
    "#8c8c8c",
)  # fmt: skip
_LINES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 2)))
_BIN = 50  # trials
_MARKS = "osD^vP"
_TICKS = (0.001, 0.01, 0.1, 0.5, 2, 5, 10, 20, 40, 60, 80, 90, 95, 98, 99.5)  # per cent


@dataclass(frozen=True)
class OperatingPoint:
    """A marked point: rates as fractions; `label` says what it is and what it is worth."""

    label: str
    threshold: float
    false_accept: float
    false_reject: float


def score_digits(scores: Float64Array) -> int:
    """Decimals that tell apart a thousandth of the range of `scores`; 4 at least.

    Cosines of an untrained network differ in the fourth decimal only.
    """
    spread = float(np.ptp(scores))
    return 4 if spread == 0.0 else int(np.clip(np.ceil(-np.log10(spread)) + 3, 4, 15))


def decimal(value: float, digits: int) -> str:
    """`value` with so many decimals, and without a sign where they are all 0."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def det_curve(
    rates: ErrorRates, points: list[OperatingPoint], title: str, kind: str, *, digits: int
) -> bytes:
    """DET plot (Martin et al. 1997: both axes are normal deviates), `points` marked; kind "png" or "svg".

    As "png" it says all of its points; as "svg", for a page that does, what they are.
    """
    with matplotlib.rc_context(STYLE):
        whole = kind == "png"
        figure = Figure(figsize=(5.6, 5.6) if whole else (4.6, 4.6))
        axes = figure.add_subplot()
        low, high = _limits([rates], points)
        axes.plot(*_curve(rates, low), color=CURVE, linewidth=2, zorder=2, solid_joinstyle="round")
        for number, point in enumerate(points):
            axes.plot(
                ndtri(np.clip(point.false_accept, low, high)),
                ndtri(np.clip(point.false_reject, low, high)),
                _MARKS[number % len(_MARKS)],
                markersize=8.5,
                markerfacecolor="white" if number else CURVE,
                markeredgecolor=CURVE,
                markeredgewidth=2,
                clip_on=False,
                zorder=3 + number,
                label=_point_text(point, digits) if whole else point.label,
            )
        _frame(axes, low, high)
        axes.set_title(title, fontsize=11, loc="left", pad=12)
        _legend_below(axes)
        return drawn(figure, kind)


def det_overlay(systems: Sequence[tuple[str, ErrorRates]], kind: str) -> bytes:
    """The DET curves of several systems; the legend has their names."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.add_subplot()
        low, high = _limits([rates for _, rates in systems], [])
        for number, (name, rates) in enumerate(systems):
            colour = SYSTEMS[number % len(SYSTEMS)]
            style = _LINES[number // len(SYSTEMS) % len(_LINES)]
            axes.plot(*_curve(rates, low), color=colour, linewidth=2, linestyle=style, zorder=2, label=name)
        _frame(axes, low, high)
        _legend_below(axes)
        return drawn(figure, kind)


def _curve(rates: ErrorRates, low: float) -> tuple[Float64Array, Float64Array]:
    # Rates of 0 and 1 lie at infinity: far enough outside the frame will do.
    x = ndtri(np.clip(rates.false_accept, low / 100, 1 - low / 100))
    y = ndtri(np.clip(rates.false_reject, low / 100, 1 - low / 100))
    keep = _visible(x, y)
    return x[keep], y[keep]


def _frame(axes: Axes, low: float, high: float) -> None:
    """Deviates' axes with ticks in per cent, and the line of equal rates."""
    frame = ndtri([low, high])
    axes.plot(frame, frame, color="#9ca3af", linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
    ticks = [tick for tick in _TICKS if low <= tick / 100 <= high]
    places, texts = ndtri(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks]
    axes.set_xticks(places, texts)
    axes.set_yticks(places, texts)
    axes.set(xlim=frame, ylim=frame, box_aspect=1)
    axes.set_xlabel("false accepts (% of non-target trials)")
    axes.set_ylabel("false rejects (% of target trials)")
    plain(axes)


def _legend_below(axes: Axes) -> None:
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.12),
        frameon=False,
        fontsize=8.5,
        handletextpad=0.8,
        alignment="left",
    )


def score_histogram(
    scores: Float64Array, labels: npt.NDArray[np.int8], threshold: float | None, kind: str
) -> bytes:
    """Densities of target and non-target scores, each of area 1, with the EER threshold as a line.

    Of a list without labels (threshold None) one density of all.
    """
    kinds = [(0, NONTARGET, "non-target"), (1, TARGET, "target")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.9))
        axes = figure.add_subplot()
        edges = np.histogram_bin_edges(scores, bins=70)
        for value, colour, name in kinds if threshold is not None else [(-1, CURVE, "all")]:
            mine = scores[labels == value]
            axes.hist(
                mine,
                bins=edges.tolist(),
                density=True,
                color=colour,
                alpha=0.45,
                edgecolor=colour,
                linewidth=0.6,
                label=f"{name} ({len(mine):,} trials)",
            )
        if threshold is not None:
            axes.axvline(
                threshold,
                color=INK,
                linewidth=1.4,
                linestyle=(0, (5, 3)),
                label=f"EER threshold {decimal(threshold, score_digits(scores))}",
            )
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("score")
        axes.set_ylabel("density" + (" (each kind has the same area)" if threshold is not None else ""))
        axes.set_yticks([])
        plain(axes)
        _legend_below(axes)
        return drawn(figure, kind)


def calibration_plot(scores: Float64Array, labels: npt.NDArray[np.int8], kind: str) -> bytes:
    """Reliability of natural log-likelihood ratios: each bin's mean probability against its share of targets.

    A probability is that of a target trial in this list, whose share of them is the prior. Bins hold equally
    many trials, _BIN at least; bars are two standard errors of a share.
    """
    target = labels == 1
    prior = target.mean()
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // _BIN, 2, 15)))
    said = expit(scores + logit(prior))
    x = np.array([said[own].mean() for own in bins])
    y = np.array([target[own].mean() for own in bins])
    error = 2 * np.sqrt(np.maximum(y * (1 - y), 0.0) / np.array([len(own) for own in bins]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
        ends = [np.minimum(error, y), np.minimum(error, 1 - y)]
        axes.errorbar(
            x, y, yerr=ends, fmt="o-", color=CURVE, markersize=5, linewidth=1.5, elinewidth=1, capsize=2
        )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
        axes.set_xlabel("probability that the score gives")
        axes.set_ylabel("share of target trials")
        plain(axes)
        return drawn(figure, kind)


def similarity_histogram(own: Float32Array, rival: Float32Array, kind: str) -> bytes:
    """Utterances by their cosines, NaN where there is none, to their own speaker's others and to a rival."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.4))
        axes = figure.add_subplot()
        known = np.concatenate([own[np.isfinite(own)], rival[np.isfinite(rival)]])
        edges = np.histogram_bin_edges(known, bins=70)
        for values, colour, name in ((rival, NONTARGET, "most alike other"), (own, TARGET, "own speaker")):
            mine = values[np.isfinite(values)]
            axes.hist(mine, bins=edges.tolist(), color=colour, alpha=0.45, edgecolor=colour, label=name)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("cosine")
        axes.set_ylabel("utterances")
        plain(axes)
        _legend_below(axes)
        return drawn(figure, kind)


def embedding_map(found: Projection, kind: str) -> bytes:
    """Utterances as points, those of the first speakers in colours of their own."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.9))
        axes = figure.add_subplot()
        for group in range(-1, len(found.names)):
            own = found.points[found.group == group]
            if not len(own):
                continue
            grey = group < 0
            axes.plot(
                own[:, 0],
                own[:, 1],
                "." if grey else "o",
                color="#9ca3af" if grey else PEOPLE[group],
                markersize=3 if grey else 4,
                alpha=0.6 if grey else 0.85,
                markeredgewidth=0,
                label=("others" if found.names else "utterances") if grey else _short(found.names[group]),
                zorder=1 if grey else 2,
            )
        axes.set(xticks=[], yticks=[], box_aspect=1)
        axes.set_xlabel(f"first principal component ({100 * found.explained[0]:.0f} %)")
        axes.set_ylabel(f"second principal component ({100 * found.explained[1]:.0f} %)")
        plain(axes)
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.02, -0.08), ncols=3, frameon=False, fontsize=8.5,
            handletextpad=0.2, columnspacing=1.0, alignment="left",
        )  # fmt: skip
        return drawn(figure, kind)


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _point_text(point: OperatingPoint, digits: int) -> str:
    threshold = (
        f"threshold {decimal(point.threshold, digits)}"
        if np.isfinite(point.threshold)
        else "every trial rejected"
    )
    return (
        f"{point.label}\n  at {100 * point.false_accept:.2f} % false accepts, "
        f"{100 * point.false_reject:.2f} % false rejects ({threshold})"
    )


def _limits(systems: list[ErrorRates], points: list[OperatingPoint]) -> tuple[float, float]:
    """The frame of both axes as fractions: down to half a trial, up to what is marked or 60 %."""
    steps = np.abs(
        np.concatenate([np.diff(r) for rates in systems for r in (rates.false_accept, rates.false_reject)])
    )
    low = float(np.clip(0.5 * np.min(steps[steps > 0]), 1e-5, 5e-3))
    high = max([0.6, *(1.05 * rate for point in points for rate in (point.false_accept, point.false_reject))])
    return low, min(high, 0.995)


def _visible(x: Float64Array, y: Float64Array) -> npt.NDArray[np.bool_]:
    """The points of a curve that differ from the one before at 1/500 of a deviate: a plot shows no more."""
    cell = np.stack([np.round(x * 500), np.round(y * 500)])
    keep: npt.NDArray[np.bool_] = np.concatenate(([True], (np.diff(cell) != 0).any(axis=0)))
    # A corner between two kept points keeps its place: the last point before each move stays too.
    keep[:-1] |= keep[1:]
    return keep
