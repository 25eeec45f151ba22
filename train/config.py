"""Filling a run's configuration from YAML, then from the command line, and refusing what no run can use."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.places import expand
from shard_tools.version import add_version
from shard_tools.yaml_file import check_yaml_file
from train.augment.draw import ADDITIVE, KINDS, SOURCES
from train.augment.speed import check_speeds
from train.check import check_for_ranks
from train.sections import AugmentConfig, Config

_EXAMPLES = """examples:
  torchrun --standalone --nproc-per-node 2 -m train --config configs/demo.yaml
  torchrun --standalone --nproc-per-node 8 -m train --config configs/resnetse34l_aam.yaml \\
      --data.url s3://bucket/voxceleb2 --run.folder runs/first --model.options.pooling asp
  python -m train --config configs/demo.yaml --print_config   # what would run, every default filled in
"""

_PLACES = (
    "run.folder", "data.url", "data.cache.folder", "validation.trials", "validation.data", "checkpoint.url",
    *(f"augment.{source}.url" for source in SOURCES),
)  # fmt: skip


def parser() -> ArgumentParser:
    made = ArgumentParser(
        prog="train",
        usage="torchrun --standalone --nproc-per-node N -m train --config FILE [--section.key VALUE ...]",
        description="Train a speaker-embedding network on shards. Start the same command again to resume.",
        epilog=_EXAMPLES,
        formatter_class=_formatter(),
    )
    made.add_argument(
        "--config", action="config", help="A YAML file; options on the command line win over it."
    )
    made.add_argument(
        "--check",
        type=int,
        metavar="N",
        help="Check whether N processes could start this run, say nothing if so, and train nothing.",
    )
    add_version(made)
    made.add_class_arguments(Config, None)
    return made


def _formatter() -> type:
    from jsonargparse import DefaultHelpFormatter

    class KeepExamples(DefaultHelpFormatter):
        """Keeps the line breaks of the examples, which argparse would fill."""

        def _fill_text(self, text: str, width: int, indent: str) -> str:
            return text if text is _EXAMPLES else super()._fill_text(text, width, indent)

    return KeepExamples


def parse(arguments: Sequence[str] | None = None) -> tuple[Config, str]:
    """The run's configuration, and the same as complete YAML text.

    An unknown key or a value of the wrong type ends the program with a message that names it
    (exit status 2, as argparse does). With --check and --print_config it ends the program too, by
    status 0. Raises UserError for values that no run can use.
    """
    made = parser()
    typed = sys.argv[1:] if arguments is None else list(arguments)
    # Not left to jsonargparse, which prints before what is below has been said: it would not be what runs.
    printing = "--print_config" in typed
    typed = [word for word in typed if word != "--print_config"]
    for file in _configs(typed):
        check_yaml_file(file)
    parsed = made.parse_args(typed)
    del parsed["config"]
    ranks = parsed.pop("check")
    _let_the_command_line_win(parsed, typed)
    _expand_places(parsed)
    values = made.instantiate(parsed)
    config = Config(**{name: values[name] for name in Config.__dataclass_fields__})
    check(config)
    config.data.order = _order(config)
    if ranks is not None:
        check_for_ranks(config, ranks)
        raise SystemExit(0)
    text = _dump(made, parsed)
    if printing:
        print(text, end="")
        raise SystemExit(0)
    return config, text


def _configs(typed: Sequence[str]) -> list[str]:
    """The files that --config names, in either way of writing it."""
    following = [file for option, file in itertools.pairwise(typed) if option == "--config"]
    return following + [word.partition("=")[2] for word in typed if word.startswith("--config=")]


def _let_the_command_line_win(parsed: Namespace, arguments: Sequence[str]) -> None:
    """A length that is typed replaces the recipe's length in the other unit; two typed ones are refused."""
    typed = {
        unit for unit in ("steps", "epochs") if any(a.split("=")[0] == f"--train.{unit}" for a in arguments)
    }
    if len(typed) == 1 and parsed[f"train.{next(iter(typed))}"] is not None:
        parsed["train.epochs" if "steps" in typed else "train.steps"] = None


def _expand_places(parsed: Namespace) -> None:
    for key in _PLACES:
        place = parsed.get(key)
        if place is None:
            continue
        if not place.strip():
            raise UserError(f"{key} is empty; give it a path or a URL, or leave it out")
        try:
            parsed[key] = expand(place)
        except UserError as error:
            raise UserError(f"{key} is {error}") from error


def _dump(made: ArgumentParser, parsed: Namespace) -> str:
    text: str = made.dump(parsed, skip_unset=False)
    return text


def _order(config: Config) -> Literal["epoch", "windows"]:
    if config.data.order == "auto":
        return "windows" if config.data.access == "cached" else "epoch"
    return config.data.order


