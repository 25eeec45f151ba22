"""Whether a checkpoint may go on under the configuration and the manifest given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch

from eval.checkpoint.file import CheckpointError, check_fields
from shard_tools.errors import UserError
from shard_tools.records import at_least
from train.config.components import complete, completed
from train.config.kept import kept_config, plain
from train.config.renamed import modern
from train.config.sections import Config, DataConfig

# What makes step n mean the same batch, and the weights fit. Everything else may change when a run goes on.
FIXED = (
    "run.seed",
    "data.weights",
    "data.same_speakers",
    "data.crop_frames",
    "data.order",
    "data.windows.lanes",
    "data.windows.shards",
    "augment.speed",
    "batch.speakers",
    "batch.utterances_per_speaker",
    "batch.max_utterances_per_speaker",
    "batch.leftover",
    "model.name",
    "model.options",
    "loss.name",
    "loss.options",
    "optim.name",
    "optim.options",
    "optim.rates",
    "optim.no_decay",
    "optim.freeze",
)
# Where things lie and how they are shown says nothing about what is learnt.
_UNIMPORTANT = (
    "run.folder",
    "data.url",
    "data.exclude",  # what it leaves out is fixed, wherever the list lies
    "data.workers",
    "data.prefetch",
    "data.ahead_mib",
    "data.cache.",
    "data.storage.",
    "checkpoint.",
    "init.",
    "train.log_every",
    "train.wandb",
)


@dataclass(frozen=True)
class _Anchor:
    epoch: Annotated[int, at_least(0)]
    window: Annotated[int, at_least(0)]
    step: Annotated[int, at_least(0)]
    others: tuple[_Anchor, ...] = ()


@dataclass(frozen=True)
class _Optimizer:
    state: dict[int, dict[str, torch.Tensor]]  # by the parameter's number
    param_groups: list[dict[str, Any]]


@dataclass(frozen=True)
class _Resumed:
    """What a checkpoint must have besides, so that training can go on from it.

    metrics: the error rates, where a checkpoint of before they were put beside it has them;
    excluded_digest: of the utterances that were left out, "" for none.
    """

    config: dict[str, Any]
    manifest_digest: str
    loss: dict[str, torch.Tensor]
    optimizer: _Optimizer
    anchor: _Anchor | None = None
    metrics: dict[str, Any] | None = None
    excluded_digest: str = ""


def check_whole(checkpoint: dict[str, Any], url: str) -> None:
    """Raise CheckpointError, naming the field, unless training can go on from all that is there."""
    check_fields(checkpoint, _Resumed, url)
    try:
        _flat(plain(checkpoint["config"]))
    except RecursionError:
        raise CheckpointError(f"{url}: field config: nested too deeply; use another checkpoint") from None


def check_resumable(
    checkpoint: dict[str, Any], url: str, config: Config, digest: str, excluded_digest: str = ""
) -> None:
    """Raise UserError when the checkpoint belongs to another stream of batches or another network."""
    if checkpoint["manifest_digest"] != digest:
        raise UserError(
            f"{url} was trained on the manifest {checkpoint['manifest_digest']}, and data.url "
            f"{', '.join(config.data.urls)} has {digest} (other shards, or some were appended): "
            "give the shards it was trained on; or begin anew with its weights: another run.folder, and "
            f"init.from {url}"
        )
    if checkpoint.get("excluded_digest", "") != excluded_digest:
        leaves = f"other utterances ({config.data.exclude})" if excluded_digest else "nothing"
        had = checkpoint.get("excluded_digest") and checkpoint["config"]["data"].get("exclude")
        then = f"without those that {had} named then" if had else "on all"
        raise UserError(
            f"data.exclude leaves out {leaves}, and {url} was trained {then}: a run that goes on "
            "cannot change it; set it back, or begin anew with its weights: another run.folder, and "
            f"init.from {url}"
        )
    old, new = _then_and_now(checkpoint, config)
    for key in FIXED:
        unused = key.startswith("data.windows.") and config.data.order != "windows"
        if unused or (key in ("data.weights", "data.same_speakers") and len(config.data.urls) == 1):
            continue
        for name in [name for name in {**old, **new} if name == key or name.startswith(f"{key}.")]:
            before, now = old.get(name), new.get(name)
            if before != now:
                raise UserError(
                    f"{name} is {now}, and {url} was trained with {before}: a run that goes on cannot change "
                    "it; set it back, or give another run.folder"
                )


def changes(checkpoint: dict[str, Any], config: Config) -> list[str]:
    """The other options that differ from the checkpoint's, as "key: before → now"."""
    old, new = _then_and_now(checkpoint, config)
    keys = sorted({*old, *new})
    return [
        f"{key}: {old.get(key)} → {new.get(key)}"
        for key in keys
        if old.get(key) != new.get(key) and not key.startswith((*FIXED, *_UNIMPORTANT))
    ]


def _then_and_now(checkpoint: dict[str, Any], config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoint's options and those of today, by their keys.

    An option younger than the checkpoint had its default: without it the same was done.
    """
    defaults = Config(DataConfig(config.data.url))
    complete(defaults)
    return _flat(_filled(checkpoint["config"], kept_config(defaults))), _flat(kept_config(config))


def _kept_then(config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's configuration with the keys and the components' options of today."""
    then: dict[str, Any] = plain(completed(modern(config)))
    return then


def _filled(config: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's configuration with the defaults of sections' options that it is too old to have.

    The options of a component are complete, or those of one that is not today's.
    """
    then = _kept_then(config)

    def merged(old: Any, new: Any, key: str) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict) or key.endswith((".options", ".rates")):
            return old
        return {
            name: merged(old[name], new.get(name), f"{key}.{name}") if name in old else new[name]
            for name in {**new, **old}
        }

    full: dict[str, Any] = merged(then, defaults, "")
    return full


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}; tuples as lists, as a checkpoint or YAML may have made them."""
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
