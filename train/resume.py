"""Whether a checkpoint may go on under the configuration and the manifest given."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shard_tools.errors import UserError
from train.sections import Config, DataConfig

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


def check_resumable(checkpoint: dict[str, Any], url: str, config: Config, digest: str) -> None:
    """Raise UserError when the checkpoint belongs to another stream of batches or another network."""
    if checkpoint["manifest_digest"] != digest:
        raise UserError(
            f"{url} was trained on the manifest {checkpoint['manifest_digest']}, and data.url "
            f"{config.data.url} has {digest}: give the shards it was trained on, or another run.folder"
        )
    # An option younger than the checkpoint had its default: without it the same was done.
    defaults = _flat(asdict(Config(DataConfig(config.data.url))))
    old, new = defaults | _flat(checkpoint["config"]), _flat(asdict(config))
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
    old, new = _flat(checkpoint["config"]), _flat(asdict(config))
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
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _of(flat: dict[str, Any], key: str) -> Any:
    """The value of an option, or of all the options below it."""
    below = {name: value for name, value in flat.items() if name.startswith(key + ".")}
    return below or flat.get(key)


def _shown(value: Any) -> str:
    return "its defaults" if value is None or value == {} else str(value)
