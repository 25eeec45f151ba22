"""A file that somebody else's program has written, to a checkpoint of ours."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch

from eval.checkpoint.file import FORMAT, VERSION
from models.convert.convert import convert_weights
from models.convert.formats import find_tensors
from models.convert.redim_config import redim_network, redim_options
from models.options import ModelError
from models.registry import network_options
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import counted, redacted

_SHOWN = 4


def convert_file(url: str, network: str, options: Mapping[str, Any], out: str) -> list[str]:
    """Write to `out` the weights in `url` as a checkpoint of `network`; returns what to say of it.

    The checkpoint has step 0 and all options of the network, so that a later default does not change it.
    Raises ModelError for a file or weights that do not fit, StorageError, and UserError.
    """
    data = storage.read_bytes(url)
    found = find_tensors(_loaded(data))
    options = dict(options)
    if found.config is not None and network.startswith("redimnet"):
        if redim_network(found.config) != network:
            raise ModelError(f"its model_config is {redim_network(found.config)}'s: give that as --network")
        options = redim_options(found.config) | options
    complete = network_options(network, options)
    converted = convert_weights(found, network, complete)
    checkpoint = {
        "format": FORMAT,
        "version": VERSION,
        "step": 0,
        "config": {"model": {"name": network, "options": complete}},
        "network": converted.weights,
        "converted_from": {"file": redacted(url), "sha256": hashlib.sha256(data).hexdigest()},
    }
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    storage.publish_bytes(out, buffer.getvalue())
    numbers = sum(tensor.numel() for tensor in converted.weights.values())
    lines = [f"{out}: {network}, {counted(len(converted.weights), 'tensor')}, {numbers / 1e6:.2f} M numbers"]
    if converted.left_out:
        some = ", ".join(converted.left_out[:_SHOWN])
        rest = ", …" if len(converted.left_out) > _SHOWN else ""
        lines.append(f"left out, of no use to embeddings: {len(converted.left_out)} ({some}{rest})")
    return lines


def _loaded(data: bytes) -> Any:
    """What torch.save has written; nothing in it is executed."""
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise ModelError(_not_torch(data, error)) from None
        raise UserError(
            "the file holds objects besides tensors and plain values, which could run any program: it is not"
            " read; load it where you trust it, and save its state_dict alone"
        ) from None
    except Exception as error:  # whatever a damaged pickle may lead to
        raise ModelError(_not_torch(data, error)) from None


def _not_torch(data: bytes, error: Exception) -> str:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"not a file of torch.save, or a damaged one: {len(data)} bytes ({said[:120]})"
