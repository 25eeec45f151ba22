"""The figures of a report: DET curve and score histograms, as PNG or SVG bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot is imported by anyone: no display is needed

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from eval.metrics import ErrorRates

TARGET, NONTARGET, CURVE = "#0f766e", "#c2410c", "#1d4ed8"
_INK, _GRID = "#1f2937", "#e5e7eb"
_MARKS = "osD^vP"
_TICKS = (0.001, 0.01, 0.1, 0.5, 2, 5, 10, 20, 40, 60, 80, 90, 95, 98, 99, 99.5, 99.9)  # per cent
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "voxshard",  # without it every drawing of one figure has other ids
}


@dataclass(frozen=True)
class OperatingPoint:
    """A marked point: rates as fractions; `label` says what it is and what it is worth."""

    label: str
    threshold: float
    false_accept: float
    false_reject: float


def det_curve(rates: ErrorRates, points: list[OperatingPoint], title: str, kind: str) -> bytes:
    """DET plot (Martin et al. 1997: both axes are normal deviates), `points` marked; kind "png" or "svg"."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 6.4), layout="constrained")
        axes = figure.add_subplot()
        accept, reject = rates.false_accept, rates.false_reject
        x_low, x_high = _limits(accept, [point.false_accept for point in points])
        y_low, y_high = _limits(reject, [point.false_reject for point in points])
        x = norm.ppf(np.clip(accept, x_low, x_high))
        y = norm.ppf(np.clip(reject, y_low, y_high))
        keep = _visible(x, y)
        diagonal = norm.ppf([max(x_low, y_low), min(x_high, y_high)])
        axes.plot(diagonal, diagonal, color="#9ca3af", linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
        axes.plot(x[keep], y[keep], color=CURVE, linewidth=2, zorder=2, solid_joinstyle="round")
        for number, point in enumerate(points):
            axes.plot(
                norm.ppf(np.clip(point.false_accept, x_low, x_high)),
                norm.ppf(np.clip(point.false_reject, y_low, y_high)),
                _MARKS[number % len(_MARKS)],
                markersize=8.5,
                markerfacecolor="white" if number else CURVE,
                markeredgecolor=CURVE,
                markeredgewidth=2,
                clip_on=False,
                zorder=3 + number,
                label=_point_text(point),
            )
        _deviate_axis(axes, "x", x_low, x_high)
        _deviate_axis(axes, "y", y_low, y_high)
        axes.set_xlabel("false accepts (% of non-target trials)")
        axes.set_ylabel("false rejects (% of target trials)")
        axes.set_title(title, fontsize=10.5, loc="left", pad=10)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            frameon=False,
            fontsize=8.5,
            handletextpad=0.8,
            alignment="left",
        )
        _plain(axes)
        return _drawn(figure, kind)


def score_histogram(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int8], threshold: float, kind: str
) -> bytes:
    """Densities of target and non-target scores, each of area 1, with the EER threshold as a line."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        edges = np.histogram_bin_edges(scores, bins=70)
        for value, colour, name in ((0, NONTARGET, "non-target"), (1, TARGET, "target")):
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
        axes.axvline(
            threshold,
            color=_INK,
            linewidth=1.4,
            linestyle=(0, (5, 3)),
            label=f"EER threshold {threshold:.4f}",
        )
        axes.set_xlabel("score")
        axes.set_ylabel("density (each kind has area 1)")
        axes.legend(loc="upper left", frameon=False, fontsize=8.5)
        _plain(axes)
        return _drawn(figure, kind)


def _point_text(point: OperatingPoint) -> str:
    threshold = f"threshold {point.threshold:.4f}" if np.isfinite(point.threshold) else "every trial rejected"
    return (
        f"{point.label}\n  at {100 * point.false_accept:.2f} % false accepts, "
        f"{100 * point.false_reject:.2f} % false rejects ({threshold})"
    )


def _limits(rates: npt.NDArray[np.float64], marked: list[float]) -> tuple[float, float]:
    """Axis limits as fractions: down to half the smallest step of the rate, up to what is marked or 60 %."""
    step = float(np.min(np.abs(np.diff(rates))[np.diff(rates) != 0]))
    low = float(np.clip(0.5 * step, 1e-5, 5e-3))
    high = min(max(0.6, *(1.15 * rate for rate in marked)), 0.995)
    return low, high


def _visible(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """The points of a curve that differ from the one before at 1/500 of a deviate: a plot shows no more."""
    cell = np.stack([np.round(x * 500), np.round(y * 500)])
    keep: npt.NDArray[np.bool_] = np.concatenate(([True], (np.diff(cell) != 0).any(axis=0)))
    # A corner between two kept points keeps its place: the last point before each move stays too.
    keep[:-1] |= keep[1:]
    return keep


def _deviate_axis(axes: Axes, which: str, low: float, high: float) -> None:
    ticks = [tick for tick in _TICKS if low <= tick / 100 <= high]
    places = norm.ppf(np.array(ticks) / 100)
    texts = [f"{tick:g}" for tick in ticks]
    limits = float(norm.ppf(low)), float(norm.ppf(high))
    if which == "x":
        axes.set_xticks(places, texts)
        axes.set_xlim(*limits)
    else:
        axes.set_yticks(places, texts)
        axes.set_ylim(*limits)


def _plain(axes: Axes) -> None:
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def _drawn(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # No date and no program version: one result always draws the same bytes.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
