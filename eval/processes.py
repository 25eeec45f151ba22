"""This process among the ranks of an evaluation that torchrun has started, or alone."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from shard_tools.errors import UserError
from shard_tools.launched import end_with_parent, launched
from shard_tools.text import shown

# Of a part of the embeddings: ranks have equal shares, and a slow store may make one wait for another.
_TIMEOUT = timedelta(minutes=30)
# What strikes all ranks is said by rank 0; torchrun ends the others meanwhile.
_SILENCE_S = 5.0

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Process:
    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Rank 0 scores, writes, and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """A line on stderr, of rank 0."""
        if self.leads:
            print(f"eval: {shown(text)}", file=sys.stderr)


@contextmanager
def joined(device: str) -> Iterator[Process]:
    """Join the ranks that torchrun's environment describes, or stand alone without one.

    device: auto, cpu or cuda. Raises UserError where there is no GPU to be had.
    """
    place = launched()
    chosen = device_of(device, place.local_rank if place else 0)
    if place is None:
        yield Process(0, 1, chosen)
        return
    end_with_parent()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=chosen)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    yield Process(dist.get_rank(), dist.get_world_size(), chosen)
    # Not after a failure: it could wait for the others, who wait for this rank.
    dist.destroy_process_group()


def parsed(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """The options; what is wrong with them, and --help, is told by rank 0 alone."""
    place = launched()
    if place is None or place.rank == 0:
        return parser.parse_args(words)
    unheard = io.StringIO()
    try:
        with redirect_stderr(unheard), redirect_stdout(unheard):
            return parser.parse_args(words)
    except SystemExit:
        time.sleep(_SILENCE_S)
        raise


def quietly(command: Callable[[], int | None]) -> Callable[[], int | None]:
    """`command`, whose mistakes rank 0 tells first: torchrun ends the others before they say them again."""
    place = launched()
    if place is None or place.rank == 0:
        return command

    def waiting() -> int | None:
        try:
            return command()
        except UserError as error:
            time.sleep(_SILENCE_S)
            raise UserError(f"rank {place.rank}: {error}") from error

    return waiting


def device_of(name: str, local_rank: int = 0) -> torch.device:
    """What auto, cpu or cuda mean for process `local_rank` of its node. Raises UserError."""
    if name not in DEVICES:
        raise UserError(f"device {name!r}: give {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no usable GPU here; use --device cpu or auto")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(
            f"process {local_rank} of this node has no GPU of its own ({count} found): start torchrun with "
            f"--nproc-per-node {count}, or give --device cpu"
        )
    return torch.device("cuda", local_rank)
