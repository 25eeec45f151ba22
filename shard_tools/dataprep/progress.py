"""How far a long run has come: a bar on a terminal, a line now and then elsewhere, with the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from tqdm import tqdm

from shard_tools.dataprep.files import gigabytes
from shard_tools.text import shown

_EVERY_S = 60.0


class Progress:
    """Bytes of `total` (grows by `expect`). Threads may share it. All of it goes to stderr.

    quiet: nothing is shown, and `note` says nothing; scrub: what takes secrets out of a text.
    """

    def __init__(
        self,
        what: str,
        *,
        total: int = 0,
        quiet: bool = False,
        scrub: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._what = what
        self._quiet = quiet
        self._scrub = scrub
        self._lock = threading.Lock()
        self.total = total
        self.done = 0
        self._moved = 0  # in this run, which the speed is of
        self._began = self._shown = time.monotonic()
        self._bar = tqdm(
            total=total or None, unit="B", unit_scale=True, desc=what, disable=True if quiet else None
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def expect(self, size: int) -> None:
        """So many bytes more are to come, or fewer."""
        with self._lock:
            self.total += size
            self._bar.total = self.total or None

    def have(self, amount: int) -> None:
        """Bytes that were there before: they say nothing of the speed."""
        with self._lock:
            self.done += amount
            if not self._bar.disable:
                self._bar.initial += amount
                self._bar.update(amount)

    def move(self, amount: int) -> None:
        """Bytes that came now; negative ones are taken back."""
        with self._lock:
            self.done += amount
            self._moved += amount
            self._bar.update(amount)
            now = time.monotonic()
            due = now - self._shown >= _EVERY_S
            if due:
                self._shown = now
        if due and self._bar.disable and not self._quiet:
            self.note(f"{self._what}: {self.state()}")

    def state(self) -> str:
        """ "12.3 of 45.6 GB, 27 %, 98.7 MB/s, 0:05:37 left"."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        speed = max(self._moved, 0) / seconds
        text = f"{gigabytes(self.done)} of {gigabytes(self.total)}" if self.total else gigabytes(self.done)
        if self.total:
            text += f", {100 * self.done / self.total:.0f} %"
        if speed:
            text += f", {speed / 1e6:.1f} MB/s"
            if self.total > self.done:
                text += f", {timedelta(seconds=round((self.total - self.done) / speed))} left"
        return text

    def note(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            tqdm.write(shown(self._scrub(text)), file=sys.stderr)
