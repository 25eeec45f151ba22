"""Writing checkpoints while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from shard_tools.threads import joined
from train.life.checkpoint import CheckpointFolder


class Saver:
    """Writes checkpoints one at a time, in a thread.

    background: whether what is written may change meanwhile, so that a copy of it is made. written: told, by
    the thread that calls the methods below, the step of each checkpoint that is whole.
    """

    def __init__(self, folder: CheckpointFolder, background: bool, written: Callable[[int], None]) -> None:
        self._folder = folder
        self._background = background
        self._written = written
        self._thread: threading.Thread | None = None
        self._step = 0
        self._error: BaseException | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint of `state["step"]`, after the one before it. Raises what either raises.

        With `background`, `state` may change as soon as this returns; else not before it is written.
        """
        self.wait()
        self._step = state["step"]
        if self._background:
            state = tree_map_only(torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state)
        # A daemon: a second Ctrl-C ends the process, whatever the store is doing.
        self._thread = threading.Thread(target=self._write, args=[state], name="checkpoint", daemon=True)
        self._thread.start()

    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def _write(self, state: dict[str, Any]) -> None:
        try:
            self._folder.save(state)
        except BaseException as error:
            self._error = error

    def poll(self) -> None:
        """Between steps: tell of a checkpoint that has been written meanwhile, or raise why it was not."""
        if not self.busy():
            self.wait()

    def wait(self) -> None:
        """Until what is being written is whole. Raises why it is not."""
        if self._thread is None:
            return
        joined(self._thread)
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._written(self._step)
