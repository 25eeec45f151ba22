"""What is evaluated: a checkpoint's network, or an ONNX model; where it came from, and who it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from eval.checkpoint.file import decode_checkpoint, load_network
from eval.checkpoint.find import Found, Which, default_out, find_checkpoint, validation_of
from eval.embed import check_protocol
from eval.onnx_network import OnnxNetwork
from eval.protocol import Protocol
from shard_tools import storage
from shard_tools.errors import UserError


@dataclass(frozen=True)
class Subject:
    """url: of the file; digest: SHA-256 of it, in hex; step: of the training; config: of its run, {} where
    there is none.
    """

    found: Found
    digest: str
    config: Mapping[str, Any]
    step: int | None = None
    checkpoint: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: bytes = field(default=b"", repr=False)

    @property
    def url(self) -> str:
        return self.found.url

    def network(self, device: torch.device) -> nn.Module:
        """On `device`, in evaluation mode. Raises UserError for one that cannot be built."""
        if self.model:
            return OnnxNetwork(self.model, self.url, device).eval()
        network = load_network(dict(self.checkpoint), device, name=self.url)
        if device.type == "cpu":  # whose convolutions are up to a third faster in this order
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def own(self, key: Literal["trials", "data"]) -> str:
        """validation.KEY of its run. Raises UserError, naming the option."""
        return validation_of(self.config, key, self.url)

    def own_protocol(self) -> Protocol:
        """As its run's validation cuts utterances; whole ones where it had none."""
        own = self.config.get("validation") or {}
        return Protocol.of_crops(own.get("crops", 0), own.get("crop_frames", 400))

    def out(self) -> str:
        """Where results go unless --out says it. Raises UserError."""
        if self.step is None:
            raise UserError(f"{self.url}: give --out, the folder where the results go")
        return default_out(self.found, self.step)


def open_subject(url: str, which: Which | None, say: Callable[[str], None]) -> Subject:
    """The checkpoint or ONNX model that `url` means, read. Raises UserError, and StorageError."""
    if url.lower().endswith(".onnx"):
        if which is not None:
            raise UserError(f"--which {which} chooses among the checkpoints of a folder, but {url} is a file")
        data = storage.read_bytes(url)
        return Subject(Found(url), hashlib.sha256(data).hexdigest(), {}, model=data)
    found = find_checkpoint(url, which, say)
    data = storage.read_bytes(found.url)
    checkpoint = decode_checkpoint(data, found.url)
    return Subject(
        found,
        hashlib.sha256(data).hexdigest(),
        checkpoint["config"],
        checkpoint["step"],
        checkpoint,
    )


def check_fit(network: nn.Module, protocol: Protocol) -> None:
    """Raise UserError, before the work, where the network does not take what the protocol gives it."""
    if isinstance(network, OnnxNetwork):
        network.check(protocol)
    else:
        check_protocol(network, protocol)
