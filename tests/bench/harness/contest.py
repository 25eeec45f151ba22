"""Contestants side by side: a process each, taking turns, so that noise on the machine hits all alike."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.corpus import Corpus
from harness.runner import Runner
from harness.settings import Settings
from harness.spread import summary
from harness.stores import Store
from harness.task import Entry, Task, to_json

# Distributions that a contestant's module needs besides the project's own.
NEEDS = {
    "mosaic_streaming": ("mosaicml-streaming",),
    "litdata_chunks": ("litdata",),
    "lhotse_shar": ("lhotse", "smart-open"),
}


class ContestantError(Exception):
    """A contestant's process ended or its method raised; the text is the last line that it wrote."""


def last_line(text: str, status: int) -> str:
    """What a process that ended said last, most likely why."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or [f"the process ended with status {status}"])[-1]


class Process:
    """A contestant in a process of its own. The methods are Runner's, by name, over a pipe."""

    def __init__(self, task: Task, cpu: int | None, environment: dict[str, str]) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), _cpu(cpu), to_json(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            env={**os.environ, **one_thread, **environment},
            start_new_session=True,  # curl and the like go with it
        )

    def answer(self) -> Any:
        """Wait for what the process has to say; the first answer says that imports are done."""
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self._process.wait()
            raise ContestantError(self._last_line())
        return json.loads(line)

    def ask(self, command: str) -> Any:
        with suppress(BrokenPipeError):
            self._process.stdin.write(command + "\n")  # type: ignore[union-attr]
        return self.answer()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _last_line(self) -> str:
        self._log.seek(0)
        return last_line(self._log.read(), self._process.returncode)


class Here:
    """The same in this process: for tests, where starting a dozen interpreters takes too long."""

    def __init__(self, task: Task, cpu: int | None, environment: dict[str, str]) -> None:
        self._environment = environment
        self._runner = Runner(task)

    def answer(self) -> Any:
        return None

    def ask(self, command: str) -> Any:
        name, *arguments = command.split()
        import s3_settings

        if any(os.environ.get(name) != value for name, value in self._environment.items()):
            os.environ.update(self._environment)  # whoever uses this sets it back
            s3_settings.forget_clients()
        try:
            return getattr(self._runner, name)(*map(float, arguments))
        except Exception as error:
            raise ContestantError(f"{type(error).__name__}: {error}") from error

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


def missing(entry: Entry) -> str | None:
    """Why the contestant cannot take part, or None."""
    for name in NEEDS.get(entry.module, ()):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"not installed: {name}"
    return None


@dataclass(frozen=True)
class Remote:
    """A corpus in a store's bucket. url: where the corpus's shards/ and converted/ lie."""

    url: str
    store: Store

    def environment(self, entry: Entry) -> dict[str, str]:
        """What leads the entry to the store, or to another address that is its option."""
        return self.store.environment(entry.options.get("address"))


def contest(
    corpus: Corpus, entries: Sequence[Entry], settings: Settings, remote: Remote | None = None
) -> list[dict[str, Any]]:
    """Warm crops per second of each entry, in `settings.rounds` rounds in which all take their turns.

    One dict an entry: name, status ("ok", "not installed", "failed"), reason, and summaries of
    crops_per_second and crops_per_cpu_second, which a busy machine disturbs less, of peak_mib, the process's
    highest memory, and from a store of store_cpu, the cores that it kept busy meanwhile.
    """
    results: list[dict[str, Any]] = []
    running: list[tuple[dict[str, Any], list[dict[str, float]], Any]] = []
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.cache))
    try:
        for number, entry in enumerate(entries):
            result: dict[str, Any] = {"name": entry.name, "status": "ok"}
            results.append(result)
            if not _ready(corpus, entry, settings, result):
                continue
            own = scratch / str(number)
            own.mkdir()
            environment = remote.environment(entry) if remote else {}
            task = Task(corpus, entry, own, remote.url if remote else None)
            running.append((result, [], settings.start(task, settings.cpu, environment)))
        for result, _, process in running:
            _attempt(result, process.answer)
            process.pause()
        for result, _, process in running:
            process.resume()
            _attempt(result, lambda p=process: p.ask(f"warm_up {settings.warm_up}"))
            process.pause()
        for round_number in range(settings.rounds):
            turn = round_number % max(len(running), 1)
            for result, turns, process in running[turn:] + running[:turn]:
                if result["status"] != "ok":
                    continue
                process.resume()
                busy = remote.store.cpu_seconds() if remote else 0.0
                found = _attempt(result, lambda p=process: p.ask(f"measure {settings.seconds}"))
                if found is not None:
                    busy = remote.store.cpu_seconds() - busy if remote else 0.0
                    turns.append({**found, "store_cpu_seconds": busy})
                process.pause()
    finally:
        for _, _, process in running:
            process.close()
        shutil.rmtree(scratch, ignore_errors=True)
    for result, turns, _ in running:
        if result["status"] == "ok":
            for unit, seconds in (("crops_per_second", "seconds"), ("crops_per_cpu_second", "cpu_seconds")):
                result[unit] = summary([turn["crops"] / turn[seconds] for turn in turns])
            result["peak_mib"] = summary([turn["peak_mib"] for turn in turns])
            if remote:
                busy_cores = [turn["store_cpu_seconds"] / turn["seconds"] for turn in turns]
                result["store_cpu"] = summary(busy_cores)
    return results


@contextmanager
def fresh_process(corpus: Corpus, entry: Entry, settings: Settings, remote: Remote | None) -> Iterator[Any]:
    """A process of the entry's, with empty caches; answers as Process does. remote: None reads from disk."""
    scratch = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.cache))
    process = None
    try:
        environment = remote.environment(entry) if remote else {}
        task = Task(corpus, entry, scratch, remote.url if remote else None)
        process = settings.start(task, settings.cpu, environment)
        process.answer()
        yield process
    finally:
        if process is not None:
            process.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _ready(corpus: Corpus, entry: Entry, settings: Settings, result: dict[str, Any]) -> bool:
    """Whether the entry can start: installed, and the corpus is in its format."""
    reason = missing(entry)
    if reason is not None:
        result.update(status="not installed", reason=reason)
        return False
    prepare(corpus, entry, settings, result)
    return result["status"] == "ok"


def prepare(corpus: Corpus, entry: Entry, settings: Settings, result: dict[str, Any]) -> None:
    """Convert the corpus to the entry's format, once; failure goes into `result`."""
    target = corpus.converted(entry.module)
    stamp = target / "complete"
    if entry.module not in NEEDS or stamp.exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    process = settings.start(Task(corpus, entry, settings.cache), None, {})
    try:
        _attempt(result, process.answer)
        _attempt(result, lambda: process.ask("prepare"))
    finally:
        process.close()
    if result["status"] == "ok":
        stamp.touch()


def _attempt(result: dict[str, Any], act: Callable[[], Any]) -> Any:
    if result["status"] != "ok":
        return None
    try:
        return act()
    except ContestantError as error:
        result.update(status="failed", reason=str(error))
        return None


def _cpu(cpu: int | None) -> str:
    return "all" if cpu is None else str(cpu)
