"""A dry run: all is built and one step is made, to say what a run would take; nothing of it is kept."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from tqdm import tqdm

from shard_tools.read.ranged import RangedSource
from shard_tools.read.reader import Reader
from shard_tools.read.source import LocalSource
from train.assembly import assemble
from train.augment.sections import CopyConfig
from train.config.sections import Config
from train.data.pipeline import Stream
from train.life.distributed import Process, from_all, process_group
from train.life.log import RunLog, start_logging
from train.trainer import Trainer


class _Figures(RunLog):
    """Keeps what the trainer records of its step, and writes nothing."""

    def __init__(self) -> None:
        super().__init__(None, 0, 1)
        self.step: dict[str, Any] = {}

    def record(self, step: int, group: str, values: dict[str, Any]) -> None:
        self.step = values


@dataclass(frozen=True)
class Found:
    """What a rank found out. seconds: of the step without reading; reading: of its batch; peak: bytes."""

    flops: int
    seconds: float
    reading: float
    peak: int
    fetched: int


def dry_run(config: Config) -> None:
    """Build what `config` names, run one step on each process, and print what it took, on rank 0.

    A run that is in the folder is left alone, and not gone on from. Raises UserError as the run would.
    """
    with process_group(config.train.device) as process, tempfile.TemporaryDirectory() as nowhere:
        start_logging(nowhere if process.leads else None)
        trainer, _, last = assemble(_alone(config, nowhere), process)
        every = from_all(_step(trainer, process))
        if process.leads:
            for name, text in _lines(config, trainer, last, every):
                print(f"{name:<12}{text}", flush=True)


def _alone(config: Config, folder: str) -> Config:
    """The run with a folder of its own, read in this process and past a cache: the batches are the same."""
    verify: Literal["none", "crops"] = "crops" if config.data.verify == "crops" else "none"
    return replace(
        config,
        run=replace(config.run, folder=folder),
        checkpoint=replace(config.checkpoint, url=None),
        data=replace(config.data, workers=0, access="direct", verify=verify),
        augment=replace(config.augment, copy=CopyConfig(max_gib=0)),
    )


def _step(trainer: Trainer, process: Process) -> Found:
    flops = trainer.flops()
    trainer.stream.plan.batch(0)  # planning is of an epoch, not of a step
    trainer.validation = None
    trainer.resumes(1, validated=True)  # so that step 1 is not saved
    log = _Figures()
    trainer.run(0, 1, log)
    seconds = trainer.stream.plan.spec.size / log.step["utterances_per_second"]
    waited = log.step["data_wait"]
    return Found(flops, seconds * (1 - waited), seconds * waited, _peak(process), _fetched(trainer.stream))


def _peak(process: Process) -> int:
    if process.device.type == "cuda":
        return torch.cuda.max_memory_allocated(process.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fetched(stream: Stream) -> int:
    """Bytes of audio that were read from storage: of crops, and of what they were augmented with."""
    readers = [stream.loader.reader]
    if stream.augmenter is not None:
        recordings = stream.augmenter.sources.values()
        readers += [each.reader for each in recordings if isinstance(each.reader, Reader)]
    sources = [reader.source for reader in readers]
    return sum(each.fetched_bytes for each in sources if isinstance(each, (LocalSource, RangedSource)))


def _lines(config: Config, trainer: Trainer, last: int, every: list[Found]) -> Iterator[tuple[str, str]]:
    plan = trainer.stream.plan
    ranks = f" on {len(every)} processes" if len(every) > 1 else ""
    yield "dry run", f"one step of {plan.spec.size} crops{ranks}; nothing was written"
    for name, part in trainer.learner.objective.parts().items():
        sizes = [(each.numel(), each.requires_grad) for each in part.parameters()]
        trained = sum(size for size, moves in sizes if moves)
        yield "parameters", f"{sum(size for size, _ in sizes):,} of the {name}, {trained:,} of them trained"
    flops = sum(found.flops for found in every)
    yield (
        "FLOPs",
        (
            f"{_short(flops)} a step, forward and back: products and convolutions, with crops of "
            f"{config.data.longest_crop()} feature frames"
        ),
    )
    peak, device = max(found.peak for found in every), trainer.process.device.type
    yield "memory", f"{peak / 2**30:.2f} GiB of {'the GPU' if device == 'cuda' else 'a process'} at the most"
    fetched = sum(found.fetched for found in every)
    whole = ", by crops: a cache brings whole shards" if config.data.access == "cached" else ""
    yield "storage", f"{fetched / 1e6:.2f} MB were read for the batch and its augmentation{whole}"
    seconds, reading = (max(getattr(found, name) for found in every) for name in ("seconds", "reading"))
    yield "step", f"{seconds:.3f} s, and {reading:.3f} s for one process to read and augment a rank's rows"
    workers = config.data.workers
    each = max(seconds, reading / workers) if workers else seconds + reading
    steps = plan.steps_per_epoch
    epoch, run = (tqdm.format_interval(each * count) for count in (steps, last))
    with_them = f"with {workers} reading processes a rank" if workers else "without reading processes"
    yield "epoch", f"{steps} steps, about {epoch} {with_them}, and {run} for the {last} steps of the run"


def _short(number: float) -> str:
    for unit in ("", " k", " M", " G", " T"):
        if number < 1000:
            return f"{number:.4g}{unit}"
        number /= 1000
    return f"{number:.4g} P"
