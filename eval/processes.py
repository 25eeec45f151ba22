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

from eval.devices import device_of, join_group
from shard_tools.errors import UserError
from shard_tools.heaps import keep_freed_memory
from shard_tools.launched import launched
from shard_tools.text import shown

# Of a part of the embeddings: ranks have equal shares, and a slow store may make one wait for another.
_TIMEOUT = timedelta(minutes=30)
# What strikes all ranks is said by rank 0; torchrun ends the others meanwhile.
_SILENCE_S = 5.0


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

    device: auto, cpu or cuda. Raises UserError where there is no GPU to be had, or for some alone.
    """
    place = launched()
    chosen = device_of(device) if place is None else join_group(place, device, _TIMEOUT)
    if chosen.type == "cpu":
        keep_freed_memory()  # of an utterance's maps
    if place is None:
        yield Process(0, 1, chosen)
        return
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
