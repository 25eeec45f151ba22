"""From what is known of a bad shard to the task that makes it again.

Its index, where that is whole, says which utterances lie in it and whose they are; else the plan of the whole
pack does, where list and options still make the manifest's shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

from shard_tools.audio.convert import EXTENSIONS as CONVERTIBLE
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.keys import AUDIO_EXTENSIONS
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.dataset.shard_check import ShardFound
from shard_tools.pack.corpus import Corpus, find_corpus
from shard_tools.pack.listing import Listing, read_listing
from shard_tools.pack.plan import PackOptions, PackPlan
from shard_tools.pack.writer import ShardTask, SourceFile, shard_names
from shard_tools.storage import Folder
from shard_tools.text import counted

PLAN = "repair"  # what the folder apart is claimed for
REMEDY = "give ROOT, and --list or --speaker, as they were given to make-shards pack"


@dataclass(frozen=True, eq=False)
class Material:
    """What shards are made again of. name: of list or root, for messages; options: of the pack."""

    corpus: Corpus
    listing: Listing
    name: str
    options: PackOptions

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The list's rows by their keys."""
        return {key: row for row, key in enumerate(self.listing.keys)}

    @cached_property
    def plan(self) -> PackPlan:
        return PackPlan(self.corpus, self.listing, self.options)


def read_material(manifest: Manifest, root: str, list_url: str | None, speaker: str | None) -> Material:
    """Read the list, or look what lies below `root`. Raises as `find_corpus` and `read_listing` do."""
    known = {field.name for field in fields(PackOptions)}
    options = PackOptions(**{name: value for name, value in manifest.options.items() if name in known})
    corpus = find_corpus(root)
    extensions = CONVERTIBLE if options.convert else AUDIO_EXTENSIONS
    listing = read_listing(corpus, list_url, speaker, extensions)
    return Material(corpus, listing, list_url or root, options)


def remaking(
    manifest: Manifest,
    found: Sequence[ShardFound],
    material: Material,
    numbers: Sequence[int],
    site: Folder,
    scratch: str,
) -> tuple[list[ShardTask], dict[int, str]]:
    """(what makes the shards `numbers` again at `site`; of those of which too little is known, why).

    found: what was found of all shards. The sources' sizes and times are not looked at yet.
    """
    tasks: list[ShardTask] = []
    unknown: dict[int, str] = {}
    for number in numbers:
        entry = manifest.shards[number]
        index = _whole_index(entry, found[number])
        if index is None:
            continue
        keys = index.keys()
        absent = [key for key in keys if key not in material.row_of]
        if absent:
            unknown[number] = f"{material.name}: names no file with the key {absent[0]}; {REMEDY}"
        else:
            tasks.append(_by_index(number, index, manifest, material, site, scratch))
    lost = [number for number in numbers if _whole_index(manifest.shards[number], found[number]) is None]
    if lost:
        reason = _other_plan(manifest, found, material)
        if reason is not None:
            unknown |= dict.fromkeys(lost, f"its index is bad, and {reason}; {REMEDY}")
        else:
            unseen = dict.fromkeys(material.plan.rows(lost), (0, 0))
            for task in material.plan.tasks(lost, unseen, site, scratch):
                tasks.append(replace(task, plan=PLAN))
    return sorted(tasks, key=lambda task: task.number), unknown


def _whole_index(entry: ShardEntry, found: ShardFound) -> ShardIndex | None:
    bad = entry.index in found.missing or entry.index in found.other
    return None if bad or len(found.index or ()) != entry.nsamples else found.index


def _by_index(
    number: int, index: ShardIndex, manifest: Manifest, material: Material, site: Folder, scratch: str
) -> ShardTask:
    keys = index.keys()
    rows = [material.row_of[key] for key in keys]
    columns = (index.label, index.turn, index.total, index.next_shard)
    sources = [
        SourceFile(
            speaker=manifest.speakers[label],
            label=label,
            turn=turn,
            total=total,
            next_shard=next_shard,
            path=material.listing.paths[row],
            key=material.listing.keys[row],
            size=0,
            mtime_ns=0,
        )
        for row, label, turn, total, next_shard in zip(
            rows, *(column.tolist() for column in columns), strict=True
        )
    ]
    return ShardTask(
        number=number,
        site=site,
        scratch=scratch,
        corpus=material.corpus.part([source.path for source in sources]),
        format=material.options.format,
        convert=material.options.convert,
        sources=sources,
        plan=PLAN,
    )


def _other_plan(manifest: Manifest, found: Sequence[ShardFound], material: Material) -> str | None:
    """Why the plan of what is given now is not the manifest's; None where it is."""
    plan = material.plan
    planned = [(shard_names(number), len(rows)) for number, rows in enumerate(plan.shards)]
    packed = [((entry.url, entry.index), entry.nsamples) for entry in manifest.shards]
    if plan.speakers != manifest.speakers or planned != packed:
        mine = _counts(len(plan.listing), len(plan.speakers), len(planned))
        theirs = _counts(manifest.utterances, len(manifest.speakers), len(packed))
        return f"{material.name} has {mine}, the manifest {theirs}"
    for number, (entry, one) in enumerate(zip(manifest.shards, found, strict=True)):
        index = _whole_index(entry, one)
        keys = index.keys() if index is not None else []
        for place, key in enumerate(keys):
            other = plan.listing.keys[int(plan.shards[number][place])]
            if other != key:
                return f"by {material.name} {entry.url} would hold {other} where it holds {key}"
    return None


def _counts(utterances: int, speakers: int, shards: int) -> str:
    return (
        f"{counted(utterances, 'utterance')} of {counted(speakers, 'speaker')} in {counted(shards, 'shard')}"
    )
