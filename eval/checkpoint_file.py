"""Checkpoints that training has written: their names in a folder, reading one, and building its network."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.registry import ModelError, build_network
from shard_tools import storage
from shard_tools.errors import UserError

FORMAT = "voxshard-checkpoint"
VERSION = 1
BEST = "best.json"
_NAME = re.compile(r"step-(\d{8,})\.pt")


class CheckpointError(UserError):
    """The file was read, and is not a whole checkpoint of ours or does not fit its network."""


@dataclass(frozen=True)
class Best:
    """The checkpoint with the lowest validation EER so far."""

    step: int
    eer: float  # percent


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def steps_among(names: Iterable[str]) -> list[int]:
    """The steps of which there is a checkpoint among the names of files, oldest first."""
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def read_best(folder: str) -> Best | None:
    """What best.json in a folder of checkpoints says; None without it. Raises CheckpointError."""
    url = storage.join(folder, BEST)
    if not storage.exists(url):
        return None
    try:
        record = json.loads(storage.read_bytes(url))
        return Best(int(record["step"]), float(record["eer"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{url}: not the note of a best checkpoint ({error}): delete it to start afresh"
        ) from None


def read_checkpoint(url: str) -> dict[str, Any]:
    """The checkpoint's dictionary, its tensors on the CPU; nothing in the file is executed.

    Raises StorageError for a file that cannot be had, CheckpointError for one that is cut
    short, damaged, not a checkpoint of ours, or of another version.
    """
    data = storage.read_bytes(url)
    if not data.startswith(b"PK"):
        raise CheckpointError(
            f"{url}: not a voxshard checkpoint ({len(data)} bytes that torch.save did not write)"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError):
        raise CheckpointError(
            f"{url}: the checkpoint is cut short ({len(data)} bytes, its end is missing); "
            "copy it again, or use the one before it"
        ) from None
    if damaged is not None:
        raise CheckpointError(
            f"{url}: the checkpoint is damaged (the CRC of {damaged} is wrong); copy it again"
        )
    try:
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError):
        raise CheckpointError(
            f"{url}: not a voxshard checkpoint (it holds more than tensors and plain values)"
        ) from None
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        found = (
            f"format {checkpoint.get('format')!r}"
            if isinstance(checkpoint, dict)
            else type(checkpoint).__name__
        )
        raise CheckpointError(f"{url}: not a voxshard checkpoint (found {found}, expected format {FORMAT!r})")
    if checkpoint.get("version") != VERSION:
        raise CheckpointError(
            f"{url}: a checkpoint of version {checkpoint.get('version')!r}; "
            f"this program reads version {VERSION}: use the release that wrote it"
        )
    return checkpoint


def load_network(
    checkpoint: dict[str, Any], device: torch.device | str, *, name: str = "the checkpoint"
) -> nn.Module:
    """The checkpoint's network with its weights, on `device`, in evaluation mode.

    Raises CheckpointError, beginning with `name`, for a model that the registry cannot build
    and for weights that do not fit it.
    """
    try:
        model = checkpoint["config"]["model"]
        network = build_network(model["name"], model.get("options") or {})
        weights = checkpoint["network"]
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{name}: lacks the model's name, options or weights; it was not written whole"
        ) from None
    except ModelError as error:
        raise CheckpointError(f"{name}: its model cannot be built: {error}") from None
    load_weights(network, weights, f"{name}: network {model['name']!r}")
    return network.to(device).eval()


def load_weights(module: nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    """Copy `weights` into `module`. Raises CheckpointError, beginning with `name`, unless all of them fit.

    The error names the first difference, where torch would print a line for every tensor.
    """
    expected = module.state_dict()
    different = [key for key in expected if key not in weights or expected[key].shape != weights[key].shape]
    extra = [key for key in weights if key not in expected]
    if not different and not extra:
        module.load_state_dict(weights)
        return
    first = (different or extra)[0]
    wanted = list(expected[first].shape) if first in expected else "absent"
    found = list(weights[first].shape) if first in weights else "absent"
    raise CheckpointError(
        f"{name}: the weights do not fit: {len(different) + len(extra)} tensors differ, first {first!r} "
        f"(code: {wanted}, checkpoint: {found}); was the code changed since?"
    )
