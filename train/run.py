"""Running what a configuration describes, to its end or to where it is stopped."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext, suppress
from typing import Literal

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.heaps import keep_freed_memory
from shard_tools.run_records import LOCK, STATE
from train.assembly import assemble
from train.config.kept import as_yaml
from train.config.sections import Config
from train.dry import dry_run
from train.life.distributed import Process, process_group
from train.life.lock import hold
from train.life.log import METRICS, RunLog, folder_is_gone, folder_was_made, start_logging
from train.life.signals import flag
from train.life.state import write_state
from train.life.tracker import Tracker

logger = logging.getLogger("train")

_CONFIG = "config.yaml"


def run(config: Config) -> bool:
    """Train as `config` says, from the newest whole checkpoint of its folder if there is one.

    Returns whether the last step was reached; a signal stops a run before, with a checkpoint of where it
    stopped. With train.dry nothing is kept, see train.dry. Raises UserError.
    """
    if config.train.dry:
        dry_run(config)
        return True
    with process_group(config.train.device) as process:
        if process.device.type == "cpu":
            keep_freed_memory()  # of a step's maps
        folder = config.run.folder if process.leads else None
        start_logging(folder)
        with hold(folder) if folder else nullcontext():
            return _run(config, process, folder)


def _run(config: Config, process: Process, folder: str | None) -> bool:
    """folder: of the run, on the rank that writes; None on the others."""
    if folder:
        _remove_drafts(folder)
    trainer, first, last = assemble(config, process)
    folder_was_made()

    def note(state: Literal["running", "stopped", "done", "failed"]) -> None:
        if folder and not folder_is_gone(folder):
            saved = trainer.saved_step or 0
            write_state(folder, state, saved_step=saved, last_step=last, world=process.world)

    if folder:
        storage.publish_bytes(os.path.join(folder, _CONFIG), as_yaml(config).encode())
        trainer.checkpoints.forget_after(first)
    tracker = Tracker(config, folder) if folder and config.train.wandb != "none" else None
    note("running")
    log = RunLog(folder, first, last, validated=trainer.validated, tracker=tracker)
    trainer.saving = log.require_folder
    trainer.saved = lambda: note("running")
    flag.listen_to_interrupts()
    try:
        if first == 0:
            # At once, so that a folder that cannot be written is known now and not in an hour.
            trainer.save(0)
        done = trainer.run(first, last, log)
        trainer.close()
    except BaseException as error:
        with suppress(Exception):  # the failure itself says more
            trainer.close()
        with suppress(UserError):
            note("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    finally:
        log.close()
    if done < last:
        note("stopped")
        logger.info(
            "stopped by %s after step %d of %d; started again, the run goes on from there",
            flag.number.name if flag.number else "a signal to another process", done, last,
        )  # fmt: skip
        return False
    note("done")
    logger.info("done: %d steps; checkpoints in %s", last, config.checkpoint_url())
    return True


def _remove_drafts(folder: str) -> None:
    """What an earlier process of this run was killed in the midst of; the lock keeps others away."""
    drafts = storage.remove_drafts(folder, lambda name: name in (_CONFIG, METRICS, STATE, LOCK))
    if drafts:
        logger.info("removed what a killed process left: %s", ", ".join(drafts))
