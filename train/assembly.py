"""Putting a run together from its configuration, and taking it up where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from eval.checkpoint.file import read_checkpoint
from models.options import weights_follow
from models.registry import ModelError, build_network
from shard_tools import storage
from shard_tools.errors import UserError
from train.algorithms import choose_algorithms
from train.augment.augmenter import describe
from train.config.crops import check_crops
from train.config.lengths import check_lengths
from train.config.pieces import check_pieces
from train.config.sections import Config
from train.data.assemble import (
    build_plan,
    build_stream,
    configure_storage,
    open_training_data,
    tell_of_slow_client,
)
from train.data.excluded import digest_of
from train.describe import describe_run
from train.learner import Learner
from train.life.checkpoint import CheckpointFolder
from train.life.distributed import Process, from_lead
from train.life.initial import Data, begin_with, choose
from train.life.resume import changes, check_resumable, check_whole
from train.losses import build_loss
from train.objectives import Supervised
from train.optim import build_schedule
from train.plan import Anchor, BatchPlan
from train.restore import restore
from train.trainer import Trainer
from train.validation import open_validation

logger = logging.getLogger("train")


def assemble(config: Config, process: Process) -> tuple[Trainer, int, int]:
    """The trainer, and the steps [first, last) that it is to run."""
    choose_algorithms(config.train)
    configure_storage(config.data)
    data = open_training_data(config)
    catalogue = data.table
    checkpoints = CheckpointFolder(config.checkpoint_url(), config.checkpoint.keep)
    check_pieces(config, process.world)
    if config.train.precision == "fp16" and process.device.type == "cpu":
        raise UserError("train.precision is fp16, and there is no GPU here: take bf16 or fp32")
    with weights_follow() if checkpoints.steps() or config.init.from_ else nullcontext():
        objective = _build_objective(config, data.speakers).to(process.device)
    rows = config.batch.speakers * config.batch.utterances_per_speaker // process.world
    learner = Learner(objective, rows, process, config.train, config.optim)
    schedule = build_schedule(config.schedule.name, config.schedule.options)

    def take(checkpoint: dict[str, Any], url: str) -> None:
        """Raises CheckpointError when it is damaged, UserError when it is another run's."""
        check_whole(checkpoint, url)
        check_resumable(checkpoint, url, config, catalogue.digest, digest_of(data.excluded))
        restore(checkpoint, url, learner)

    found = _newest_checkpoint(process, checkpoints, take)
    checkpoint, validated = found if found else (None, True)
    if checkpoint is None and config.init.from_:
        beginning = from_lead(choose(config) if process.leads else None)
        assert beginning is not None
        begin_with(beginning, config, objective, Data(catalogue.digest, data.speakers, catalogue.grown_from))
        if learner.averaged is not None:
            learner.averaged.begin()
    first = checkpoint["step"] if checkpoint else 0
    known = checkpoint and checkpoint.get("anchor")
    plan = build_plan(data, config, Anchor.of(known) if known else None)
    plan.check_world(process.world)
    stream = build_stream(config, data, plan, process.rank, process.world, process.on_node)
    augmenter = stream.augmenter
    validation = open_validation(config.validation)
    last = _last_step(config, plan)
    if config.train.steps:
        each = plan.steps_per_epoch
        check_lengths(config, last / each, f" ({last} steps, {each} an epoch)")
    describe_run(config, process, data, plan, objective, last)
    tell_of_slow_client(config)
    logger.info("augmentation: %s", describe(augmenter.recipe) if augmenter else "none")
    if checkpoint is not None:
        logger.info("resuming from %s at step %d", checkpoints.url_of(first), first)
        if config.init.from_:
            logger.info("init.from is passed over: the run has begun")
        for change in changes(checkpoint, config):
            logger.info("changed since then: %s", change)
    if first > last:
        raise UserError(
            f"{checkpoints.url} is at step {first}, beyond the {last} that train.steps or "
            "train.epochs asks for: raise it, or give another run.folder"
        )
    digests = {"manifest_digest": catalogue.digest, "excluded_digest": digest_of(data.excluded)}
    trainer = Trainer(config, process, stream, learner, schedule, checkpoints, validation, digests)
    if checkpoint is not None:
        trainer.resumes(first, validated)
    return trainer, first, last


def _build_objective(config: Config, speakers: int) -> Supervised:
    torch.manual_seed(config.run.seed)  # the weights
    try:
        network = build_network(config.model.name, config.model.options)
    except ModelError as error:
        raise UserError(f"model: {error}") from None
    try:
        check_crops(network, config)
    except ModelError as error:
        raise UserError(str(error)) from None
    size: int = network.embedding_size  # type: ignore[assignment]
    try:
        loss = build_loss(
            config.loss.name,
            config.loss.options,
            embedding_size=size,
            speakers=speakers,
            utterances_per_speaker=config.batch.utterances_per_speaker,
            sharded=config.loss.sharded,
        )
    except ModelError as error:
        raise UserError(f"loss: {error}") from None
    return Supervised(network, loss, config.train.precision)


def _last_step(config: Config, plan: BatchPlan) -> int:
    if config.train.steps is not None:
        return config.train.steps
    assert config.train.epochs is not None
    return config.train.epochs * plan.steps_per_epoch


def _newest_checkpoint(
    process: Process, checkpoints: CheckpointFolder, take: Callable[[dict[str, Any], str], None]
) -> tuple[dict[str, Any], bool] | None:
    """The newest whole checkpoint, chosen by rank 0 for all and taken by `take`; None when there is none.

    With it, whether its validation came to its end.
    """
    found: dict[str, Any] | None = None
    choice: str | None = None
    if process.leads:
        for name in checkpoints.remove_drafts():
            logger.info("removed what a killed process left: %s", storage.join(checkpoints.url, name))
        found = checkpoints.newest_whole(lambda text: logger.warning("%s", text), take)
        if found is not None:
            rated = bool(found.get("metrics")) or checkpoints.rates(found["step"]) is not None
            choice = f"{found['step']} {rated}"
    choice = from_lead(choice)
    if choice is None:
        return None
    step, rated_too = choice.split()
    if found is None:
        url = checkpoints.url_of(int(step))
        found = read_checkpoint(url)
        take(found, url)
    return found, rated_too == str(True)
