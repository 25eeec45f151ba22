"""Files of embeddings by their endings: .npz, which says where they came from, and Kaldi's .ark and .scp."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.embeddings import Embeddings, load_embeddings
from eval.kaldi import decode_ark, decode_scp, encode_ark, entry_at
from shard_tools import storage
from shard_tools.arrays import Float32Array
from shard_tools.errors import UserError


def check_file(url: str, option: str) -> None:
    """Raise UserError for a name by which write_embeddings and read_embeddings would not agree."""
    if not url.lower().endswith((".npz", ".ark")):
        raise UserError(f"{option} {url}: must end in .npz or .ark")


def check_names(names: Sequence[str], url: str, option: str) -> None:
    """Raise UserError where the file cannot hold one of the utterances' names."""
    blank = next((name for name in names if name.split() != [name]), None)
    if url.lower().endswith(".ark") and blank is not None:
        raise UserError(
            f"{option} {url}: the name {blank[:200]!r} holds blanks, which Kaldi's archives cannot: give .npz"
        )


def write_embeddings(embeddings: Embeddings, url: str) -> None:
    """As .npz; where `url` ends in .ark, as a Kaldi archive, with its .scp beside it. Raises UserError."""
    if not url.lower().endswith(".ark"):
        embeddings.save(url)
        return
    archive, script = encode_ark(embeddings.names, embeddings.vectors, url)
    storage.publish_bytes(url, archive)
    storage.publish_bytes(url[:-4] + ".scp", script.encode())


def read_embeddings(url: str) -> Embeddings:
    """What write_embeddings wrote, or Kaldi's own tools.

    Kaldi's files say nothing of a checkpoint, a protocol or seconds. Raises UserError for what is damaged.
    """
    if url.lower().endswith(".ark"):
        entries = list(decode_ark(storage.read_bytes(url), url))
    elif url.lower().endswith(".scp"):
        archives: dict[str, bytes] = {}
        entries = []
        for key, file, offset in decode_scp(storage.read_bytes(url), url):
            data = archives.get(file) or archives.setdefault(file, storage.read_bytes(file))
            entries.append((key, entry_at(data, offset, file, key)[0]))
    else:
        return load_embeddings(url)
    return _of(entries, url)


def _of(entries: Sequence[tuple[str, Float32Array]], url: str) -> Embeddings:
    if not entries:
        raise UserError(f"{url}: no embeddings; embed again")
    names = [key for key, _ in entries]
    first = entries[0][1].shape
    other = next((entry for entry in entries if entry[1].shape != first), None)
    if other is not None:
        raise UserError(
            f"{url}: {names[0]} has {first[0]} vectors of {first[1]} numbers, {other[0]} {other[1].shape[0]} "
            f"of {other[1].shape[1]}; embeddings of one file are alike"
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"{url}: two entries have the key {twice}")
    crops = first[0] if first[0] > 1 else 0
    protocol = f"{first[0]} vectors each, of a Kaldi archive"
    return Embeddings(tuple(names), np.stack([value for _, value in entries]), crops, 0, protocol=protocol)
