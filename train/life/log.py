"""What a run says: metrics.jsonl, TensorBoard, W&B, log.txt, the progress bar. Only rank 0 says anything."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from shard_tools import records, storage
from shard_tools.errors import UserError
from shard_tools.text import SafeFormatter
from train.life.tracker import Tracker

logger = logging.getLogger("train")

METRICS = "metrics.jsonl"
_OURS = ("train", "eval", "models", "shard_tools")  # loggers; what others have to say begins with warnings


class RunLog:
    """The run folder's records; on ranks other than 0 (`folder` None) every call does nothing.

    first_step: the step that the run starts or resumes at; records of later steps, left by a
    run that was killed after its last checkpoint, are dropped, so that every step stands once.
    validated: whether the validation after first_step was brought to its end; else its record goes too.
    tracker: gets the numbers too, and is closed with this.
    """

    def __init__(
        self,
        folder: str | None,
        first_step: int,
        last_step: int,
        *,
        validated: bool = True,
        tracker: Tracker | None = None,
    ) -> None:
        self._tracker = tracker
        self._bar: tqdm[Any] | None = None
        if folder is None:
            return
        self._folder = folder
        self._metrics_path = os.path.join(folder, METRICS)
        self._first, self._last, self._began = first_step, last_step, 0.0
        try:
            _drop_later(self._metrics_path, first_step, validated=validated)
            self._metrics = open(self._metrics_path, "a", encoding="utf-8")  # noqa: SIM115 - close() closes it
            self._board = SummaryWriter(folder, purge_step=first_step + 1)
            _hush_writers_of(folder)
        except OSError as error:
            raise _cannot_write(folder, error) from None
        self._bar = tqdm(
            total=last_step,
            initial=first_step,
            unit="step",
            desc="train",
            dynamic_ncols=True,
            smoothing=0.05,
            disable=None,  # where stderr is a file, `show` logs lines instead
        )
        self._redirect = logging_redirect_tqdm()
        self._redirect.__enter__()

    def advance(self, steps: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(steps)
            if not self._began:  # the first step is longer than others
                self._first, self._began = self._first + steps, time.monotonic()

    def show(self, step: int, **shown: str) -> None:
        """Values beside the progress bar, or in a line of the log where there is no terminal."""
        if self._bar is None:
            return
        if not self._bar.disable:
            self._bar.set_postfix(shown)
        else:
            values = ", ".join(f"{name} {value}" for name, value in (shown | self._left(step)).items())
            logger.info("step %d of %d: %s", step, self._last, values)

    def _left(self, step: int) -> dict[str, str]:
        """The time that the other steps will take if they go on like those since the start."""
        if step <= self._first:
            return {}
        each = (time.monotonic() - self._began) / (step - self._first)
        return {"left": tqdm.format_interval(each * (self._last - step))}

    def record(self, step: int, group: str, values: dict[str, Any]) -> None:
        """A line of metrics.jsonl, and its numbers under `group`/ in TensorBoard."""
        if self._bar is None:
            return
        self.require_folder()
        line = {"step": step, "group": group, **values, "time": round(time.time(), 3)}
        try:
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
            numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
            for name, value in numbers.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
        except OSError as error:
            self.require_folder()
            raise _cannot_write(self._folder, error) from None
        if self._tracker is not None:
            self._tracker.record(step, group, numbers)

    def require_folder(self) -> None:
        """Raise UserError when the run's folder is not where it was: nothing is to be made in its place."""
        if self._bar is None:
            return
        try:
            os.stat(self._metrics_path)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"run.folder {self._folder} was moved or deleted while the run wrote to it: put it back and "
                "start again, which goes on from its newest checkpoint"
            ) from None
        except OSError:  # a file system that is away for a while is not a folder that is gone
            return

    def close(self) -> None:
        if self._bar is None:
            return
        self._bar.close()
        self._redirect.__exit__(None, None, None)
        if self._tracker is not None:
            self._tracker.close()
        with contextlib.suppress(OSError):  # all that counts has been flushed
            self._metrics.close()
        if folder_is_gone(self._folder):  # TensorBoard's thread would fail loudly
            self._board.file_writer = None
            self._board.all_writers = None
        else:
            with contextlib.suppress(OSError):
                self._board.close()
        self._bar = None


@dataclass(frozen=True)
class _Line:
    """What every line of metrics.jsonl has."""

    step: int
    group: str


def _drop_later(path: str, step: int, *, validated: bool = True) -> None:
    """Keep the records of metrics.jsonl up to `step`, but not its validation unless `validated`.

    A last line that was cut short by a kill goes too, and so do damaged lines, which are counted and said.
    """
    if not os.path.exists(path):
        return
    data = storage.read_bytes(path)
    lines = [line for line in data.split(b"\n") if line.strip()]
    found = list(records.decode_lines(data, _Line))
    kept, damaged = [], 0
    for line, record in zip(lines, found, strict=True):
        if record is None:
            damaged += 1
        elif record.step < step or (record.step == step and (validated or record.group != "validation")):
            kept.append(line + b"\n")
    if found and found[-1] is None and not data.endswith(b"\n"):
        damaged -= 1
    if damaged:
        logger.warning("%s: dropping what is no record: %d of %d lines", path, damaged, len(lines))
    storage.publish_bytes(path, b"".join(kept))


_log_file: logging.FileHandler | None = None
_began = False  # whether the folder of this process's run is known to have been there


def start_logging(folder: str | None) -> None:
    """Log to stderr and to log.txt in `folder`; with None (ranks other than 0) only errors, to stderr."""
    global _log_file
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        try:
            os.makedirs(folder, exist_ok=True)
            _log_file = logging.FileHandler(_log_path(folder), encoding="utf-8")
        except OSError as error:
            raise _cannot_write(folder, error) from None
        handlers.append(_log_file)
    for handler in handlers:
        handler.setFormatter(_formatter())
    logging.basicConfig(
        level=logging.WARNING if folder is not None else logging.ERROR, handlers=handlers, force=True
    )
    if folder is not None:
        for name in _OURS:
            logging.getLogger(name).setLevel(logging.INFO)


def folder_was_made() -> None:
    """Known from now on, on every rank: where the run's folder is not, it has gone."""
    global _began
    _began = True


def folder_is_gone(folder: str) -> bool:
    """Whether the folder of this process's run was there and is not any more."""
    return _began and not os.path.isdir(folder)


def _hush_writers_of(folder: str) -> None:
    """A thread that writes into a folder that is gone ends without traceback: the run says what happened."""
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and folder_is_gone(folder)):
            before(failure)

    threading.excepthook = hook


def log_end(folder: str, text: str) -> None:
    """Put what ended this process into the run's log.txt; whoever calls says it on stderr.

    Any rank may, and before `start_logging` too. Does nothing where the file cannot be written, which
    may be the very cause.
    """
    record = logger.makeRecord("train", logging.ERROR, __file__, 0, "%s", (text.rstrip(),), None)
    if _log_file is not None:
        _log_file.handle(record)
        return
    with contextlib.suppress(OSError):
        if not _began and os.environ.get("RANK", "0") == "0":
            os.makedirs(folder, exist_ok=True)
        with open(_log_path(folder), "a", encoding="utf-8") as file:
            file.write(_formatter().format(record) + "\n")


def _formatter() -> logging.Formatter:
    return SafeFormatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


def _log_path(folder: str) -> str:
    return os.path.join(folder, "log.txt")


def _cannot_write(folder: str, error: OSError) -> UserError:
    return UserError(f"run.folder {folder} cannot be written ({error.strerror}): free it or give another")
