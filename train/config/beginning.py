"""Whether a run can begin with the checkpoint that init.from names: it must hold the same network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from eval.checkpoint.average import newest
from eval.checkpoint.file import read_checkpoint
from eval.checkpoint.find import find_checkpoint
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import redacted
from shard_tools.yaml_file import check_yaml_file
from train.config.components import completed
from train.config.kept import plain
from train.config.renamed import modern
from train.config.sections import Config

# Options of networks that decide how they are trained, not what they compute: a stage may have others.
_OF_TRAINING = ("mask_bands", "mask_frames", "encoder", "trained")


def check_beginning(config: Config) -> None:
    """Raise UserError where the run could not begin with what init.from names: for before a run starts.

    The configuration of a run whose checkpoints are yet to come may stand for them.
    """
    assert config.init.from_ is not None
    if config.init.from_.endswith(".yaml"):
        check_yaml_file(config.init.from_)
        known = yaml.safe_load(storage.read_bytes(config.init.from_))
        check_network({"config": known}, config.init.from_, config)
        return
    if config.init.average is None:
        url = find_checkpoint(config.init.from_, None, lambda _: None).url
    else:
        url = newest(config.init.from_, config.init.average)[-1]
    check_network(read_checkpoint(url), url, config)


def check_network(checkpoint: Mapping[str, Any], url: str, config: Config) -> None:
    """Raise UserError naming the first thing in which the checkpoint's network is not the run's."""
    model = plain(completed(modern(checkpoint["config"])))["model"]
    ours, theirs = config.model, model.get("options") or {}
    if model.get("name") != ours.name:
        raise UserError(
            f"model.name is {ours.name}, and init.from {redacted(url)} holds a {model.get('name')}: give a "
            f"checkpoint of {ours.name}, or set model.name {model.get('name')}"
        )
    for name, value in ours.options.items():
        if name not in _OF_TRAINING and theirs.get(name) != value:
            raise UserError(
                f"model.options.{name} is {value}, and init.from {redacted(url)} was trained with "
                f"{theirs.get(name)}: set it so, or give another checkpoint"
            )
