"""The benchmarks: measures, and writes JSON and a Markdown page to tests/bench/results/.

Examples:
  python tests/bench/run.py                      everything
  python tests/bench/run.py --quick              a look, about a minute
  python tests/bench/run.py --only local_plain --seconds 5
  python tests/bench/run.py --only s3_crops --speech /data/voxceleb1/wav
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers")]

from harness import machine, report, settings  # noqa: E402
from harness.contest import Process  # noqa: E402

SPEECH = HERE.parents[2] / "shared" / "data" / "librispeech-mini" / "wav" / "train"
NAMES = (
    "local_augmented",
    "local_plain",
    "side_by_side",
    "fetched",
    "s3_requests",
    "s3_crops",
    "s3_side_by_side",
    "s3_start",
    "s3_faults",
    "s3_latency",
    "planning",
    "scale",
    "packing",
    "converting",
    "scoring",
    "stages",
    "bootstrap",
)


def main() -> None:
    given = arguments()
    given.cache.mkdir(parents=True, exist_ok=True)
    cpu = max(os.sched_getaffinity(0))  # interrupts tend to go to the first
    chosen = (settings.quick if given.quick else settings.full)(given.cache, Process, cpu)
    chosen = replace(chosen, speech=given.speech)
    if given.seconds is not None:
        chosen = replace(chosen, seconds=given.seconds)
    run(given.only or NAMES, chosen, given.out, quick=given.quick)


def run(names: tuple[str, ...] | list[str], chosen: settings.Settings, out: Path, *, quick: bool) -> None:
    """Measure these tables, and write them and the page of all tables in `out`."""
    described = machine.describe()
    for name in names:
        began = time.monotonic()
        print(f"{name} …", file=sys.stderr, flush=True)
        table = importlib.import_module(f"tables.{name}")
        found = table.run(chosen)
        document = {"table": name, "title": table.TITLE, "about": table.ABOUT, "layout": table.LAYOUT}
        document |= {"machine": described, "quick": quick, **found}
        report.write_table(out, name, document)
        report.write_page(out, NAMES)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(out / "README.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds on a smaller corpus")
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="this table (may be given several times); default: all"
    )
    parser.add_argument("--seconds", type=float, help="length of one turn of one loader")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="default: %(default)s")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / f"voxshard-bench-{os.getuid()}",
        help="folder for the corpus, 7 GB; default: %(default)s",
    )
    parser.add_argument(
        "--speech",
        type=Path,
        default=SPEECH if SPEECH.is_dir() else None,
        help="recordings, SPEAKER/.../*.wav or *.flac, 16 kHz, of 200 speakers, that the tables from S3 are"
        " measured with; default: the project's own, where they lie beside it, or made-up speech",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
