"""What an earlier pack left at the URL, and what a new one may do about it.

- manifest.json is there: a complete dataset. Packing the same list with the same
  options again finds nothing to do, or puts back shards that went missing.
  Anything else would change shards that readers rely on, so it takes --overwrite.
- packing.json without a manifest: a pack that was interrupted. Shards made from
  the same inputs are kept, others are replaced.
- Tars without either are someone else's, unless some have an index of this very pack,
  and are not touched without --overwrite.

The manifest is removed before the first shard is replaced, so none ever names a
shard that has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from shard_tools import manifest as manifest_file
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.manifest import Manifest, ShardEntry
from shard_tools.shard_writer import ShardTask

STATE_NAME = "packing.json"
_OURS = re.compile(r"shard-\d{6,}\.(tar|index\.npz)")


def begin(
    url: str,
    names: set[str],
    inputs: str,
    tasks: Sequence[ShardTask],
    reused: dict[int, ShardEntry],
    *,
    overwrite: bool,
) -> None:
    """Clear the way for making the shards that are not `reused`, or raise UserError when something must stay.

    names: what lies at `url`; inputs: the digest of the new pack.
    """
    complete = manifest_file.NAME in names
    if not overwrite:
        _refuse(url, names, inputs, tasks, reused)
    if complete and not _same_manifest(url, inputs, tasks, reused):
        storage.remove(storage.join(url, manifest_file.NAME))
    if not complete or len(reused) < len(tasks):
        storage.publish_bytes(storage.join(url, STATE_NAME), json.dumps({"inputs": inputs}).encode())


def complete(url: str, names: set[str], manifest: Manifest) -> None:
    """Remove shards of older packs that the manifest does not name, then publish it."""
    current = {name for entry in manifest.shards for name in (entry.url, entry.index)}
    for name in sorted(names - current):
        if _OURS.fullmatch(name):
            storage.remove(storage.join(url, name))
    storage.publish_bytes(storage.join(url, manifest_file.NAME), manifest_file.to_bytes(manifest))
    storage.remove(storage.join(url, STATE_NAME))


def _refuse(
    url: str, names: set[str], inputs: str, tasks: Sequence[ShardTask], reused: dict[int, ShardEntry]
) -> None:
    manifest_url = storage.join(url, manifest_file.NAME)
    advice = "give another URL, or --overwrite to replace it"
    if manifest_file.NAME in names:
        old = manifest_file.from_bytes(storage.read_bytes(manifest_url), manifest_url)
        if old.inputs != inputs:
            raise UserError(
                f"{manifest_url}: a complete dataset from another list or other options is there"
                f" ({old.utterances} utterances in {len(old.shards)} shards); {advice}"
            )
        made = storage.modified(manifest_url)
        made += made == int(made)  # the store keeps whole seconds
        for task in tasks:
            for source in task.sources if task.number not in reused else ():
                if source.mtime_ns / 1e9 >= made:
                    raise UserError(
                        f"{manifest_url}: a complete dataset is there, but {task.root}/{source.path}"
                        f" has changed since it was made; {advice}"
                    )
        return
    tars = sorted(name for name in names if name.endswith(".tar"))
    if tars and STATE_NAME not in names and not reused:
        raise UserError(
            f"{url}: holds tars that no manifest names ({tars[0]}, {len(tars)} in all); {advice},"
            " or use make-shards index to index them as they are"
        )


def _same_manifest(url: str, inputs: str, tasks: Sequence[ShardTask], reused: dict[int, ShardEntry]) -> bool:
    """Whether the manifest that is there already names exactly the shards that are kept."""
    if len(reused) < len(tasks):
        return False
    manifest_url = storage.join(url, manifest_file.NAME)
    try:
        old = manifest_file.from_bytes(storage.read_bytes(manifest_url), manifest_url)
    except UserError:
        return False
    return old.inputs == inputs and old.shards == tuple(reused[number] for number in range(len(tasks)))
