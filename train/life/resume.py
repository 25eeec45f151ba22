"""Whether a checkpoint may go on under the configuration and the manifest given, and going on from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch

from eval.checkpoint.file import CheckpointError, check_fields, like, load_weights
from shard_tools.errors import UserError
from shard_tools.records import at_least
from shard_tools.text import redacted
from train.config.sections import Config, DataConfig
from train.model import SpeakerModel

# What makes step n mean the same batch, and the weights fit. Everything else may change when a run goes on.
FIXED = (
    "run.seed",
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
)
# Where things lie and how they are shown says nothing about what is learnt.
_UNIMPORTANT = (
    "run.folder",
    "data.url",
    "data.workers",
    "data.prefetch",
    "data.ahead_mib",
    "data.cache.",
    "data.storage.",
    "checkpoint.",
    "train.log_every",
)


@dataclass(frozen=True)
class _Anchor:
    epoch: Annotated[int, at_least(0)]
    window: Annotated[int, at_least(0)]
    step: Annotated[int, at_least(0)]


@dataclass(frozen=True)
class _Optimizer:
    state: dict[int, dict[str, torch.Tensor]]  # by the parameter's number
    param_groups: list[dict[str, Any]]


@dataclass(frozen=True)
class _Resumed:
    """What a checkpoint must have besides, so that training can go on from it.

    metrics: the error rates, where a checkpoint of before they were put beside it has them.
    """

    config: dict[str, Any]
    manifest_digest: str
    loss: dict[str, torch.Tensor]
    optimizer: _Optimizer
    anchor: _Anchor | None = None
    metrics: dict[str, Any] | None = None


def check_whole(checkpoint: dict[str, Any], url: str) -> None:
    """Raise CheckpointError, naming the field, unless training can go on from all that is there."""
    check_fields(checkpoint, _Resumed, url)
    try:
        _flat(_redacted(checkpoint["config"]))
    except RecursionError:
        raise CheckpointError(f"{url}: field config: nested too deeply; use another checkpoint") from None


def kept_config(config: Config) -> dict[str, Any]:
    """The configuration as a checkpoint keeps it: complete, without the credentials in its URLs."""
    kept: dict[str, Any] = _redacted(asdict(config))
    return kept


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_redacted(each) for each in value)
    return redacted(value) if isinstance(value, str) else value


def restore(
    checkpoint: dict[str, Any], url: str, model: SpeakerModel, optimizer: torch.optim.Optimizer
) -> None:
    """Put the checkpoint's weights and moments where they belong. Raises CheckpointError unless all fit."""
    load_weights(model.network, checkpoint["network"], f"{url}: field network")
    load_weights(model.loss, checkpoint["loss"], f"{url}: field loss")
    _load_moments(optimizer, checkpoint["optimizer"]["state"], checkpoint["step"], f"{url}: field optimizer")


def _load_moments(
    optimizer: torch.optim.Optimizer, state: dict[int, dict[str, torch.Tensor]], step: int, name: str
) -> None:
    """The moments of Adam; the hyperparameters stay those of the run's configuration."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = set(range(len(parameters))) if step else set()  # before the first step there are none
    if set(state) != numbers:
        raise CheckpointError(f"{name}: it has moments of {len(state)} parameters, not of {len(numbers)}")
    for number, moments in state.items():
        expected = {
            "step": torch.tensor(float(step)),
            "exp_avg": parameters[number],
            "exp_avg_sq": parameters[number],
        }
        if moments.keys() != expected.keys():
            raise CheckpointError(f"{name}: parameter {number} has {sorted(moments)}, not {sorted(expected)}")
        for key, tensor in moments.items():
            if not like(tensor, expected[key]):
                raise CheckpointError(f"{name}: {key} of parameter {number} does not fit the parameter")
            if bool(tensor.isnan().any()):
                raise CheckpointError(f"{name}: {key} of parameter {number} holds NaN")
        if float(moments["step"]) != step:
            raise CheckpointError(
                f"{name}: parameter {number} was moved {float(moments['step']):g} times, not {step} times"
            )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def check_resumable(checkpoint: dict[str, Any], url: str, config: Config, digest: str) -> None:
    """Raise UserError when the checkpoint belongs to another stream of batches or another network."""
    if checkpoint["manifest_digest"] != digest:
        raise UserError(
            f"{url} was trained on the manifest {checkpoint['manifest_digest']}, and data.url "
            f"{config.data.url} has {digest}: give the shards it was trained on, or another run.folder"
        )
    # An option younger than the checkpoint had its default: without it the same was done.
    defaults = _flat(asdict(Config(DataConfig(config.data.url))))
    old, new = defaults | _flat(_redacted(checkpoint["config"])), _flat(kept_config(config))
    for key in FIXED:
        before, now = _of(old, key), _of(new, key)
        unused = key.startswith("data.windows.") and config.data.order != "windows"
        if before != now and not unused:
            raise UserError(
                f"{key} is {_shown(now)}, and {url} was trained with {_shown(before)}: a run that goes on "
                "cannot change it; set it back, or give another run.folder"
            )


def changes(checkpoint: dict[str, Any], config: Config) -> list[str]:
    """The other options that differ from the checkpoint's, as "key: before → now"."""
    old, new = _flat(_redacted(checkpoint["config"])), _flat(kept_config(config))
    keys = sorted({*old, *new})
    return [
        f"{key}: {old.get(key)} → {new.get(key)}"
        for key in keys
        if old.get(key) != new.get(key) and not key.startswith((*FIXED, *_UNIMPORTANT))
    ]


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}; tuples as lists, as a checkpoint or YAML may have made them."""
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _of(flat: dict[str, Any], key: str) -> Any:
    """The value of an option, or of all the options below it."""
    below = {name: value for name, value in flat.items() if name.startswith(key + ".")}
    return below or flat.get(key)


def _shown(value: Any) -> str:
    return "its defaults" if value is None or value == {} else str(value)
