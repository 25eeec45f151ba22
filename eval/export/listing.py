"""What networks there are, and what one of them costs: from their classes, nothing kept by hand."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.parts.frontend import SAMPLE_RATE
from models.registry import (
    ModelError,
    build_network,
    describe_networks,
    network_class,
    network_names,
    option_names,
)

_PAPER = re.compile(r'[A-Z][\w-]+(?:(?:,| et| and| AI)[ \w.-]*)*, "[^"]+",[^;:"]*? \d{4}')
_SECONDS = 2  # over which multiply-accumulates are averaged


def count_macs(name: str, options: dict[str, Any]) -> float:
    """Multiply-accumulates of convolutions and matrix products for a second of audio, counted as it runs."""
    network = build_network(name, options).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, _SECONDS * SAMPLE_RATE))
    return counter.get_total_flops() / 2 / _SECONDS


def count_weights(name: str, options: dict[str, Any]) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in build_network(name, options).parameters())


def network_table() -> str:
    """Of each network weights and cost at its defaults, paper, and names of options."""
    rows = [("name", "weights", "MACs/s", "paper; options")]
    for name in network_names():
        rows.append((name, *_cost(name), paper_of(name)))
        rows.append(("", "", "", f"  {', '.join(option_names(name))}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{n:<{widths[0]}}  {w:>{widths[1]}}  {m:>{widths[2]}}  {text}" for n, w, m, text in rows]
    return "\n".join(lines) + "\n\npython -m models list NAME says what the options of one of them are.\n"


def _cost(name: str) -> tuple[str, str]:
    """Weights and multiply-accumulates at the defaults; "-" of a network that is nothing without options."""
    try:
        return f"{count_weights(name, {}) / 1e6:.1f} M", f"{count_macs(name, {}) / 1e9:.2f} G"
    except ModelError:
        return "-", "-"


def paper_of(name: str) -> str:
    """The first paper in the docstring of a network: authors, "title", where and when; "" without one."""
    text = " ".join((network_class(name).__doc__ or "").split())
    found = _PAPER.search(text)
    return found[0] if found else ""


def network_page(name: str) -> str:
    """All that is said of one network: paper, original, licence, options and what they may be."""
    weights, macs = _cost(name)
    text = inspect.cleandoc(network_class(name).__doc__ or "")
    options = "\n".join(f"  {line}" for line in describe_networks()[name])
    cost = f"{weights} weights, {macs} MACs for a second of audio"
    return f"{name}: {cost}\n\n{text}\n\nOptions:\n{options}\n"
