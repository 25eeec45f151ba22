"""What all figures have in common: their look, and bytes that depend on nothing but what is drawn."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot is imported by anyone: no display is needed

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GRID = "#1f2937", "#e5e7eb"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "voxshard",  # without it every drawing of one figure has other ids
}


def plain(axes: Axes) -> None:
    """A light grid, and no frame on the right and above."""
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a file of `kind`, "png" or "svg"."""
    buffer = io.BytesIO()
    # No date and no program version: one result always draws the same bytes.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata, bbox_inches="tight", pad_inches=0.12)
    return buffer.getvalue()
