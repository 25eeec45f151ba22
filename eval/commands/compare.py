"""Compares evaluations of one trial list: DET curves, figures, a paired test, where they disagree."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from eval.compare.page import build_comparison, compared, points_of
from eval.compare.paired import paired
from eval.compare.systems import read_comparison
from eval.report.outputs import prepare_folder
from eval.trials import read_trials
from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.options import place
from shard_tools.text import shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  python -m eval runs/first --out evaluations/first
  python -m eval runs/second --out evaluations/second
  python -m eval compare evaluations/first evaluations/second --out comparison

OUT then holds compare.json and compare.html.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(lambda: _compare(parser().parse_args(argv)), program="eval compare")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval compare",
        description="Compare evaluations of one trial list with the first of them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "folders", type=place, nargs="+", metavar="FOLDER", help="what python -m eval wrote: metrics.json …"
    )
    made.add_argument(
        "--out",
        type=place,
        default="comparison",
        metavar="FOLDER",
        help="made if absent (default: comparison)",
    )
    made.add_argument(
        "--trials",
        type=place,
        metavar="FILE",
        help="the list, for folders of a release that wrote no trials.npz",
    )
    add_version(made)
    return made


def _compare(options: argparse.Namespace) -> None:
    if len(options.folders) < 2:
        raise UserError(f"{options.folders[0]} alone is given; give two evaluations or more")
    trials = None if options.trials is None else read_trials(options.trials)
    comparison = read_comparison(options.folders, trials)
    prepare_folder(options.out, "compare.json")
    tests = paired(comparison, list(points_of(comparison).values()))
    found = compared(comparison, tests)
    page = storage.join(options.out, "compare.html")
    storage.publish_bytes(page, build_comparison(comparison, found).encode())
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    storage.publish_bytes(storage.join(options.out, "compare.json"), text.encode())
    print(summary(found, page))


def summary(found: dict[str, Any], page: str) -> str:
    """What the command prints: a line a system, and where the page is."""
    lines = [f"{found['trial_list']}: {found['trials']:,} trials"]
    width = max(len(system["name"]) for system in found["systems"])
    for system in found["systems"]:
        costs = "".join(f"  minDCF({at}) {cost:.4f}" for at, cost in (system.get("min_dcf") or {}).items())
        lines.append(f"  {system['name']:<{width}}  EER {system['eer']:7.3f} %{costs}")
    for pair in found["pairs"]:
        eer = (pair.get("differences") or {}).get("eer")
        reason = (pair.get("bootstrap") or {}).get("reason")
        told = f"EER {eer['difference']:+.3f} % (p = {eer['p']:.3f})" if eer else f"no test ({reason})"
        lines.append(f"  {pair['second']} against {pair['first']}: {told}")
    return "\n".join(shown(line) for line in [*lines, f"  report: {page}"])
