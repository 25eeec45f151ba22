"""What can be known of a run before it starts: for `python -m train --check N`, at submission."""

from __future__ import annotations

from pathlib import Path

from eval.trials import read_trials
from eval.utterances import open_utterances, require_all
from shard_tools import storage
from shard_tools.dataset import manifest
from shard_tools.dataset.joined_speakers import join_speakers
from shard_tools.dataset.key_list import read_keys
from shard_tools.dataset.manifest import Manifest
from shard_tools.errors import UserError
from train.augment.draw import SOURCES
from train.augment.speed import Speeds
from train.config.pieces import check_pieces
from train.config.sections import Config
from train.plan import shares
from train.plan.base import check_enough_shards, check_lanes, check_shared
from train.plan.shares import too_few_speakers


def check_for_ranks(config: Config, ranks: int) -> None:
    """Raise UserError, one line, for the first thing that `ranks` processes would fail at.

    config: with data.order settled. Looks at this machine's files only; what lies on a store is left to
    the run.
    """
    if ranks < 1:
        raise UserError(f"--check is {ranks}; it must be at least 1")
    if config.train.dry:
        raise UserError(
            "train.dry is true, which is for a run started by hand: leave it out of a job's options"
        )
    if config.data.order == "windows":
        check_lanes(config.data.windows.lanes, ranks)
    else:
        check_shared(config.batch.speakers, ranks)
    check_pieces(config, ranks)
    _check_files(config)
    _check_network_and_loss(config)
    _check_init(config)


def _check_files(config: Config) -> None:
    urls = config.data.urls
    keys = [f"data.url[{number}]" for number in range(len(urls))] if len(urls) > 1 else ["data.url"]
    manifests = [_manifest_of(key, url) for key, url in zip(keys, urls, strict=True)]
    _check_exclude(config)
    lanes = config.data.windows.lanes if config.data.order == "windows" else 1
    each = shares(config.batch.speakers, config.data.shares, lanes) if len(urls) > 1 else [None]
    for url, share, data in zip(urls, each, manifests, strict=True):
        if data is not None:
            _check_speakers(config, url, data, share)
    here = [(url, data.speakers) for url, data in zip(urls, manifests, strict=True) if data is not None]
    join_speakers([url for url, _ in here], [names for _, names in here], config.data.same_speakers)
    for kind in SOURCES:
        section = getattr(config.augment, kind)
        found = _manifest_of(f"augment.{kind}.url", section.url)
        if found is not None and section.category is not None and section.category not in found.speakers:
            known = ", ".join(found.speakers[:10]) + (", …" if len(found.speakers) > 10 else "")
            raise UserError(
                f"augment.{kind}.category is {section.category!r}, and {section.url} has {known}: take one "
                "of these, or leave it out to use them all"
            )
    _check_validation(config)


def _check_exclude(config: Config) -> None:
    lists = config.data.exclude
    for url in [lists] if isinstance(lists, str) else lists or []:
        if url is not None and storage.local_path(url) is not None:
            read_keys(url)


def _manifest_of(key: str, url: str | None) -> Manifest | None:
    """The manifest of shards on this machine, which must be there; None of those elsewhere, and of none."""
    folder = None if url is None else storage.local_path(url)
    if url is None or folder is None:
        return None
    if not (Path(folder) / manifest.NAME).is_file():
        raise UserError(f"{key} is {url}, and there is no {manifest.NAME} in that folder")
    place = storage.join(url, manifest.NAME)
    return manifest.from_bytes(storage.read_bytes(place), place)


def _check_speakers(config: Config, url: str, data: Manifest, share: int | None) -> None:
    """That there are as many speakers as a batch asks for; only indexes tell how many utterances each has.

    share: of a batch's speakers, where several datasets share them.
    """
    speeds = len(Speeds.of(config.augment.speed, data.utterances, len(data.speakers)).factors)
    able = len(data.speakers) * speeds
    heard = f" at {speeds} speeds" if speeds > 1 else ""
    if share is not None and share > able:
        raise too_few_speakers(url, share, config.batch.speakers, f"{len(data.speakers)}{heard}")
    if config.batch.speakers > able and share is None:
        raise UserError(
            f"batch.speakers asks for {config.batch.speakers} speakers, and {url} has "
            f"{len(data.speakers)}{heard}: set batch.speakers to at most {able}"
        )
    if config.data.order == "windows":
        check_enough_shards(config.data.windows.lanes, len(data.shards))


def _check_validation(config: Config) -> None:
    """That the trials can be read, and that the data have what they compare."""
    trials, data = config.validation.trials, config.validation.data
    if trials is None or data is None or storage.local_path(trials) is None:
        return
    path = storage.local_path(trials)
    if path is not None and not Path(path).is_file():
        raise UserError(f"validation.trials is {trials}, and there is no such file")
    names = read_trials(trials).names
    folder = storage.local_path(data)
    if folder is None:
        return
    if not Path(folder).is_dir():  # shards, or a folder of audio
        raise UserError(f"validation.data is {data}, and there is no such folder")
    require_all(open_utterances(data), names, trials)


def _check_init(config: Config) -> None:
    """That a run which has not begun yet can begin with what init.from names on this machine."""
    begins = config.init.from_
    if begins is None or storage.local_path(begins) is None:
        return
    from eval.checkpoint.file import steps_among
    from train.config.beginning import check_beginning

    if storage.local_path(config.checkpoint_url()) is None or not steps_among(
        storage.list_names(config.checkpoint_url())
    ):
        check_beginning(config)


def _check_network_and_loss(config: Config) -> None:
    from models.options import ModelError
    from models.registry import build_network
    from train.config.crops import check_crops
    from train.losses import build_loss

    try:
        network = build_network(config.model.name, config.model.options)
        check_crops(network, config)
        build_loss(
            config.loss.name,
            config.loss.options,
            embedding_size=int(network.embedding_size),  # type: ignore[arg-type]
            speakers=config.batch.speakers,
            utterances_per_speaker=config.batch.utterances_per_speaker,
            sharded=config.loss.sharded,
        )
    except ModelError as error:
        raise UserError(str(error)) from error
