"""Runs one contestant: counts and checks its crops against the clock."""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from harness.memory import memory_mib
from harness.task import Task

READY = 3  # batches that may have come from a store while others had their turn


def load(module: str) -> ModuleType:
    return importlib.import_module(f"contestants.{module}")


class Runner:
    """A contestant in this process."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.module = load(task.entry.module)
        self._stream: Iterator[torch.Tensor] | None = None

    def prepare(self) -> None:
        """Convert the corpus to the contestant's format, once."""
        prepare = getattr(self.module, "prepare", None)
        if prepare is not None:
            prepare(self.task.corpus)

    def warm_up(self, seconds: float) -> None:
        """Open everything, and run for about so long without counting."""
        self._stream = self.module.batches(self.task)
        end = time.perf_counter() + seconds
        self._next()
        while time.perf_counter() < end:
            self._next()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Run for at least so long: {"crops", "seconds", "cpu_seconds", "peak_mib"}.

        The CPU's seconds are those of all threads; the peak is the process's so far. What a store has sent
        while this process stood still is not counted.
        """
        for _ in range(READY if self.task.remote else 0):
            self._next()
        crops, began, cpu_began = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - began) < seconds or crops == 0:
            crops += self._next()
        cpu = time.process_time() - cpu_began
        return {"crops": crops, "seconds": spent, "cpu_seconds": cpu, "peak_mib": memory_mib("VmHWM")}

    def epoch(self, crops: int) -> dict[str, Any]:
        """From opening the data to the crop number `crops`: {"crops", "seconds", "first_batch_seconds"}."""
        began = time.perf_counter()
        self._stream = self.module.batches(self.task)
        found = self._next()
        first = time.perf_counter() - began
        found += self.more(crops - found)["crops"]
        return {"crops": found, "seconds": time.perf_counter() - began, "first_batch_seconds": first}

    def digest(self, batches: float) -> str:
        """SHA-256 of so many batches' samples, from the first on."""
        stream, sums = self.module.batches(self.task), hashlib.sha256()
        for _ in range(int(batches)):
            sums.update(next(stream).numpy().tobytes())
        return sums.hexdigest()

    def more(self, crops: float) -> dict[str, Any]:
        """So many crops more from what is open: {"crops"}."""
        found = 0
        while found < crops:
            found += self._next()
        return {"crops": found}

    def _next(self) -> int:
        if self._stream is None:
            raise RuntimeError("warm_up or epoch comes first")
        batch = next(self._stream)
        shape = (self.task.batch, self.task.frames)
        if tuple(batch.shape) != shape or batch.dtype != torch.float32:
            raise RuntimeError(
                f"{self.task.entry.name} gave {tuple(batch.shape)} {batch.dtype}, not {shape} float32"
            )
        return len(batch)
