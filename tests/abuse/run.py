"""Damages files of every kind, some thousands of times, and holds the promise of judge.py.

    python tests/abuse/run.py                          # 300 of each kind
    python tests/abuse/run.py --kinds wav,tar --trials 2000 --seed 7
    python tests/abuse/run.py --only index:31          # one again, its files and output kept

Needs no network. Trial N of a kind is a function of the seed, the kind and N.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from judge import broken_promise, in_child  # noqa: E402
from subjects import SUBJECTS  # noqa: E402


@dataclass(frozen=True)
class Fault:
    """What trial `number` of `kind` brought to light."""

    kind: str
    number: int
    command: str
    what: str


def run(kind: str, numbers: range, seed: int, folder: Path) -> tuple[list[Fault], Counter[str]]:
    """The faults of these trials, and how the commands ended: refused, or right."""
    pristine = folder / f"{kind}-good"
    pristine.mkdir(parents=True)
    subject = SUBJECTS[kind](pristine)
    faults, ends = [], Counter[str]()
    for number in numbers:
        work = folder / f"{kind}-{number}"
        work.mkdir()
        subject.damage(random.Random(f"{seed}/{kind}/{number}"), work)
        found = []
        for each in subject.commands(work):
            output = work / f"output-{each.name.replace(' ', '_')}"
            output.mkdir()
            outcome = in_child(each.run, output)
            what = broken_promise(outcome)
            if what is None and outcome.status == 0:
                what = _judged(each.judge, outcome)
            ends["refused" if outcome.status else "taken"] += 1
            if what is not None:
                found.append(Fault(kind, number, each.name, what))
        faults += found
        if not found:
            shutil.rmtree(work)
    return faults, ends


def _judged(judge, outcome):  # type: ignore[no-untyped-def]
    """What the judge says; it may stumble over a result that cannot be read."""
    try:
        return judge(outcome)
    except Exception as error:
        return f"status 0, and the result cannot be judged: {type(error).__name__}: {str(error)[:200]}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kinds", default=",".join(SUBJECTS), help="default: %(default)s")
    made.add_argument("--trials", type=int, default=300, help="of each kind (default %(default)s)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--only", metavar="KIND:N", help="one trial, whose files are kept")
    made.add_argument("--keep", metavar="FOLDER", help="where the files of faults stay (default: a new one)")
    return made


def main() -> int:
    options = parser().parse_args()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="abuse-")).absolute()
    if options.only:
        kind, _, number = options.only.partition(":")
        plan = {kind: range(int(number), int(number) + 1)}
    else:
        plan = {kind: range(options.trials) for kind in options.kinds.split(",")}
    gc.freeze()  # a collection in a fork would look at all that is loaded, and so copy it
    total = 0
    for kind, numbers in plan.items():
        faults, ends = run(kind, numbers, options.seed, folder)
        total += len(faults)
        print(
            f"{kind:<12} {len(numbers):>6} trials: {ends['refused']} commands refused, {ends['taken']} gave "
            f"a result, {len(faults)} faults"
        )
        for fault in faults:
            print(f"    {fault.kind}:{fault.number} {fault.command}: {fault.what}", flush=True)
    print(f"{total} faults; their files: {folder}" if total else "no faults")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
