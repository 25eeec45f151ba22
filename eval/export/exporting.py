"""A checkpoint's network as ONNX or torch.export: any batch, any length, front-end inside, compared first."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from eval.checkpoint.file import load_network, read_checkpoint
from eval.checkpoint.find import find_checkpoint
from models.registry import least_samples
from shard_tools.audio import SAMPLE_RATE
from shard_tools.errors import UserError

TOLERANCE = 1e-4
"""Norm of the difference between two embeddings over the norm of the network's own."""

_OPSET = 18
_LONGEST = 3600 * SAMPLE_RATE
_BATCHES = (1, 3, 2, 1, 2)

Run = Callable[[torch.Tensor], torch.Tensor]


def write_exports(checkpoint: str, *, onnx: Path | None, torch_export: Path | None) -> Iterator[str]:
    """Write the files that are asked for, each whole or not at all; yields what to say of each.

    Raises UserError for a network that cannot be exported (saying why), for what is not installed, and
    for a file that computes something else than the network.
    """
    if onnx is not None:
        _check_installed()
    for path in filter(None, (onnx, torch_export)):
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    said: list[str] = []
    found = find_checkpoint(checkpoint, None, said.append)
    yield from said
    network = load_network(read_checkpoint(found.url), "cpu", name=found.url)
    if torch_export is not None:
        distance = _written(torch_export, lambda path: export_torch(network, path))
        yield f"{torch_export}: torch.export, embeddings within {distance:.1e} of the network's"
    if onnx is not None:
        distance = _written(onnx, lambda path: export_onnx(network, path))
        yield f"{onnx}: ONNX (opset {_OPSET}), embeddings within {distance:.1e} of the network's"


def export_torch(network: nn.Module, path: str) -> float:
    """Write `network` with torch.export; the greatest distance of its embeddings from the network's."""
    program = _exported(network)
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    return compare(network, loaded)


def export_onnx(network: nn.Module, path: str) -> float:
    """Write `network` as ONNX, in one file; the greatest distance of what onnxruntime computes with it."""
    import onnxruntime

    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (_example(network),),
                dynamo=True,
                dynamic_shapes=_shapes(network),
                input_names=["audio"],
                output_names=["embeddings"],
                opset_version=_OPSET,
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)
    except Exception as error:
        raise _impossible(network, "ONNX", error) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(audio: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {"audio": audio.numpy()})[0])

    return compare(network, run)


def compare(network: nn.Module, other: Run) -> float:
    """The greatest distance of `other`'s embeddings from the network's, over audio of five lengths.

    Raises UserError when it is more than TOLERANCE, or the embeddings are not finite.
    """
    least = least_samples(network)
    lengths = (
        least,
        least + 1,
        max(least, SAMPLE_RATE),
        max(least, 2 * SAMPLE_RATE + 77),
        5 * SAMPLE_RATE + least,
    )
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, samples in zip(_BATCHES, lengths, strict=True):
        audio = _speechlike(batch, samples, generator)
        with torch.no_grad():
            wanted = network(audio)
            distance = float(((other(audio) - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
        if not distance <= TOLERANCE:
            raise UserError(
                f"what was written computes something else: embeddings of {samples} samples differ by"
                f" {distance:.1e}, and {TOLERANCE:g} is allowed; nothing is left of it"
            )
        worst = max(worst, distance)
    return worst


def _speechlike(batch: int, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Noise whose loudness changes, (batch, samples) in [-1, 1)."""
    steps = 1 + samples // 1600
    loudness = torch.rand(batch, steps, generator=generator).repeat_interleave(1600, dim=1)[:, :samples]
    return 0.3 * loudness * (2 * torch.rand(batch, samples, generator=generator) - 1)


def _exported(network: nn.Module) -> Any:
    try:
        with _quiet():
            return torch.export.export(network, (_example(network),), dynamic_shapes=_shapes(network))
    except Exception as error:
        raise _impossible(network, "torch.export", error) from error


def _example(network: nn.Module) -> torch.Tensor:
    return 0.1 * torch.randn(
        2, least_samples(network) + SAMPLE_RATE, generator=torch.Generator().manual_seed(0)
    )


def _shapes(network: nn.Module) -> dict[str, Any]:
    return {
        "audio": {
            0: Dim("batch", min=1, max=1 << 16),
            1: Dim("samples", min=least_samples(network), max=_LONGEST),
        }
    }


def _impossible(network: nn.Module, form: str, error: Exception) -> UserError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    return UserError(f"{type(network).__name__} cannot be written as {form}: {why}")


def _check_installed() -> None:
    lacking = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if lacking:
        raise UserError(f"--onnx needs {', '.join(lacking)}: pip install 'voxshard[onnx]'")


def _written(path: Path, write: Callable[[str], float]) -> float:
    """Run `write` on a draft beside `path`, which takes its place only when all went well."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix or ".part", dir=path.parent)
    os.close(handle)
    try:
        distance = write(draft)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
        return distance
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' progress and warnings are of no use to whoever wants a file."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
