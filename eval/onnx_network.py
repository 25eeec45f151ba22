"""An ONNX model as a network: from audio to embeddings, by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from eval.protocol import Protocol
from shard_tools.errors import UserError

_AUDIO = "float32 audio of 16 kHz, (batch, samples)"


class OnnxNetwork(nn.Module):
    """The model in `data`; `name`: of its file, for messages.

    Takes float32 (B, samples) and gives (B, embedding_size), as the networks of a registry. Raises UserError
    for what onnxruntime cannot load, and for a model that takes something else than audio, saying what.
    """

    def __init__(self, data: bytes, name: str, device: torch.device) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{name}: ONNX models need onnxruntime: pip install 'voxshard[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if device.type == "cpu":
            options.intra_op_num_threads = torch.get_num_threads()
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        there = [each for each in wanted if each in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(data, options, [*there, "CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds
            raise UserError(f"{name}: onnxruntime cannot load this model ({_line(error)})") from None
        self._name = name
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 2
        if not fits:
            found = ", ".join(f"{each.name} {each.type} {_shape(each.shape)}" for each in inputs)
            raise UserError(
                f"{name}: the model expects {found or 'no input'}; what it is given is one, {_AUDIO}"
            )
        self._input, self._output = inputs[0].name, outputs[0].name
        batch, samples = inputs[0].shape
        self._batch = batch if isinstance(batch, int) else None
        self._samples = samples if isinstance(samples, int) else None
        size = outputs[0].shape[-1] if outputs[0].shape else None
        if not isinstance(size, int):
            size = self._of(np.zeros((self._batch or 1, self._samples or 16000), np.float32)).shape[1]
        self.embedding_size = size
        self.least_samples = 1  # what is too short the model says itself

    def check(self, protocol: Protocol) -> None:
        """Raise UserError where the model takes audio of one length, which is not that of the pieces."""
        if self._samples is not None and protocol.samples != self._samples:
            has = f"pieces of {protocol.samples} samples" if protocol.samples else "whole utterances"
            frames, rest = divmod(self._samples - 240, 160)
            remedy = f"; give --crops N --crop-frames {frames}" if rest == 0 and frames > 0 else ""
            raise UserError(f"{self._name}: the model takes {self._samples} samples, and not {has}{remedy}")

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        samples = audio.cpu().numpy()
        if self._batch is None:
            return torch.from_numpy(self._of(samples)).to(audio.device)
        rows = []
        for first in range(0, len(samples), self._batch):
            some = samples[first : first + self._batch]
            filled = np.zeros((self._batch, samples.shape[1]), np.float32)
            filled[: len(some)] = some
            rows.append(self._of(filled)[: len(some)])
        return torch.from_numpy(np.concatenate(rows)).to(audio.device)

    def _of(self, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        try:
            found = np.asarray(self._session.run([self._output], {self._input: samples})[0], np.float32)
        except Exception as error:  # onnxruntime's own kinds
            shape = f"{len(samples)} x {samples.shape[1]} samples"
            raise UserError(
                f"{self._name}: the model does not take audio of {shape} ({_line(error)})"
            ) from None
        if found.ndim != 2 or len(found) != len(samples):
            raise UserError(
                f"{self._name}: the model's output {self._output} is {_shape(found.shape)} of {len(samples)} "
                "utterances; expected is (batch, embedding size)"
            )
        return found


def _shape(shape: Any) -> str:
    return "(" + ", ".join("?" if each is None else str(each) for each in shape) + ")"


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
