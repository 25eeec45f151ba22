"""Losses by name: one line here and one file beside this one make a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.options import ModelError, check_name, complete_options, describe_options
from train.losses.aamsoftmax import AAMSoftmax
from train.losses.aamsoftmax_subcentre import SubcentreAAMSoftmax
from train.losses.amsoftmax import AMSoftmax
from train.losses.angleproto import AngularPrototypical
from train.losses.base import LossOutput, SpeakerLoss
from train.losses.classes import own_classes
from train.losses.ge2e import GE2E
from train.losses.head import HeadLoss
from train.losses.prototypical import Prototypical
from train.losses.softmax import Softmax
from train.losses.softmaxproto import SoftmaxPrototypical
from train.losses.sphereface2 import SphereFace2
from train.losses.triplet import Triplet

__all__ = [
    "LossOutput",
    "SpeakerLoss",
    "build_loss",
    "check_shardable",
    "describe_losses",
    "loss_names",
    "loss_options",
]

_LOSSES: dict[str, type[SpeakerLoss]] = {
    "aamsoftmax": AAMSoftmax,
    "aamsoftmax_subcentre": SubcentreAAMSoftmax,
    "amsoftmax": AMSoftmax,
    "angleproto": AngularPrototypical,
    "ge2e": GE2E,
    "prototypical": Prototypical,
    "softmax": Softmax,
    "softmaxproto": SoftmaxPrototypical,
    "sphereface2": SphereFace2,
    "triplet": Triplet,
}


def loss_names() -> list[str]:
    """The names that `build_loss` knows, sorted."""
    return sorted(_LOSSES)


def loss_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the loss `name`: those given, checked, and the defaults of the others.

    Raises ModelError for an unknown name or option, a wrong type, or a value that is not allowed.
    """
    check_name("loss", name, _LOSSES)
    return complete_options(f'loss "{name}"', _LOSSES[name], options)


def describe_losses() -> dict[str, list[str]]:
    """Name → a line for each option."""
    return {name: describe_options(_LOSSES[name]) for name in loss_names()}


def check_shardable(name: str) -> None:
    """Raise ModelError unless the loss `name` has a classification head that processes can share."""
    if not issubclass(_LOSSES[name], HeadLoss):
        able = ", ".join(one for one in loss_names() if issubclass(_LOSSES[one], HeadLoss))
        raise ModelError(
            f'loss.sharded is true, and loss "{name}" has no head that processes can share: set it false, or '
            f"take one of {able}"
        )


def build_loss(
    name: str,
    options: Mapping[str, Any],
    *,
    embedding_size: int,
    speakers: int,
    utterances_per_speaker: int,
    sharded: bool = False,
) -> SpeakerLoss:
    """A freshly initialised loss: forward(embeddings (B, D), labels (B,) int64) → LossOutput.

    options: the keyword-only arguments of the loss's class; what is left out
    takes its default. embedding_size: D. speakers: number of labels.
    utterances_per_speaker: K; the rows of a batch come as K consecutive rows of
    each speaker. sharded: each process of the group has the head of its own share of the
    speakers, see HeadLoss. Raises ModelError for an unknown name or option, a wrong type, a
    value that is not allowed, a K with which the loss has no meaning, or a loss that cannot be sharded.
    """
    checked = loss_options(name, options)
    if sharded:
        check_shardable(name)
        checked["classes"] = own_classes(speakers)
    return _LOSSES[name](embedding_size, speakers, utterances_per_speaker, **checked)
