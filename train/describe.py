"""What a run is made of, as its log says at the start."""

from __future__ import annotations

import logging

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from shard_tools.text import counted
from train.config.sections import Config
from train.data.sets import TrainingData
from train.life.distributed import Process
from train.objectives import Objective
from train.plan import BatchPlan, JoinedPlan

logger = logging.getLogger("train")


def describe_run(
    config: Config,
    process: Process,
    data: TrainingData,
    plan: BatchPlan,
    objective: Objective,
    last: int,
) -> None:
    """One line or a few for each of them. `last`: the run's last step."""
    plans = plan.plans if isinstance(plan, JoinedPlan) else [plan]
    for table, own in zip(data.tables, plans, strict=True):
        logger.info(
            "%s: %d utterances of %d speakers, %.1f hours, in %d shards; manifest %s",
            table.url, len(table), len(table.speakers), table.hours, len(table.shard_urls), table.digest[:12],
        )  # fmt: skip
        share, whole = own.spec.speakers, plan.spec.speakers
        words = f"{share} of a batch's {whole} speakers ({100 * share / whole:.1f} %); "
        logger.info("%s%s", words if len(plans) > 1 else "", _use(config, own))
    if len(data.excluded):
        logger.info("%s", _excluded(config, data))
    if len(plans) > 1:
        logger.info("%d speakers over all %d datasets", len(data.table.speakers), len(plans))
    if plan.spec.varying:
        logger.info(
            "crops of %d to %d feature frames, one length a step",
            config.data.shortest_crop(), config.data.longest_crop(),
        )  # fmt: skip
    parameters = sum(parameter.numel() for parameter in objective.network.parameters())
    logger.info(
        "%s, %d parameters, %s loss; %d processes on %s, %s; %d steps",
        config.model.name, parameters, config.loss.name, process.world, process.device.type,
        config.train.precision, last,
    )  # fmt: skip
    for classes in set(objective.sharded().values()):
        logger.info(
            "the head of %d speakers is shared by %d processes: %d on this one",
            classes.total, classes.world, classes.count,
        )  # fmt: skip
    dropouts = _dropouts(objective.network)
    if dropouts and (config.train.norm_rows is not None or config.train.sync_norm):
        logger.info(
            "%s has dropout, first in %s, which draws anew on every rank: another number of processes learns "
            "the same but for that", config.model.name, dropouts[0],
        )  # fmt: skip


def _excluded(config: Config, data: TrainingData) -> str:
    lists = config.data.exclude
    files = lists if isinstance(lists, str) else ", ".join(each for each in lists or () if each)
    said = f"data.exclude {files} leaves out {len(data.excluded)} of {len(data.table)} utterances"
    empty = [name for names in data.emptied for name in names]
    if not empty:
        return said
    few = ", ".join(empty[:10]) + ", …" * (len(empty) > 10)
    return f"{said}, all those of {counted(len(empty), 'speaker')}, whose labels stay unused: {few}"


def _dropouts(network: nn.Module) -> list[str]:
    """The layers whose draws differ from rank to rank."""
    layers = network.named_modules()
    return [name for name, layer in layers if isinstance(layer, _DropoutNd) and layer.p > 0]


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
