"""The figure of a dataset's lengths: how long utterances are, and how much there is of each speaker."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.dataset.info import Spread
from shard_tools.figures import INK, STYLE, drawn, plain
from shard_tools.text import shown

KINDS = ("png", "svg")
_COLOUR = "#0f766e"
_BARS = 50
_WIDE = 8.0  # the ratio of longest to shortest from which on an axis is logarithmic
_SECONDS_A_MINUTE = 60
_MARKED = ((0.05, ":"), (0.5, "-"), (0.95, ":"))


def plot(lengths: Spread, title: str, kind: str) -> bytes:
    """Histograms of durations, utterances a speaker and speech a speaker, as a file of `kind`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.4))
        figure.suptitle(shown(title), parse_math=False, x=0.01, ha="left", fontsize=11)
        durations, utterances, speech = figure.subplots(1, 3)
        _histogram(durations, lengths.duration_s, "duration of an utterance (s)", "utterances")
        _histogram(utterances, lengths.utterances, "utterances of a speaker", "speakers")
        long = np.median(lengths.seconds) >= _SECONDS_A_MINUTE
        amount, unit = (lengths.seconds / _SECONDS_A_MINUTE, "minutes") if long else (lengths.seconds, "s")
        _histogram(speech, amount, f"speech of a speaker ({unit})", "speakers")
        figure.tight_layout(rect=(0, 0, 1, 0.97))
        return drawn(figure, kind)


def _histogram(axes: Axes, values: Float64Array | Int64Array, what: str, counted: str) -> None:
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high / low >= _WIDE
    axes.hist(values, bins=_edges(values, low, high, wide).tolist(), color=_COLOUR, alpha=0.75)
    if _whole(values) and low == high:
        axes.set_xlim(low - 1, high + 1)
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=_whole(values)))
    told = []
    for probability, line in _MARKED:
        value = float(np.quantile(values, probability))
        name = "median" if probability == 0.5 else f"{100 * probability:g} %"
        axes.axvline(value, color=INK, linewidth=1.2, linestyle=line)
        told.append(f"{name}: {value:.3g}")
    axes.set_title("   ".join(told), fontsize=8.5, loc="left")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(what)
    axes.set_ylabel(counted)
    plain(axes)


def _edges(values: Float64Array | Int64Array, low: float, high: float, wide: bool) -> Float64Array:
    """Of the bars; whole numbers lie in the middle of theirs."""
    whole = _whole(values)
    if whole and high - low < _BARS:
        return np.arange(low, high + 2) - 0.5
    if low == high:
        return np.array([0.9 * low, 1.1 * low + 1e-9])
    edges = np.geomspace(low, high, _BARS + 1) if wide else np.linspace(low, high, _BARS + 1)
    return np.append(np.unique(np.floor(edges[:-1])), high + 1) - 0.5 if whole else edges


def _whole(values: Float64Array | Int64Array) -> bool:
    return bool(np.issubdtype(values.dtype, np.integer))
