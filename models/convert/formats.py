"""What a file of somebody else's training holds: the tensors of a network, and sometimes its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.options import ModelError

_NETWORK, _LOSS = "__S__.", "__L__."
_WRAPPED = ("model_state_dict", "state_dict", "model")
_LISTED = 3


@dataclass(frozen=True)
class Found:
    """The tensors of a network, by their original names, and what else the file says."""

    tensors: dict[str, torch.Tensor]
    left_out: list[str] = field(default_factory=list)
    """Tensors of a loss that lay beside the network's."""
    config: dict[str, Any] | None = None
    """The arguments that the original was built with (ReDimNet's files have them)."""


def find_tensors(content: Any) -> Found:
    """The network's tensors in what torch.load has read.

    Known are the VoxCeleb trainer's three forms (names with `__S__.` and `__L__.`; {"model": …};
    {"model_state_dict": …}), plain state_dicts as wespeaker and 3D-Speaker write, also under
    "state_dict", and ReDimNet's {"model_config": …, "state_dict": …}. A "module." that
    DistributedDataParallel has put before names is taken away. Raises ModelError for anything else.
    """
    config = None
    if isinstance(content, Mapping) and isinstance(content.get("model_config"), Mapping):
        config = dict(content["model_config"])
    for key in _WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"it holds {_kind(content)}, where a mapping of names to tensors is looked for")
    strange = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange or not all(isinstance(name, str) for name in content):
        listed = ", ".join(repr(name)[:60] for name in strange[:_LISTED])
        raise ModelError(
            f"it holds more than tensors ({listed}); looked for: a state_dict, or one under"
            f" {' or '.join(map(repr, _WRAPPED))}"
        )
    tensors = {_without(name, "module."): value for name, value in content.items()}
    if not any(name.startswith(_NETWORK) for name in tensors):
        return Found(tensors, config=config)
    left_out = [name for name in tensors if not name.startswith(_NETWORK)]
    strangers = [name for name in left_out if not name.startswith(_LOSS)]
    if strangers:
        raise ModelError(
            f"beside names with {_NETWORK} and {_LOSS} there are others: {', '.join(strangers[:_LISTED])}"
        )
    network = {_without(name, _NETWORK): value for name, value in tensors.items() if name not in left_out}
    return Found(network, left_out, config)


def _without(name: str, prefix: str) -> str:
    return name[len(prefix) :] if name.startswith(prefix) else name


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return "an empty mapping"
    return f"an object of type {type(content).__name__}"
