"""A file that somebody else's program has written, to a checkpoint of ours."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch
import yaml

from eval.checkpoint.file import FORMAT, VERSION
from models.convert.convert import convert_weights
from models.convert.formats import find_tensors
from models.convert.redim_config import redim_network, redim_options
from models.convert.sizes import sized_options
from models.options import ModelError
from models.registry import network_options
from shard_tools import storage
from shard_tools.text import counted, redacted

_SHOWN = 4
_OF_3D_SPEAKER = ("campplus", "ecapa_speechbrain", "resnet")
"""Networks that 3D-Speaker trains with other features, under the same names of tensors."""

_OBJECT = re.compile(r"(?:GLOBAL|class|function) ([\w.]+)")
"""The name of what was not read, in torch's message."""


def convert_file(url: str, network: str, options: Mapping[str, Any], out: str) -> list[str]:
    """Write to `out` the weights in `url` as a checkpoint of `network`; returns what to say of it.

    The checkpoint has step 0 and all options of the network, so that a later default does not change it.
    Raises ModelError for a file or weights that do not fit, StorageError, and UserError.
    """
    data = storage.read_bytes(url)
    content = _loaded(data, url)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise ModelError("it is a checkpoint of this project already: eval takes it as it is")
    found = find_tensors(content)
    given, options = set(options), dict(options)
    if found.config is not None and network.startswith("redimnet"):
        if redim_network(found.config) != network:
            raise ModelError(f"its model_config is {redim_network(found.config)}'s: give that as --network")
        options = redim_options(found.config) | options
    if network == "redimnet2" and found.config is None and "pool_maps" not in options:
        _check_order(found.tensors)
    complete = network_options(network, sized_options(found, network, options))
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
    usual = network_options(network, {})
    unusual = {name: value for name, value in complete.items() if value != usual[name]}
    if unusual:
        lines.append(f"options: {yaml.safe_dump(unusual, default_flow_style=True, width=10**6).strip()}")
    if network in _OF_3D_SPEAKER and "features" not in given:
        lines.append(
            f"features: {complete['features']}'s, which the file does not say; for a network of 3D-Speaker's"
            " give --options '{features: 3d-speaker}'"
        )
    if converted.left_out:
        some = ", ".join(converted.left_out[:_SHOWN])
        rest = ", …" if len(converted.left_out) > _SHOWN else ""
        lines.append(f"left out, of no use to embeddings: {len(converted.left_out)} ({some}{rest})")
    return lines


def _check_order(names: Collection[str]) -> None:
    """Raise ModelError where no tensor says in which order a ReDimNet2 pools."""
    said = any(name.startswith(("backbone.mfa.", "backbone.head.")) for name in names)
    its_own = any(name.startswith("backbone.") for name in names)  # of other files more is said later
    if its_own and not said:
        raise ModelError(
            "the file does not say in which order it pools: give --options '{pool_maps: false, …}' for"
            " wespeaker's ReDimNet2B4, or true"
        )


def _loaded(data: bytes, url: str) -> Any:
    """What torch.save or safetensors has written; nothing in it is executed."""
    if url.endswith(".onnx"):
        raise ModelError("an ONNX model, which is no checkpoint: give the file that it was exported from")
    if _is_safetensors(data):
        return _safetensors(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused below
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        said = str(error)
        if "Unsupported operand" in said or ("weights_only" not in said and "Unsupported" not in said):
            raise ModelError(_not_torch(data, error)) from None
        what = _OBJECT.search(said)
        raise ModelError(
            f"the file holds objects{f' ({what[1]})' if what else ''} besides tensors and plain values, which"
            " could run any program: it is not read; load it where you trust it, and save its state_dict"
        ) from None
    except Exception as error:  # whatever a damaged pickle may lead to
        if "TorchScript" in str(error):
            raise ModelError("a TorchScript archive: give the checkpoint that it was exported from") from None
        raise ModelError(_not_torch(data, error)) from None


def _is_safetensors(data: bytes) -> bool:
    """Whether a header in JSON follows its own length, 8 bytes."""
    length = int.from_bytes(data[:8], "little")
    return data[8:9] == b"{" and length <= len(data) - 8


def _safetensors(data: bytes) -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise ModelError("a file of safetensors, which is not installed: pip install safetensors") from None
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # the library's own kinds
        raise ModelError(f"a damaged file of safetensors ({str(error)[:120]})") from None


def _not_torch(data: bytes, error: Exception) -> str:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    # Of what is no pickle torch says at length how else it could be loaded.
    why = "" if "weights_only" in said else f" ({said[:120]})"
    return f"not a file of torch.save, or a damaged one: {len(data)} bytes{why}"
