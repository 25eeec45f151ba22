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
from dataclasses import dataclass
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
_BATCHES = (1, 3, 2, 1, 2)
_MORE_SAMPLES = (0, 1, 12345, 2 * SAMPLE_RATE + 77, 5 * SAMPLE_RATE)
_SHORTEST = SAMPLE_RATE // 2
"""Shorter audio is not compared: a deviation over two frames is not known to four digits by anybody."""


@dataclass(frozen=True)
class Check:
    """distance: the greatest, norm of a difference over a norm. least: samples of the shortest audio."""

    distance: float
    least: int


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
        check = _written(torch_export, lambda path: export_torch(network, path))
        yield _said(torch_export, "torch.export", check)
    if onnx is not None:
        check = _written(onnx, lambda path: export_onnx(network, path))
        yield _said(onnx, f"ONNX (opset {_OPSET})", check)


def _said(path: Path, form: str, check: Check) -> str:
    return (
        f"{path}: {form}, from {check.least} samples of audio; embeddings within {check.distance:.1e} of the"
        " network's own"
    )


def export_torch(network: nn.Module, path: str) -> Check:
    """Write `network` with torch.export, and compare what is read back."""
    try:
        with _quiet():
            program = torch.export.export(network, (_example(network),), dynamic_shapes=_shapes())
            torch.export.save(program, path)
            loaded = torch.export.load(path).module()
    except Exception as error:
        raise _impossible(network, "torch.export", error) from error
    return compare(network, loaded, _least_taken(loaded, least_samples(network)))


def export_onnx(network: nn.Module, path: str) -> Check:
    """Write `network` as ONNX, in one file, and compare what onnxruntime computes with it."""
    import onnxruntime

    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (_example(network),),
                dynamo=True,
                dynamic_shapes=_shapes(),
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

    return compare(network, run, least_samples(network))


def compare(network: nn.Module, other: Run, least: int) -> Check:
    """Compare `other`'s embeddings with the network's, over audio of five lengths from `least` samples.

    Raises UserError when one differs by more than TOLERANCE, or the embeddings are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, more in zip(_BATCHES, _MORE_SAMPLES, strict=True):
        audio = _speechlike(batch, max(least, _SHORTEST) + more, generator)
        with torch.no_grad():
            wanted = network(audio)
            try:
                found = other(audio)
            except Exception as error:  # a guard of torch.export's, or onnxruntime's own
                shape = f"{batch} x {audio.shape[1]} samples"
                raise UserError(
                    f"what was written does not take audio of {shape} ({_line(error)}); nothing is left of it"
                ) from error
            distance = float(((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
        if not distance <= TOLERANCE:
            raise UserError(
                f"what was written computes something else: embeddings of {audio.shape[1]} samples differ by"
                f" {distance:.1e}, and {TOLERANCE:g} is allowed; nothing is left of it"
            )
        worst = max(worst, distance)
    return Check(worst, least)


def _least_taken(exported: Run, least: int) -> int:
    """Samples of the shortest audio that `exported` takes: guards may ask for more than the network does."""

    def takes(samples: int) -> bool:
        try:
            with torch.no_grad():
                exported(torch.zeros(2, samples))
        except AssertionError:
            return False
        return True

    low, high = least - 1, least + SAMPLE_RATE  # which it was traced with
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if takes(middle) else (middle, high)
    return high


def _speechlike(batch: int, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Noise whose loudness changes, (batch, samples) in [-1, 1)."""
    steps = 1 + samples // 1600
    loudness = torch.rand(batch, steps, generator=generator).repeat_interleave(1600, dim=1)[:, :samples]
    return 0.3 * loudness * (2 * torch.rand(batch, samples, generator=generator) - 1)


def _example(network: nn.Module) -> torch.Tensor:
    return 0.1 * torch.randn(
        2, least_samples(network) + SAMPLE_RATE, generator=torch.Generator().manual_seed(0)
    )


def _shapes() -> dict[str, Any]:
    """Both dimensions may change, as far as the exporter finds; `compare` sees whether they do."""
    return {"audio": {0: Dim.AUTO, 1: Dim.AUTO}}


def _impossible(network: nn.Module, form: str, error: Exception) -> UserError:
    return UserError(f"{type(network).__name__} cannot be written as {form}: {_line(error)}")


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _check_installed() -> None:
    lacking = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if lacking:
        raise UserError(f"--onnx needs {', '.join(lacking)}: pip install 'voxshard[onnx]'")


def _written(path: Path, write: Callable[[str], Check]) -> Check:
    """Run `write` on a draft beside `path`, which takes its place only when all went well."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix or ".part", dir=path.parent)
    os.close(handle)
    try:
        check = write(draft)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
        return check
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
