"""What a run says: metrics.jsonl, TensorBoard, log.txt and the progress bar. Only rank 0 says anything."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from shard_tools import storage
from shard_tools.errors import UserError

logger = logging.getLogger("train")


class RunLog:
    """The run folder's records; on ranks other than 0 (`folder` None) every call does nothing.

    first_step: the step that the run starts or resumes at; records of later steps, left by a
    run that was killed after its last checkpoint, are dropped, so that every step stands once.
    """

    def __init__(self, folder: str | None, first_step: int, last_step: int) -> None:
        self._bar: tqdm[Any] | None = None
        if folder is None:
            return
        self._metrics_path = os.path.join(folder, "metrics.jsonl")
        _drop_later(self._metrics_path, first_step)
        self._metrics = open(self._metrics_path, "a", encoding="utf-8")  # noqa: SIM115 - close() closes it
        self._board = SummaryWriter(folder, purge_step=first_step + 1)
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

    def show(self, step: int, **shown: str) -> None:
        """Values beside the progress bar, or in a line of the log where there is no terminal."""
        if self._bar is None:
            return
        if not self._bar.disable:
            self._bar.set_postfix(shown)
        else:
            values = ", ".join(f"{name} {value}" for name, value in shown.items())
            logger.info("step %d of %d: %s", step, self._bar.total, values)

    def record(self, step: int, group: str, values: dict[str, Any]) -> None:
        """A line of metrics.jsonl, and its numbers under `group`/ in TensorBoard."""
        if self._bar is None:
            return
        line = {"step": step, "group": group, **values, "time": round(time.time(), 3)}
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        if self._bar is None:
            return
        self._bar.close()
        self._redirect.__exit__(None, None, None)
        self._metrics.close()
        self._board.close()
        self._bar = None


def _drop_later(path: str, step: int) -> None:
    """Keep the lines of metrics.jsonl up to `step`; a last line cut short by a kill goes too."""
    if not os.path.exists(path):
        return
    kept = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
    storage.publish_bytes(path, "".join(kept).encode())


def start_logging(folder: str | None) -> None:
    """Log to stderr and to log.txt in `folder`; with None (ranks other than 0) only errors, to stderr."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None:
        try:
            os.makedirs(folder, exist_ok=True)
            handlers.append(logging.FileHandler(os.path.join(folder, "log.txt"), encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"run.folder {folder} cannot be written ({error.strerror}): free it or give another"
            ) from None
    logging.basicConfig(
        level=logging.INFO if folder is not None else logging.ERROR,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        handlers=handlers,
        force=True,
    )
