"""How far a long piece of work is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from shard_tools.workers import Report

_EVERY_S = 60.0


@contextlib.contextmanager
def shown(what: str, total: int, unit: str = "file", *, progress: bool = True) -> Iterator[Report]:
    """A function to be told of each amount that is done, of `total`; what it shows goes to stderr."""
    if not progress:
        yield lambda _: None
    elif sys.stderr.isatty():
        with tqdm(total=total, unit=unit, desc=what, smoothing=0.05) as bar:
            yield bar.update
    else:
        yield _Log(what, total, unit)


class _Log:
    def __init__(self, what: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._unit, self._clock = what, total, unit, clock
        self._done = 0
        self._began = self._said = clock()

    def __call__(self, amount: int) -> None:
        self._done += amount
        now = self._clock()
        if now - self._said < _EVERY_S:
            return
        self._said = now
        rate = self._done / (now - self._began)
        left = f"{(self._total - self._done) / rate / 3600:.2f} h left" if rate else "nothing done yet"
        print(
            f"{self._what}: {self._done} of {self._total} {self._unit}s, {rate:.1f} {self._unit}s/s, {left}",
            file=sys.stderr,
            flush=True,
        )
