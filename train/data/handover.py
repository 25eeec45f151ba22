"""Handing batches from one process to another without a file: through memory that both have had all along.

A Room is made before the reading process is started: anonymous shared memory, which no limit of
/dev/shm concerns, with a slot for every batch under way. What goes through a
pipe is a note of a few hundred bytes. So nothing is left that can fail when a batch is finished.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any

import numpy as np
import torch

from shard_tools.errors import UserError

ALIGNMENT = 64  # bytes; where each tensor begins in a slot


@dataclass(frozen=True)
class Placed:
    """A tensor in a slot."""

    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Note:
    """What a slot holds: the batch with a Placed for every tensor; size: bytes in use."""

    slot: int
    size: int
    batch: dict[str, Any]


def room_needed(tensors: int, data: int) -> int:
    """Bytes of a slot for so many tensors of `data` bytes in all."""
    return -(-data // ALIGNMENT) * ALIGNMENT + tensors * ALIGNMENT


class Room:
    """`slots` slots of `size` bytes each, shared with a process that is started with it.

    A fork has the memory itself, which takes no file. A process that starts clean is given an open file
    of no name in its place; sending is for multiprocessing's own start of a process alone.
    The kernel gives a page when it is first written to. Raises UserError where it promises no more memory.
    """

    def __init__(self, slots: int, size: int, *, forked: bool = True) -> None:
        self.slots = slots
        self._size = size
        self._file = -1
        try:
            if not forked:
                self._file = os.memfd_create("batches")
                os.ftruncate(self._file, slots * size)
            self._map()
        except (OSError, OverflowError, ValueError) as error:
            raise UserError(
                f"there is no memory for the batches under way: {slots} of {size / 2**20:.0f} MiB for each "
                f"reading process ({error}); lower data.prefetch, data.workers or batch.speakers"
            ) from error

    def _map(self) -> None:
        memory = mmap.mmap(self._file, self.slots * self._size)
        self._bytes: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(memory, np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        return {"slots": self.slots, "_size": self._size, "_file": reduction.DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._file = state["_file"].detach()
        self._map()
        self.close()

    def close(self) -> None:
        """Close the file, once whoever is to share the room has been started; the memory stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def put(self, slot: int, batch: Mapping[str, Any]) -> Note:
        """Copy the tensors of a batch, and of dicts in it, into a slot; for `take` in the other process."""
        end = slot * self._size
        limit = end + self._size

        def place(value: Any) -> Any:
            nonlocal end
            if isinstance(value, Mapping):
                return {name: place(each) for name, each in value.items()}
            if not isinstance(value, torch.Tensor):
                return value
            data = value.contiguous().numpy().reshape(-1).view(np.uint8)
            offset, end = end, end + len(data)
            if end > limit:
                raise ValueError(f"a batch of more than the {self._size} bytes that were set aside for one")
            self._bytes[offset:end] = data
            placed = Placed(offset - slot * self._size, tuple(value.shape), value.dtype)
            end += -end % ALIGNMENT
            return placed

        placed = place(batch)
        return Note(slot, min(end, limit) - slot * self._size, placed)

    def take(self, note: Note, *, pin_memory: bool) -> dict[str, Any]:
        """The batch, copied out of its slot, which is free again; its tensors share one block of memory."""
        block = torch.empty(note.size, dtype=torch.uint8, pin_memory=pin_memory)
        start = note.slot * self._size
        block.numpy()[:] = self._bytes[start : start + note.size]

        def restore(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: restore(each) for name, each in value.items()}
            if not isinstance(value, Placed):
                return value
            count = int(np.prod(value.shape, dtype=np.int64)) * value.dtype.itemsize
            # A view of the block, so that the allocator of pinned memory knows while it is being copied from.
            return block[value.offset : value.offset + count].view(value.dtype).view(value.shape)

        return {name: restore(value) for name, value in note.batch.items()}
