"""The mean of a run's newest checkpoints: often better than each of them, as their weights' noise cancels.

Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018;
wespeaker and others average the last ten epochs before they fine-tune or evaluate.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from eval.checkpoint.file import (
    FORMAT,
    VERSION,
    CheckpointError,
    checkpoint_name,
    first_not_finite,
    read_checkpoint,
    steps_among,
)
from eval.checkpoint.find import folder_of_checkpoints
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import counted

_PARTS = ("network", "loss")
_DATA = ("speakers", "manifest_digest")
Tensors = dict[str, torch.Tensor]


def newest(url: str, count: int) -> list[str]:
    """The URLs of the `count` newest checkpoints of the run or folder `url`, oldest first.

    The one of step 0 holds no training, and a best one that outlived those around it is not among the newest.
    Raises UserError where there are fewer.
    """
    folder = folder_of_checkpoints(url)
    steps = [step for step in steps_among(storage.list_names(folder)) if step > 0]
    keep = _kept(storage.join(folder, checkpoint_name(steps[-1]))) if steps else None
    there = steps[-keep:] if keep else steps
    if len(there) < count:
        kept = "" if keep is None else f" (it is {keep} there)"
        raise UserError(
            f"{folder}: holds {counted(len(there), 'checkpoint')} in a row, and {count} are to be averaged: "
            f"ask for fewer, or train with checkpoint.keep {count} or more{kept}"
        )
    return [storage.join(folder, checkpoint_name(step)) for step in there[-count:]]


def of_steps(url: str, steps: Iterable[int]) -> list[str]:
    """The URLs of the checkpoints of these steps. Raises UserError for one that is not there."""
    folder = folder_of_checkpoints(url)
    there = steps_among(storage.list_names(folder))
    wanted = sorted(set(steps))
    for step in wanted:
        if step not in there:
            raise UserError(
                f"{folder}: holds no checkpoint of step {step}, but of {', '.join(map(str, there)) or 'none'}"
            )
    return [storage.join(folder, checkpoint_name(step)) for step in wanted]


def average(urls: list[str], say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """A checkpoint whose weights are the mean of those at `urls`, for eval and init.from.

    Floating tensors are summed in float64, one file after the other; counts are the last one's, and so is all
    else but the optimiser's state, which no mean has. Raises CheckpointError for files that do not
    fit together, or whose weights are not finite.
    """
    sums: dict[str, Tensors] = {}
    for url in urls:
        checkpoint = read_checkpoint(url)
        weights = {part: checkpoint.get(part) or {} for part in _PARTS}
        for part, tensors in weights.items():
            _check(tensors, sums.get(part), f"{url}: field {part}")
        sums = {part: _added(sums.get(part), tensors) for part, tensors in weights.items()}
        say(f"read {url}")
    means = {part: _means(sums[part], weights[part], len(urls)) for part in _PARTS if part in checkpoint}
    kept: dict[str, Any] = {key: checkpoint[key] for key in _DATA if key in checkpoint}
    return {
        "format": FORMAT,
        "version": VERSION,
        "step": checkpoint["step"],
        "config": checkpoint["config"],
        **kept,
        **means,
        "averaged": [url.rpartition("/")[2] for url in urls],
    }


def write_average(urls: list[str], out: str, say: Callable[[str], None] = lambda _: None) -> None:
    """Write the mean of the checkpoints at `urls` to `out`, a path or URL. Raises UserError."""
    if steps_among([out.rpartition("/")[2]]):
        raise UserError(
            f"{out}: a run would take a file of this name for one to resume from, and a mean has no "
            "optimiser: give another name, as average.pt"
        )
    buffer = io.BytesIO()
    torch.save(average(urls, say), buffer)
    storage.publish_bytes(out, buffer.getvalue())


def _kept(url: str) -> int | None:
    """How many checkpoints the run that wrote this one keeps in a row; None where it does not say."""
    section = read_checkpoint(url)["config"].get("checkpoint")
    keep = section.get("keep") if isinstance(section, dict) else None
    return keep if isinstance(keep, int) and keep > 0 else None


def _check(tensors: Any, before: Mapping[str, torch.Tensor] | None, name: str) -> None:
    whole = isinstance(tensors, dict) and all(isinstance(each, torch.Tensor) for each in tensors.values())
    if not whole:
        raise CheckpointError(f"{name}: no tensors by their names; use other checkpoints")
    for key in {} if before is None else {**before, **tensors}:
        assert before is not None
        if key not in tensors or key not in before or tensors[key].shape != before[key].shape:
            raise CheckpointError(f"{name}: {key!r} is not as in the checkpoint before: of another run?")
    diverged = first_not_finite(tensors)
    if diverged is not None:
        raise CheckpointError(f"{name}: the weights hold NaN or infinity, first in {diverged!r}")


def _added(sums: Tensors | None, tensors: Tensors) -> Tensors:
    """The sums with one checkpoint's tensors, in float64; other than floating ones as they are."""
    if sums is None:
        return {key: each.double() if each.is_floating_point() else each for key, each in tensors.items()}
    for key, each in tensors.items():
        sums[key] = sums[key].add_(each) if each.is_floating_point() else each
    return sums


def _means(sums: Tensors, last: Tensors, count: int) -> Tensors:
    return {
        key: (total / count).to(last[key].dtype) if total.is_floating_point() else total
        for key, total in sums.items()
    }
