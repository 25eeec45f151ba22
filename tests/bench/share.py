r"""What the trainer costs beside network, loss and optimiser, and what a checkpoint in the background does.

    python tests/bench/share.py shards

Fast ResNet-34, 64 crops of 2 s, AAM-softmax, one process; shards as `make-shards pack` makes them. The share
is of the seconds from the first step's end to the last's: what is left of them without forward and backward
pass and the optimiser. With a checkpoint every 5 steps: seconds a step against those of a run that writes
none between. With --ways: seconds a step with each of a step's options, against those without.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

from train.backward import Backward
from train.config.parsing import parse
from train.learner import Learner
from train.run import run


class Clock:
    """Seconds within functions, and when a step ended."""

    def __init__(self) -> None:
        self.within = 0.0
        self.ends: list[tuple[float, float]] = []  # the time, and `within` then

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.within += time.perf_counter() - began

        return call

    def step_ended(self) -> None:
        self.ends.append((time.perf_counter(), self.within))

    def share(self) -> tuple[float, float]:
        """Seconds a step, and the share of them that was not within the functions."""
        (first, before), (last, after) = self.ends[0], self.ends[-1]
        return (last - first) / (len(self.ends) - 1), 1 - (after - before) / (last - first)


WAYS: dict[str, dict[str, object]] = {
    "accumulate 4": {"train.accumulate": 4},
    "norm_rows 64 (one group)": {"train.norm_rows": 64},
    "norm_rows 16 (four groups)": {"train.norm_rows": 16},
    "sync_norm": {"train.sync_norm": "true"},
    "ema 0.999": {"train.ema": 0.999},
    "clip 5": {"optim.clip": 5},
    "channels_last": {"train.channels_last": "true"},
}
PAIRS: dict[str, object] = {
    "batch.speakers": 32,
    "batch.utterances_per_speaker": 2,
    "loss.name": "angleproto",
}


def measure(shards: str, steps: int, every: int, **changed: object) -> tuple[float, float]:
    clock = Clock()
    passes, step, made = Backward.__call__, Learner.step, Learner.__init__

    def make(self: Learner, *arguments: Any) -> None:
        made(self, *arguments)
        self.optimizer.step = clock.timed(self.optimizer.step)  # type: ignore[method-assign]

    def whole(self: Learner, *arguments: Any) -> Any:
        outcome = step(self, *arguments)
        clock.step_ended()
        return outcome

    Backward.__call__ = clock.timed(passes)  # type: ignore[method-assign]
    Learner.step, Learner.__init__ = whole, make  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            words = {
                "data.url": shards,
                "data.crop_frames": 200,
                "data.workers": 1,
                "batch.speakers": 64,
                "loss.options": "{margin: 0.2, scale: 30}",
                "train.steps": steps,
                "checkpoint.every": every,
                "run.folder": f"{folder}/run",
            } | changed
            if words.get("loss.name"):
                words["loss.options"] = "{}"
            run(parse([word for key, value in words.items() for word in (f"--{key}", str(value))]))
    finally:
        Backward.__call__, Learner.step, Learner.__init__ = passes, step, made  # type: ignore[method-assign]
    return clock.share()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--ways", action="store_true", help="what the options of a step cost, instead")
    args = parser.parse_args()
    if args.ways:
        ways(args.shards, args.steps)
        return
    seconds, share = measure(args.shards, args.steps, args.steps)
    often, _ = measure(args.shards, args.steps, 5)
    print(f"{seconds:.3f} s a step, {100 * share:.2f} % of it the trainer's own")
    print(f"{often:.3f} s a step with a checkpoint every 5 steps: {often / seconds:.3f} x")


def ways(shards: str, steps: int) -> None:
    """Each beside a plain run that comes right before it, so that a machine's moods hit both."""
    for name, words in WAYS.items():
        plain, changed = (measure(shards, steps, steps, **more)[0] for more in ({}, words))
        print(f"{name}: {changed / plain:.2f} x ({plain:.3f} -> {changed:.3f} s a step)", flush=True)
    plain, changed = (
        measure(shards, steps, steps, **PAIRS, **more)[0] for more in ({}, {"train.accumulate": 4})
    )
    print(f"accumulate 4, angleproto: {changed / plain:.2f} x ({plain:.3f} -> {changed:.3f} s a step)")


if __name__ == "__main__":
    main()