def check(config: Config) -> None:
    """Raise UserError naming the first key whose value no run can use."""
    at_least = {
        "data.crop_frames": (config.data.crop_frames, 1),
        "data.workers": (config.data.workers, 0),
        "data.prefetch": (config.data.prefetch, 1),
        "data.max_substituted": (config.data.max_substituted, 0),
        "data.ahead_mib": (config.data.ahead_mib, 0),
        "data.windows.lanes": (config.data.windows.lanes, 1),
        "data.windows.shards": (config.data.windows.shards, 1),
        "data.storage.attempts": (config.data.storage.attempts, 1),
        "data.storage.connections": (config.data.storage.connections, 1),
        "batch.speakers": (config.batch.speakers, 1),
        "batch.utterances_per_speaker": (config.batch.utterances_per_speaker, 1),
        "augment.cache_mib": (config.augment.cache_mib, 0),
        "schedule.every": (config.schedule.every, 1),
        "train.log_every": (config.train.log_every, 1),
        "validation.every": (config.validation.every, 1),
        "validation.crops": (config.validation.crops, 0),
        "validation.crop_frames": (config.validation.crop_frames, 1),
        "checkpoint.every": (config.checkpoint.every, 1),
        "checkpoint.keep": (config.checkpoint.keep, 1),
        "train.steps": (config.train.steps, 0),
        "train.epochs": (config.train.epochs, 0),
        "batch.max_utterances_per_speaker": (config.batch.max_utterances_per_speaker, 1),
    }
    for key, (value, lowest) in at_least.items():
        if value is not None and value < lowest:
            raise UserError(f"{key} is {value}; it must be at least {lowest}")
    if storage.local_path(config.run.folder) != config.run.folder:
        raise UserError(
            f"run.folder is {config.run.folder}; it must be a path of a file system, for the run's log and "
            f"lock: only its checkpoints can lie elsewhere (checkpoint.url {config.run.folder}/checkpoints)"
        )
    if not 0 <= config.run.seed < 2**32:
        raise UserError(f"run.seed is {config.run.seed}; it must be from 0 to {2**32 - 1}")
    if config.data.access == "cached" and config.data.cache.folder is None:
        raise UserError("data.access is cached: give data.cache.folder a folder on the node's own disk")
    if config.data.verify == "shards" and config.data.access != "cached":
        raise UserError(
            "data.verify is shards, which needs data.access cached: crops that are read where the shards lie "
            "are verified by data.verify crops"
        )
    if config.batch.leftover == "rollover" and _order(config) == "windows":
        auto = ", which means windows for data.access cached" if config.data.order == "auto" else ""
        raise UserError(
            f"batch.leftover is rollover, and data.order is {config.data.order}{auto}: windows hold other "
            "shards together each epoch, so that what one leaves out cannot come first in the next; set "
            "batch.leftover drop, or data.order epoch"
        )
    for key in ("first_wait", "connect_timeout", "read_timeout"):
        if getattr(config.data.storage, key) <= 0:
            raise UserError(f"data.storage.{key} is {getattr(config.data.storage, key)}; it must be above 0")
    if config.optim.weight_decay < 0:
        raise UserError(f"optim.weight_decay is {config.optim.weight_decay}; it must not be negative")
    if config.data.workers > 256:
        raise UserError(f"data.workers is {config.data.workers}; it must be at most 256")
    if config.validation.crops > 1000:
        raise UserError(f"validation.crops is {config.validation.crops}; it must be at most 1000")
    if config.optim.lr <= 0:
        raise UserError(f"optim.lr is {config.optim.lr}; it must be above 0")
    if (config.train.steps is None) == (config.train.epochs is None):
        raise UserError(
            f"train.steps is {config.train.steps} and train.epochs is {config.train.epochs}: give exactly one"
        )
    if (config.validation.trials is None) != (config.validation.data is None):
        missing = "data" if config.validation.data is None else "trials"
        raise UserError(f"validation needs both trials and data: validation.{missing} is not set")
    _check_augment(config.augment)


def _check_augment(augment: AugmentConfig) -> None:
    for kind in KINDS:
        section = getattr(augment, kind)
        if section.weight < 0:
            raise UserError(f"augment.{kind}.weight is {section.weight}; it must not be negative")
        low, high = getattr(section, "snr", (0.0, 0.0))
        if low > high:
            raise UserError(f"augment.{kind}.snr is [{low}, {high}]; the lower bound comes first")
    low, high = augment.babble.clips
    if not 1 <= low <= high:
        raise UserError(
            f"augment.babble.clips is [{low}, {high}]; it must be two counts from 1 up, lower first"
        )
    given = {source for source in SOURCES if getattr(augment, source).url is not None}
    if augment.chained.weight > 0 and ("reverberation" not in given or not given & set(ADDITIVE)):
        raise UserError(
            f"augment.chained.weight is {augment.chained.weight}, which needs augment.reverberation.url and "
            "the url of music, babble or noise"
        )
    if not any(getattr(augment, kind).weight > 0 for kind in ("none", "chained", *given)):
        raise UserError(
            "augment leaves nothing to choose: give augment.none.weight or the weight of a section "
            "that has a url a value above 0"
        )
    check_speeds(augment.speed)
