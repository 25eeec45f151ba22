"""Embeddings kept on the way, in files of some thousand utterances: what was killed goes on, and what comes
next begins with them.

FOLDER/KEY/part-XXXXXXXXXXXXXXXX.npz holds what Embeddings.save writes, a stamp of the audio of each
utterance, and whether it is silent; KEY is of the checkpoint and the protocol.
Files are whole or absent and never change, so that several evaluations may share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.embed import Heard
from eval.embeddings import Embeddings, decode_embeddings
from eval.protocol import Protocol
from shard_tools import storage
from shard_tools.arrays import BoolArray, Int64Array
from shard_tools.errors import UserError

PART_UTTERANCES = 2048
_MORE = {"stamps": ("i", 1), "silent": ("b", 1)}


@dataclass(frozen=True, eq=False)
class Known:
    """rows: int64 (n,), of the names asked for; heard: their embeddings, in that order."""

    rows: Int64Array
    heard: Heard


class Kept:
    """The embeddings that a checkpoint, of digest `made_by`, gives by `protocol`, below the URL `folder`."""

    def __init__(self, folder: str, made_by: str, protocol: Protocol, say: Callable[[str], None]) -> None:
        key = hashlib.sha256(f"{made_by} {protocol.digest}".encode()).hexdigest()[:16]
        self.url = storage.join(folder, key)
        self._made_by, self._protocol, self._say = made_by, protocol, say

    def load(self, names: Sequence[str], stamps: Sequence[str]) -> Known | None:
        """What is kept of these utterances, whose audio is known by `stamps`; None where nothing is.

        A damaged file is told of, and what it held embedded again. Raises StorageError where some are still
        to be made, and could not be kept.
        """
        wanted = {
            (name, _number(stamp)): row for row, (name, stamp) in enumerate(zip(names, stamps, strict=True))
        }
        rows: list[int] = []
        found: list[Heard] = []
        for file in storage.list_names(self.url):
            if not (file.startswith("part-") and file.endswith(".npz")):
                continue
            part = self._read(storage.join(self.url, file))
            if part is None:
                continue
            embeddings, there, silent = part
            keys = zip(embeddings.names, there.tolist(), strict=True)
            places = [(place, row) for place, key in enumerate(keys) if (row := wanted.pop(key, -1)) >= 0]
            if places:
                some = np.array([place for place, _ in places])
                found.append(Heard(embeddings.vectors[some], embeddings.seconds[some], silent[some]))
                rows += [row for _, row in places]
        if len(rows) < len(names):
            self._check()
        if not found:
            return None
        heard = Heard(
            np.concatenate([each.vectors for each in found]),
            np.concatenate([each.seconds for each in found]),
            np.concatenate([each.silent for each in found]),
        )
        return Known(np.array(rows, np.int64), heard)

    def _check(self) -> None:
        """Raise StorageError, before the work, where nothing can be kept."""
        trace = storage.join(self.url, "part")
        storage.publish_bytes(trace, b"")
        storage.remove(trace)

    def add(self, names: Sequence[str], stamps: Sequence[str], heard: Heard) -> None:
        """Keep these, in a file of their own. Raises StorageError."""
        protocol = self._protocol
        crops, frames = (protocol.crops, protocol.crop_frames) if protocol.kind == "crops" else (0, 0)
        part = Embeddings(
            tuple(names), heard.vectors, crops, frames, self._made_by, heard.seconds, protocol.text
        )
        numbers = np.array([_number(stamp) for stamp in stamps], np.int64)
        file = io.BytesIO()
        np.savez(file, **part.arrays(), stamps=numbers, silent=heard.silent)
        told = hashlib.sha256("\0".join([*names, *stamps]).encode()).hexdigest()[:16]
        storage.publish_bytes(storage.join(self.url, f"part-{told}.npz"), file.getvalue())

    def clear(self) -> None:
        """Remove all that is kept of this checkpoint by this protocol, and folders that are empty then."""
        for file in storage.list_names(self.url):
            storage.remove(storage.join(self.url, file))
        path = storage.local_path(self.url)
        if path is not None:
            with contextlib.suppress(OSError):  # another one's embeddings lie there too
                os.rmdir(path)
                os.rmdir(os.path.dirname(path))

    def _read(self, url: str) -> tuple[Embeddings, Int64Array, BoolArray] | None:
        try:
            part, fields = decode_embeddings(storage.read_bytes(url), url, _MORE)
            stamps, silent = fields["stamps"], fields["silent"]
            if len(stamps) != len(part) or len(silent) != len(part):
                raise UserError(f"{url}: {len(part)} embeddings and {len(stamps)} stamps; embed again")
        except storage.MissingError:
            return None
        except storage.StorageError:
            raise
        except UserError as error:
            self._say(f"{error} (is done now)")
            return None
        ours = (part.made_by, part.protocol) == (self._made_by, self._protocol.text)
        return (part, stamps, silent) if ours else None


def _number(stamp: str) -> int:
    return int.from_bytes(hashlib.blake2b(stamp.encode(), digest_size=8).digest(), "little", signed=True)
