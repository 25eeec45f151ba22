"""Putting a run together from its configuration, resuming it where it stopped, and running it."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext, suppress
from typing import Any, Literal

import torch

from eval.checkpoint_file import load_weights, read_checkpoint
from eval.sources import Source, open_source, require_all
from eval.trials import Trials, read_trials
from models.registry import ModelError, build_network
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.shardwise import AnyCatalogue
from train.augment.augmenter import describe
from train.checkpoint import CheckpointFolder
from train.distributed import Process, from_lead, process_group
from train.lock import hold
from train.log import RunLog, start_logging
from train.losses import build_loss
from train.model import SpeakerModel
from train.optim import build_optimizer
from train.plan import Anchor, BatchPlan
from train.resume import changes, check_resumable
from train.sections import Config
from train.signals import flag
from train.sources import build_plan, build_stream, open_training_data
from train.state import write_state
from train.trainer import Trainer

logger = logging.getLogger("train")


def run(config: Config, yaml_text: str) -> bool:
    """Train as `config` says, from the newest whole checkpoint of its folder if there is one.

    yaml_text: the configuration as text, written to config.yaml. Returns whether the last step was
    reached; a signal stops a run before, with a checkpoint of where it stopped. Raises UserError.
    """
    with process_group(config.train.device) as process:
        folder = config.run.folder if process.leads else None
        start_logging(folder)
        with hold(folder) if folder else nullcontext():
            return _run(config, yaml_text, process, folder)


def _run(config: Config, yaml_text: str, process: Process, folder: str | None) -> bool:
    """folder: of the run, on the rank that writes; None on the others."""
    trainer, first, last = _assemble(config, process)

    def note(state: Literal["running", "stopped", "done", "failed"]) -> None:
        if folder:
            saved = trainer.saved_step or 0
            write_state(folder, state, saved_step=saved, last_step=last, world=process.world)

    if folder:
        storage.publish_bytes(os.path.join(folder, "config.yaml"), yaml_text.encode())
    trainer.saved = lambda: note("running")
    note("running")
    log = RunLog(folder, first, last)
    try:
        if first == 0:
            # At once, so that a folder that cannot be written is known now and not in an hour.
            trainer.save(0)
        done = trainer.run(first, last, log)
    except BaseException:
        with suppress(UserError):  # the failure itself says more
            note("failed")
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


def _assemble(config: Config, process: Process) -> tuple[Trainer, int, int]:
    """The trainer, and the steps [first, last) that it is to run."""
    catalogue = open_training_data(config)
    checkpoints = CheckpointFolder(config.checkpoint_url(), config.checkpoint.keep)
    checkpoint = _newest_checkpoint(process, checkpoints)
    first = 0
    if checkpoint is not None:
        first = checkpoint["step"]
        check_resumable(checkpoint, checkpoints.url_of(first), config, catalogue.digest)
    known = checkpoint and checkpoint.get("anchor")
    plan = build_plan(catalogue, config, Anchor(**known) if known else None)
    plan.check_world(process.world)
    stream = build_stream(config, catalogue, plan, process.rank, process.world, process.on_node)
    augmenter = stream.augmenter
    validation = _open_validation(config)
    model = _build_model(config, plan.speakers).to(process.device)
    optimizer = build_optimizer(model.parameters(), config.optim)
    last = _last_step(config, plan)
    _describe(config, process, catalogue, plan, model, last)
    logger.info("augmentation: %s", describe(augmenter.recipe) if augmenter else "none")
    if checkpoint is not None:
        _restore(checkpoint, checkpoints.url_of(first), config, model, optimizer)
    if first > last:
        raise UserError(
            f"{checkpoints.url} is at step {first}, beyond the {last} that train.steps or "
            "train.epochs asks for: raise it, or give another run.folder"
        )
    trainer = Trainer(config, process, stream, model, optimizer, checkpoints, validation, catalogue.digest)
    if checkpoint is not None:
        trainer.saved_step = first or None
        trainer.saved_validated = bool(checkpoint["metrics"])
    return trainer, first, last


def _build_model(config: Config, speakers: int) -> SpeakerModel:
    torch.manual_seed(config.run.seed)  # the weights
    try:
        network = build_network(config.model.name, config.model.options)
    except ModelError as error:
        raise UserError(f"model: {error}") from None
    size: int = network.embedding_size  # type: ignore[assignment]
    try:
        loss = build_loss(
            config.loss.name,
            config.loss.options,
            embedding_size=size,
            speakers=speakers,
            utterances_per_speaker=config.batch.utterances_per_speaker,
        )
    except ModelError as error:
        raise UserError(f"loss: {error}") from None
    return SpeakerModel(network, loss, config.train.precision)


def _open_validation(config: Config) -> tuple[Source, Trials] | None:
    if config.validation.trials is None or config.validation.data is None:
        return None
    trials = read_trials(config.validation.trials)
    source = open_source(config.validation.data)
    require_all(source, trials.names, trials.name)
    return source, trials


def _last_step(config: Config, plan: BatchPlan) -> int:
    if config.train.steps is not None:
        return config.train.steps
    assert config.train.epochs is not None
    return config.train.epochs * plan.steps_per_epoch


def _newest_checkpoint(process: Process, checkpoints: CheckpointFolder) -> dict[str, Any] | None:
    """The newest whole checkpoint, chosen by rank 0 for all; None when there is none."""
    found: dict[str, Any] | None = None
    if process.leads:
        found = checkpoints.newest_whole(lambda text: logger.warning("%s", text))
    chosen = from_lead(None if found is None else str(found["step"]))
    if chosen is None:
        return None
    return read_checkpoint(checkpoints.url_of(int(chosen))) if found is None else found


def _restore(
    checkpoint: dict[str, Any],
    url: str,
    config: Config,
    model: SpeakerModel,
    optimizer: torch.optim.Optimizer,
) -> None:
    load_weights(model.network, checkpoint["network"], url)
    load_weights(model.loss, checkpoint["loss"], url)
    optimizer.load_state_dict(checkpoint["optimizer"])
    logger.info("resuming from %s at step %d", url, checkpoint["step"])
    for change in changes(checkpoint, config):
        logger.info("changed since then: %s", change)


def _describe(
    config: Config, process: Process, catalogue: AnyCatalogue, plan: BatchPlan, model: SpeakerModel, last: int
) -> None:
    logger.info(
        "%s: %d utterances of %d speakers, %.1f hours, in %d shards; manifest %s",
        config.data.url, len(catalogue), len(catalogue.speakers), catalogue.hours, len(catalogue.shard_urls),
        catalogue.digest[:12],
    )  # fmt: skip
    logger.info("%s", _use(config, plan))
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    logger.info(
        "%s, %d parameters, %s loss; %d processes on %s, %s; %d steps",
        config.model.name, parameters, config.loss.name, process.world, process.device.type,
        config.train.precision, last,
    )  # fmt: skip


def _use(config: Config, plan: BatchPlan) -> str:
    """What an epoch, or a window of it, makes of its utterances, and what becomes of the rest."""
    account, spec = plan.account(), plan.spec
    what = "a window of shards" if config.data.order == "windows" else "an epoch"
    left_out = account.over_cap + account.incomplete_group + account.unplaced
    rest = f"each leaves out another {left_out}"
    if spec.leftover == "rollover":
        rest = f"{left_out} wait for the next epoch"
    never = f"; {account.unusable} are of speakers with too few for a group" if account.unusable else ""
    return (
        f"{what}: {account.used // spec.size} steps of {spec.speakers} speakers x "
        f"{spec.utterances_per_speaker} utterances use {account.used} of {account.total}; {rest} "
        f"({account.over_cap} over max_utterances_per_speaker, {account.incomplete_group} too few left for a "
        f"group, {account.unplaced} not fitting a batch){never}"
    )
