"""A run's records at Weights & Biases, besides those in its folder: an extra, `voxshard[wandb]`.

W&B knows a run by an identifier, which the run's folder keeps: a run that goes on is the same one there.
What cannot be taken back there are the records after the last checkpoint of a run that was killed; they
stand twice, under the same steps.
"""

from __future__ import annotations

import os
import secrets
import sys
from typing import Any, Literal

from shard_tools import storage
from shard_tools.errors import UserError
from train.config.kept import kept_config
from train.config.sections import Config

IDENTIFIER = "wandb-id"  # file in the run's folder


class Tracker:
    """One process's part of the run at W&B; its files are in wandb/ of the run's folder.

    Raises UserError where W&B does not take the run.
    """

    def __init__(self, config: Config, folder: str) -> None:
        import wandb  # a second or two, which other runs need not wait for

        mode: Literal["online", "offline"] = "online" if config.train.wandb == "online" else "offline"
        try:
            self._run = wandb.init(
                project=config.train.wandb_project,
                name=os.path.basename(os.path.abspath(folder)),
                id=_identifier(folder),
                resume="allow",
                dir=folder,
                mode=mode,
                config=kept_config(config),
                # The log and its progress bar are ours; a run says at its start what it is made of.
                settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
            )
        except (wandb.Error, OSError) as error:
            why = " ".join(str(error).split())
            raise UserError(
                f"train.wandb is {mode}, and Weights & Biases does not take the run ({why}): log in (wandb "
                "login), or set train.wandb offline or none"
            ) from None
        for group in ("train", "validation"):
            self._run.define_metric(f"{group}/*", step_metric="step")

    def record(self, step: int, group: str, values: dict[str, Any]) -> None:
        """Numbers, under `group`/."""
        self._run.log({"step": step, **{f"{group}/{name}": value for name, value in values.items()}})

    def close(self) -> None:
        """Wait until W&B has all; a run that ends by an error is marked as failed."""
        self._run.finish(exit_code=0 if sys.exc_info()[0] is None else 1)


def _identifier(folder: str) -> str:
    path = os.path.join(folder, IDENTIFIER)
    if storage.exists(path):
        return storage.read_bytes(path).decode().strip()
    made = secrets.token_hex(8)
    storage.publish_bytes(path, made.encode() + b"\n")
    return made
