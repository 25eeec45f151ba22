"""Checkpoints that training has written: their names in a folder, reading one, and building its network."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import torch
from torch import nn

from models.options import weights_follow
from models.registry import ModelError, build_network
from shard_tools import records, storage
from shard_tools.errors import UserError
from shard_tools.records import RecordError, at_least

FORMAT = "voxshard-checkpoint"
VERSION = 1
BEST = "best.json"
_NAME = re.compile(r"step-(\d{8,})\.pt")
_RATES_NAME = re.compile(r"step-(\d{8,})\.json")
_REMEDY = "it was not written whole, or was changed since; use another checkpoint"

Kind = TypeVar("Kind")


class CheckpointError(UserError):
    """The file was read, and is not a whole checkpoint of ours or does not fit its network."""


@dataclass(frozen=True)
class Best:
    """The checkpoint with the lowest validation EER so far."""

    step: Annotated[int, at_least(0)]
    eer: float  # percent


@dataclass(frozen=True)
class Rates:
    """What the validation of a checkpoint found, kept beside it as step-XXXXXXXX.json."""

    step: Annotated[int, at_least(0)]
    eer: float  # percent
    min_dcf: dict[str, float]  # by p_target
    trial_list: str
    eer_threshold: float | None = None  # the score at which the EER is; None in files from before it was kept


@dataclass(frozen=True)
class _Model:
    name: str
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Validation:
    trials: str | None = None
    data: str | None = None
    crops: Annotated[int, at_least(0)] = 0
    crop_frames: Annotated[int, at_least(1)] = 400


@dataclass(frozen=True)
class _Config:
    model: _Model
    validation: _Validation | None = None


@dataclass(frozen=True)
class _Evaluated:
    """What every checkpoint must have, so that it can be evaluated."""

    step: Annotated[int, at_least(0)]
    config: _Config
    network: dict[str, torch.Tensor]


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def rates_name(step: int) -> str:
    return f"step-{step:08d}.json"


def steps_among(names: Iterable[str]) -> list[int]:
    """The steps of which there is a checkpoint among the names of files, oldest first."""
    return _numbers(_NAME, names)


def rated_among(names: Iterable[str]) -> list[int]:
    """The steps of which there are error rates among the names of files, oldest first."""
    return _numbers(_RATES_NAME, names)


def _numbers(pattern: re.Pattern[str], names: Iterable[str]) -> list[int]:
    found = (pattern.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def read_best(folder: str) -> Best | None:
    """What best.json in a folder of checkpoints says; None without it. Raises CheckpointError."""
    return _read_note(
        storage.join(folder, BEST),
        Best,
        "delete it, and the newest checkpoint counts as the best until the next validation",
    )


def read_rates(folder: str, step: int) -> Rates | None:
    """What the validation of a checkpoint found; None where there was none. Raises CheckpointError."""
    return _read_note(storage.join(folder, rates_name(step)), Rates, "delete it, to validate anew")


def _read_note(url: str, kind: type[Kind], remedy: str) -> Kind | None:
    if not storage.exists(url):
        return None
    try:
        return records.decode(storage.read_bytes(url), kind, url, remedy)
    except RecordError as error:
        raise CheckpointError(str(error)) from None


def read_checkpoint(url: str) -> dict[str, Any]:
    """The checkpoint's dictionary, its tensors on the CPU; nothing in the file is executed.

    It has at least step, config (with model) and network, of their types. Raises StorageError for a
    file that cannot be had, CheckpointError for one that is cut short, damaged, not a
    checkpoint of ours, or of another version, and for fields that are missing or of another type.
    """
    return decode_checkpoint(storage.read_bytes(url), url)


def decode_checkpoint(data: bytes, url: str) -> dict[str, Any]:
    """The checkpoint in a file's bytes, as read_checkpoint gives it; url: for messages."""
    _check_archive(data, url)
    try:
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{url}: not a voxshard checkpoint (it holds more than tensors and plain values)"
        ) from None
    except Exception as error:  # whatever a damaged pickle may lead to
        raise CheckpointError(
            f"{url}: not a voxshard checkpoint, or a damaged one ({_in_a_line(error)}); use another"
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
    check_fields(checkpoint, _Evaluated, url)
    return checkpoint


def _check_archive(data: bytes, url: str) -> None:
    """Raise CheckpointError unless `data` is a whole archive as torch.save writes it, uncompressed."""
    if not data.startswith(b"PK"):
        raise CheckpointError(
            f"{url}: not a voxshard checkpoint ({len(data)} bytes that torch.save did not write)"
        )
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise CheckpointError(
                f"{url}: the checkpoint is cut short ({len(data)} bytes, its end is missing); "
                "copy it again, or use the one before it"
            )
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > len(data):
                raise CheckpointError(
                    f"{url}: not a voxshard checkpoint (an archive that torch.save did not write)"
                )
            damaged = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:  # a damaged directory of an archive leads zipfile anywhere
        raise CheckpointError(
            f"{url}: the checkpoint is damaged ({_in_a_line(error)}); copy it again, or use the one before it"
        ) from None
    if damaged is not None:
        raise CheckpointError(
            f"{url}: the checkpoint is damaged (the CRC of {damaged} is wrong); copy it again"
        )


def _in_a_line(error: Exception) -> str:
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0][:120]}" if said else type(error).__name__


def check_fields(checkpoint: dict[str, Any], kind: type[Any], url: str) -> None:
    """Raise CheckpointError, naming the field, unless the checkpoint has those of the dataclass `kind`."""
    try:
        records.convert(checkpoint, kind, url, _REMEDY)
    except RecordError as error:
        raise CheckpointError(str(error)) from None


def load_network(
    checkpoint: dict[str, Any], device: torch.device | str, *, name: str = "the checkpoint"
) -> nn.Module:
    """The checkpoint's network with its weights, on `device`, in evaluation mode.

    Raises CheckpointError, beginning with `name`, for a model that the registry cannot build
    and for weights that do not fit it.
    """
    try:
        model = checkpoint["config"]["model"]
        with weights_follow():
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


def load_weights(module: nn.Module, weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Copy `weights` into `module`. Raises CheckpointError, beginning with `name`, unless all of them fit.

    They must also be finite. The error names the first difference, where torch would print a line
    for every tensor.
    """
    expected = module.state_dict()
    different = [key for key in expected if key not in weights or not like(weights[key], expected[key])]
    extra = [key for key in weights if key not in expected]
    if different or extra:
        first = (different or extra)[0]
        wanted = _kind(expected[first]) if first in expected else "absent"
        found = _kind(weights[first]) if first in weights else "absent"
        raise CheckpointError(
            f"{name}: the weights do not fit: {len(different) + len(extra)} tensors differ, first {first!r} "
            f"(code: {wanted}, checkpoint: {found}); was the code changed since?"
        )
    diverged = first_not_finite(weights)
    if diverged is not None:
        raise CheckpointError(
            f"{name}: the weights hold NaN or infinity, first in {diverged!r}: the training had diverged, or "
            "the file was changed; use another checkpoint"
        )
    module.load_state_dict(weights)


def like(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether `found` is a plain tensor on the CPU with the type and shape of `expected`."""
    plain = found.layout == torch.strided and found.device.type == "cpu" and not found.is_nested
    return plain and found.dtype == expected.dtype and found.shape == expected.shape


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)


def _kind(tensor: torch.Tensor) -> str:
    form = "" if tensor.layout == torch.strided else f" {tensor.layout}"
    shape = "nested" if tensor.is_nested else str(list(tensor.shape))
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}{form}"
