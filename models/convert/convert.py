"""Weights of an original, fitted to a network of ours, or refused with what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from models.convert.formats import Found
from models.convert.names import RULES, renamed, unused
from models.options import ModelError
from models.registry import build_network

_SHOWN = 3
_COUNTER = ".num_batches_tracked"
"""What batch normalisation counts in training, and no embedding depends on."""


@dataclass(frozen=True)
class Converted:
    """The state_dict of a network of ours, and the names in the file that it did not need."""

    weights: dict[str, torch.Tensor]
    left_out: list[str]


def convert_weights(found: Found, network: str, options: Mapping[str, Any]) -> Converted:
    """The weights of `network`, built with `options`, from the tensors of its original.

    float16 and bfloat16 become float32. Counters of batches may be missing, or fractions, as an average of
    several checkpoints has them. Raises ModelError when tensors of the network are missing, of another
    shape or not finite, or when some are left over; the message shows the first of them and
    says which network fits best.
    """
    if network not in RULES:
        raise ModelError(f"network {network!r} has no original; there are: {', '.join(sorted(RULES))}")
    expected = build_network(network, options).state_dict()
    tensors, left_out = _fitted(found, network, expected)
    counters = {name: torch.zeros_like(like) for name, like in expected.items() if name.endswith(_COUNTER)}
    tensors = counters | tensors
    wrong = [_difference(name, tensors.get(name), like) for name, like in expected.items()]
    wrong += [
        f"{name} {_shape(value)} is in the file alone"
        for name, value in tensors.items()
        if name not in expected
    ]
    wrong = [difference for difference in wrong if difference]
    if wrong:
        raise ModelError(
            f"{'1 tensor does' if len(wrong) == 1 else f'{len(wrong)} tensors do'} not fit:"
            f" {'; '.join(wrong[:_SHOWN])}{_advice(found, network)}"
        )
    weights = {name: tensors[name].to(like.dtype).clone() for name, like in expected.items()}
    bad = next((name for name, value in weights.items() if not bool(torch.isfinite(value).all())), None)
    if bad is not None:
        raise ModelError(f"the weights hold NaN or infinity, first in {bad!r}; use another file")
    return Converted(weights, left_out)


def best_fit(found: Found) -> tuple[str, int]:
    """The network here whose original has the most of these names, and how many it has of 100."""

    def share(network: str) -> float:
        names = build_network(network, {}).state_dict()
        tensors, _ = _fitted(found, network, names)
        return len(tensors.keys() & names.keys()) / max(1, len(tensors.keys() | names.keys()))

    shares = {network: share(network) for network in RULES}
    best = max(shares, key=lambda network: shares[network])
    return best, round(100 * shares[best])


def _fitted(
    found: Found, network: str, expected: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The file's tensors by our names, and those that are not used."""
    tensors, left_out = {}, list(found.left_out)
    for name, value in found.tensors.items():
        ours = renamed(name, network, found.tensors.keys())
        if unused(name, network) or _never_called(ours, network, expected):
            left_out.append(name)
        else:
            tensors[ours] = value
    return tensors, left_out


def _never_called(name: str, network: str, expected: Mapping[str, torch.Tensor]) -> bool:
    """RawNet3's original makes a last normalisation in any case, and calls it by option."""
    return network == "rawnet3" and name.startswith("bn_embedding.") and name not in expected


def _difference(name: str, value: torch.Tensor | None, like: torch.Tensor) -> str:
    if value is None:
        return f"{name} {_shape(like)} is not in the file"
    if value.shape != like.shape:
        return f"{name} is {_shape(value)} in the file and {_shape(like)} in the network"
    if value.is_floating_point() != like.is_floating_point() and not name.endswith(_COUNTER):
        return f"{name} is {value.dtype} in the file"
    return ""


def _shape(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))


def _advice(found: Found, network: str) -> str:
    best, share = best_fit(found)
    if share < 50:
        nearest = f": {best} comes nearest, with {share} % of them" if share else ""
        return f". No network here has such names{nearest}"
    if best == network and share < 100:
        return (
            f". {share} % of the names are {network}'s: it is a relative that is not here, or look at the"
            f" options (python -m models list {network})"
        )
    if best == network:
        return f". The names are {network}'s: look at its options (python -m models list {network})"
    return f". {best} would fit best: {share} % of the names are its own"
