"""Which checkpoint is meant by a run folder, a folder of checkpoints or a file, and its run's own trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import yaml

from eval.checkpoint.file import CheckpointError, checkpoint_name, read_best, steps_among
from shard_tools import storage
from shard_tools.errors import UserError

CONFIG = "config.yaml"
_HIDDEN = "***"  # what shard_tools.text.redacted puts in the place of credentials
Which = Literal["best", "newest"]


@dataclass(frozen=True)
class Found:
    """url: of the checkpoint file; run: the run folder where one was given."""

    url: str
    run: str | None = None


def find_checkpoint(url: str, which: Which | None, say: Callable[[str], None]) -> Found:
    """The checkpoint that `url` means: a file, or one of a run folder or a folder of checkpoints.

    which: of a folder's; None means the best, unless the url says it: RUN/best, RUN/newest. Where no best
    one is noted, the best is the newest, as is then said by `say`. Raises UserError where there is none,
    and StorageError.
    """
    names = _names(url)
    folder, _, last = url.rstrip("/").rpartition("/")
    said = which is None and folder and last in get_args(Which)
    if said and not names and not _is_there(url) and (above := _names(folder)) is not None:
        url, which, names = folder, cast(Which, last), above
    if names is None:
        if which is not None:
            raise UserError(f"--which {which} chooses among the checkpoints of a folder, but {url} is a file")
        return Found(url)
    if CONFIG in names:
        return Found(_choose(checkpoint_folder(url), which or "best", say), url)
    return Found(_choose(url, which or "best", say))


def folder_of_checkpoints(url: str) -> str:
    """The folder of checkpoints that `url` is, or that of the run in the folder `url`. Raises UserError."""
    names = _names(url)
    if names is None:
        raise UserError(f"{url}: is no folder: give the folder of a run, or one of checkpoints")
    return checkpoint_folder(url) if CONFIG in names else url


def checkpoint_folder(run: str) -> str:
    """Where the run in the folder `run` keeps its checkpoints. Raises UserError for a broken config.yaml."""
    url = storage.join(run, CONFIG)
    try:
        config = yaml.safe_load(storage.read_bytes(url))
        elsewhere = config["checkpoint"]["url"]
        if not isinstance(elsewhere, (str, type(None))):
            raise TypeError
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        raise UserError(
            f"{url}: not the configuration of a training run (no checkpoint.url): give a checkpoint file"
        ) from None
    if elsewhere and _HIDDEN in elsewhere:
        raise UserError(
            f"{url}: its checkpoint.url, {elsewhere}, was kept without its credentials: give the URL of the "
            "folder of checkpoints in place of the run"
        )
    return elsewhere or storage.join(run, "checkpoints")


def validation_of(config: Mapping[str, Any], key: Literal["trials", "data"], name: str) -> str:
    """validation.trials or validation.data of a checkpoint's configuration; UserError, naming the option."""
    value = (config.get("validation") or {}).get(key)
    if value is None:
        raise UserError(f"{name}: its run had no validation.{key}: give --{key}")
    if _HIDDEN in str(value):
        raise UserError(
            f"{name}: its run's validation.{key}, {value}, was kept without credentials: give --{key}"
        )
    return str(value)


def default_out(found: Found, step: int) -> str:
    """Where the results of the checkpoint of `step` go, in its run's folder; UserError without one."""
    if found.run is None:
        raise UserError(f"{found.url}: give --out, or the run's folder in place of the checkpoint")
    return storage.join(found.run, "eval", f"step-{step:08d}")


def _names(url: str) -> list[str] | None:
    """The names in the folder `url`; None for a file, and for what looks like one."""
    path = storage.local_path(url)
    if path is not None:
        return storage.list_names(url) if storage.kind(path) == "folder" else None
    # S3 knows no folders: what holds nothing is taken for a file, which is then missing.
    return None if url.endswith(".pt") else storage.list_names(url) or None


def _is_there(url: str) -> bool:
    path = storage.local_path(url)
    return path is not None and storage.kind(path) is not None


def _choose(folder: str, which: Which, say: Callable[[str], None]) -> str:
    steps = steps_among(storage.list_names(folder))
    if not steps:
        raise UserError(f"{folder}: holds no checkpoint (step-XXXXXXXX.pt): has the training begun?")
    best = read_best(folder) if which == "best" else None
    if best is not None and best.step not in steps:
        raise CheckpointError(
            f"{folder}: the best checkpoint, {checkpoint_name(best.step)}, is not there: give --which newest"
        )
    step = steps[-1] if best is None else best.step
    if which == "best" and best is None:
        say(f"{folder}: no checkpoint is noted as the best: taking the newest, {checkpoint_name(step)}")
    return storage.join(folder, checkpoint_name(step))
