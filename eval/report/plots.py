"""The figures of a report: DET curve and score histograms, as PNG or SVG bytes."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.stats import norm

from eval.metrics import ErrorRates
from shard_tools.arrays import Float64Array
from shard_tools.figures import INK, STYLE, drawn, plain

TARGET, NONTARGET, CURVE = "#0f766e", "#c2410c", "#1d4ed8"
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


def det_curve(
    rates: ErrorRates, points: list[OperatingPoint], title: str, kind: str, *, digits: int
) -> bytes:
    """DET plot (Martin et al. 1997: both axes are normal deviates), `points` marked; kind "png" or "svg"."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.6))
        axes = figure.add_subplot()
        low, high = _limits(rates, points)
        # Rates of 0 and 1 lie at infinity: far enough outside the frame will do.
        x = norm.ppf(np.clip(rates.false_accept, low / 100, 1 - low / 100))
        y = norm.ppf(np.clip(rates.false_reject, low / 100, 1 - low / 100))
        keep = _visible(x, y)
        frame = norm.ppf([low, high])
        axes.plot(frame, frame, color="#9ca3af", linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
        axes.plot(x[keep], y[keep], color=CURVE, linewidth=2, zorder=2, solid_joinstyle="round")
        for number, point in enumerate(points):
            axes.plot(
                norm.ppf(np.clip(point.false_accept, low, high)),
                norm.ppf(np.clip(point.false_reject, low, high)),
                _MARKS[number % len(_MARKS)],
                markersize=8.5,
                markerfacecolor="white" if number else CURVE,
                markeredgecolor=CURVE,
                markeredgewidth=2,
                clip_on=False,
                zorder=3 + number,
                label=_point_text(point, digits),
            )
        ticks = [tick for tick in _TICKS if low <= tick / 100 <= high]
        places, texts = norm.ppf(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks]
        axes.set_xticks(places, texts)
        axes.set_yticks(places, texts)
        axes.set(xlim=frame, ylim=frame, box_aspect=1)
        axes.set_xlabel("false accepts (% of non-target trials)")
        axes.set_ylabel("false rejects (% of target trials)")
        axes.set_title(title, fontsize=11, loc="left", pad=12)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.12),
            frameon=False,
            fontsize=8.5,
            handletextpad=0.8,
            alignment="left",
        )
        plain(axes)
        return drawn(figure, kind)


def score_histogram(scores: Float64Array, labels: npt.NDArray[np.int8], threshold: float, kind: str) -> bytes:
    """Densities of target and non-target scores, each of area 1, with the EER threshold as a line."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 6.1))
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
            color=INK,
            linewidth=1.4,
            linestyle=(0, (5, 3)),
            label=f"EER threshold {threshold:.{score_digits(scores)}f}",
        )
        axes.set_xlabel("score")
        axes.set_ylabel("density (each kind has the same area)")
        axes.set_yticks([])
        axes.legend(loc="upper left", frameon=False, fontsize=8.5)
        plain(axes)
        return drawn(figure, kind)


def _point_text(point: OperatingPoint, digits: int) -> str:
    threshold = (
        f"threshold {point.threshold:.{digits}f}" if np.isfinite(point.threshold) else "every trial rejected"
    )
    return (
        f"{point.label}\n  at {100 * point.false_accept:.2f} % false accepts, "
        f"{100 * point.false_reject:.2f} % false rejects ({threshold})"
    )


def _limits(rates: ErrorRates, points: list[OperatingPoint]) -> tuple[float, float]:
    """The frame of both axes as fractions: down to half a trial, up to what is marked or 60 %."""
    steps = np.abs(np.concatenate([np.diff(rates.false_accept), np.diff(rates.false_reject)]))
    low = float(np.clip(0.5 * np.min(steps[steps > 0]), 1e-5, 5e-3))
    high = max(0.6, *(1.05 * rate for point in points for rate in (point.false_accept, point.false_reject)))
    return low, min(high, 0.995)


def _visible(x: Float64Array, y: Float64Array) -> npt.NDArray[np.bool_]:
    """The points of a curve that differ from the one before at 1/500 of a deviate: a plot shows no more."""
    cell = np.stack([np.round(x * 500), np.round(y * 500)])
    keep: npt.NDArray[np.bool_] = np.concatenate(([True], (np.diff(cell) != 0).any(axis=0)))
    # A corner between two kept points keeps its place: the last point before each move stays too.
    keep[:-1] |= keep[1:]
    return keep
