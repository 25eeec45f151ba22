"""What can be known of a run before it starts: for `python -m train --check N`, at submission."""

from __future__ import annotations

from pathlib import Path

from shard_tools.errors import UserError
from train.plan.base import check_lanes, check_shared
from train.sections import Config


def check_for_ranks(config: Config, ranks: int) -> None:
    """Raise UserError, one line, for the first thing that `ranks` processes would fail at.

    config: with data.order settled. Looks at local files only; a URL with a scheme is left to the run.
    """
    if ranks < 1:
        raise UserError(f"--check is {ranks}; it must be at least 1")
    if config.data.order == "windows":
        check_lanes(config.data.windows.lanes, ranks)
    else:
        check_shared(config.batch.speakers, ranks)
    _check_files(config)
    _check_network_and_loss(config)


def _check_files(config: Config) -> None:
    shards = {"data.url": config.data.url}
    for section in ("reverberation", "music", "babble", "noise"):
        shards[f"augment.{section}.url"] = getattr(config.augment, section).url
    for key, place in shards.items():
        if place is not None and _local(place) and not (Path(place) / "manifest.json").is_file():
            raise UserError(f"{key} is {place}, and there is no manifest.json in that folder")
    trials, data = config.validation.trials, config.validation.data
    if trials is not None and _local(trials) and not Path(trials).is_file():
        raise UserError(f"validation.trials is {trials}, and there is no such file")
    if data is not None and _local(data) and not Path(data).is_dir():  # shards, or a folder of audio
        raise UserError(f"validation.data is {data}, and there is no such folder")


def _local(place: str) -> bool:
    return "://" not in place


def _check_network_and_loss(config: Config) -> None:
    from models.options import ModelError
    from models.registry import build_network
    from train.losses import build_loss

    try:
        network = build_network(config.model.name, config.model.options)
        build_loss(
            config.loss.name,
            config.loss.options,
            embedding_size=int(network.embedding_size),  # type: ignore[arg-type]
            speakers=config.batch.speakers,
            utterances_per_speaker=config.batch.utterances_per_speaker,
        )
    except ModelError as error:
        raise UserError(str(error)) from error
