"""The weights that a run begins with when they are another run's (the section `init`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from eval.checkpoint.average import newest, write_average
from eval.checkpoint.file import load_weights, read_checkpoint
from eval.checkpoint.find import find_checkpoint
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import redacted
from train.config.beginning import check_network
from train.config.sections import Config
from train.life.shards import own_rows
from train.objectives import Objective

logger = logging.getLogger("train")

AVERAGE = "init.pt"
"""The mean that a run began with, beside its checkpoints."""


@dataclass(frozen=True)
class Data:
    """Whom a run tells apart. digest: of the manifest; speakers: number of labels, at all speeds together.

    grown_from: digests of what the shards were before lists were added to them, whose speakers come first,
    so many each (at one speed).
    """

    digest: str
    speakers: int
    grown_from: Mapping[str, int] = field(default_factory=dict)


def choose(config: Config) -> str:
    """The URL of the checkpoint that the run is to begin with; a mean is made, and written, first.

    To be asked on one rank: what is the best may change from one moment to the next. Raises UserError.
    """
    assert config.init.from_ is not None
    if config.init.average is None:
        return find_checkpoint(config.init.from_, None, lambda text: logger.info("%s", text)).url
    out = storage.join(config.checkpoint_url(), AVERAGE)
    urls = newest(config.init.from_, config.init.average)
    write_average(urls, out)
    logger.info(
        "init: %s is the mean of %s to %s", redacted(out), redacted(urls[0]), urls[-1].rpartition("/")[2]
    )
    return out


def begin_with(url: str, config: Config, objective: Objective, data: Data) -> None:
    """Put the weights of the checkpoint at `url` into the network, and into the loss as init.head says.

    Raises UserError for another network, and for a head that was to be kept and cannot be.
    """
    checkpoint = read_checkpoint(url)
    check_network(checkpoint, url, config)
    load_weights(objective.network, checkpoint["network"], f"{url}: field network")
    logger.info("init: weights of %s, step %d of its run", redacted(url), checkpoint["step"])
    loss = objective.parts().get("loss")
    if loss is None or not loss.state_dict():
        return
    if config.init.head == "leave":
        logger.info("init: the loss's weights begin anew, as init.head says")
        return
    try:
        weights, known = _head(checkpoint, config, data, _whole_shapes(loss, objective))
    except _NoHeadError as error:
        if config.init.head == "keep":
            raise UserError(
                f"init.head is keep, and {url} {error}: set init.head leave, to begin the loss's weights anew"
            ) from None
        logger.info("init: the loss's weights begin anew, as the checkpoint %s", error)
        return
    kept = own_rows(weights, loss, objective, url)
    if known:
        fresh, own = loss.state_dict(), own_rows(dict(known), loss, objective, url)
        kept |= {
            key: torch.where(own[key].to(fresh[key].device), kept[key].to(fresh[key]), fresh[key])
            for key in own
        }
    load_weights(loss, kept, f"{url}: field loss")
    here, there = _speeds(config.augment.speed), _speeds(_speed_of(checkpoint))
    of = "" if here == there else f", of the speakers at {there} those at {here}"
    if known:
        of += "; those of speakers who were added since begin anew"
    logger.info("init: the loss's weights are kept%s", of)


def _whole_shapes(loss: nn.Module, objective: Objective) -> dict[str, torch.Size]:
    """The shapes of the loss's weights, of all ranks together where each has rows of its own."""
    shapes = {key: tensor.shape for key, tensor in loss.state_dict().items()}
    sharded = objective.sharded()
    for key, parameter in loss.named_parameters():
        if parameter in sharded:
            rows = len(parameter) // sharded[parameter].count * sharded[parameter].total
            shapes[key] = torch.Size([rows, *parameter.shape[1:]])
    return shapes


def _speeds(others: list[float]) -> str:
    return f"speed {', '.join(f'{speed:g}' for speed in (1.0, *others))}"


def _speed_of(checkpoint: Mapping[str, Any]) -> list[float]:
    """augment.speed of the run that wrote the checkpoint."""
    return (checkpoint["config"].get("augment") or {}).get("speed") or []


class _NoHeadError(Exception):
    """Why a checkpoint's head is of no use here, as what one says of the checkpoint."""


def _head(
    checkpoint: Mapping[str, Any], config: Config, data: Data, expected: Mapping[str, torch.Size]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The loss's weights in the checkpoint, those of the run's speakers at the run's speeds alone.

    Where the shards have grown since, with zeros for the rows of new speakers, and for each such weight
    which of it is known: bool, of its shape.
    """
    found = checkpoint.get("loss")
    if not isinstance(found, dict) or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise _NoHeadError("holds no weights of a loss")
    then = checkpoint["config"]
    if config.init.head == "auto":
        name = (then.get("loss") or {}).get("name")
        if name != config.loss.name:
            raise _NoHeadError(f"was trained with the loss {name}, not {config.loss.name}")
        if checkpoint.get("manifest_digest") not in (data.digest, *data.grown_from):
            raise _NoHeadError(
                "was trained on other shards (init.head keep takes speakers of the same order)"
            )
    had = [1.0, *_speed_of(checkpoint)]
    wanted = [1.0, *config.augment.speed]
    for speed in wanted:
        if speed not in had:
            raise _NoHeadError(f"was not trained at augment.speed {speed}")
    numbers = [had.index(speed) for speed in wanted]
    speakers = data.speakers // len(wanted)
    before = data.grown_from.get(str(checkpoint.get("manifest_digest")), speakers)
    weights, known = {}, {}
    for key, tensor in found.items():
        like = expected.get(key)
        of_classes = like and tensor.dim() > 0 and like[0] % data.speakers == 0
        each = like[0] // data.speakers if like and of_classes else 0
        if not of_classes or len(tensor) != each * before * len(had):
            weights[key] = tensor
            continue
        weights[key] = _at_speeds(tensor, len(had), numbers, each * speakers)
        if before < speakers:
            there = torch.ones_like(tensor, dtype=torch.bool)
            known[key] = _at_speeds(there, len(had), numbers, each * speakers)
    for key in {**expected, **weights}:
        if key not in expected or key not in weights or weights[key].shape != expected[key]:
            ours = list(expected[key]) if key in expected else "none"
            theirs = list(found[key].shape) if key in found else "none"
            raise _NoHeadError(f"holds {theirs} for the loss's {key}, and the run needs {ours}")
    return weights, known


def _at_speeds(tensor: torch.Tensor, speeds: int, numbers: list[int], rows: int) -> torch.Tensor:
    """The rows of the speakers at the speeds of these numbers, of which `speeds` lie one after the other.

    Of each speed so many `rows`, the last of them zeros where there are fewer.
    """
    blocks = tensor.reshape(speeds, -1, *tensor.shape[1:])
    grown = tensor.new_zeros(len(numbers), rows, *tensor.shape[1:])
    grown[:, : blocks.shape[1]] = blocks[numbers]
    return grown.reshape(-1, *tensor.shape[1:])
