"""From what is known of a bad shard to the task that makes it again.

Its index, where that is whole, says which utterances lie in it and whose they are; else the plan of the whole
pack does, where list and options still make the manifest's shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from shard_tools.audio.convert import EXTENSIONS as CONVERTIBLE
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.keys import AUDIO_EXTENSIONS
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.dataset.shard_check import ShardFound
from shard_tools.pack.corpus import Corpus, find_corpus
from shard_tools.pack.listing import Listing, ProblemsError, read_listing
from shard_tools.pack.plan import PackOptions, PackPlan
from shard_tools.pack.selection import Selection, with_enough
from shard_tools.pack.task import ShardTask, SourceFile, shard_names
from shard_tools.records import convert
from shard_tools.storage import Folder
from shard_tools.text import counted

_Options = TypeVar("_Options", PackOptions, Selection)
PLAN = "repair"  # what the folder apart is claimed for
REMEDY = "give ROOT, and --list or --speaker, as they were given to make-shards pack"


@dataclass(frozen=True, eq=False)
class Material:
    """What shards are made again of. name: of list or root, for messages."""

    corpus: Corpus
    listing: Listing
    name: str

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The list's rows by their keys."""
        return {key: row for row, key in enumerate(self.listing.keys)}


def read_material(manifest: Manifest, root: str, list_url: str | None, speaker: str | None) -> Material:
    """Read the list, or look what lies below `root`.

    Raises as `find_corpus` and `read_listing` do, and RecordError for options that no shard was packed with.
    """
    for number in (0, *(each.shards for each in manifest.appended)):
        _options_of(manifest, number)
    _decoded(manifest.options, Selection)
    corpus = find_corpus(root)
    converts = {bool(options.get("convert")) for options in _all_options(manifest)}
    try:
        listing = read_listing(
            corpus, list_url, speaker, CONVERTIBLE if True in converts else AUDIO_EXTENSIONS
        )
    except ProblemsError:
        # What --convert refuses was packed without it, which passes other audio over.
        if list_url is not None or len(converts) == 1:
            raise
        listing = read_listing(corpus, list_url, speaker, AUDIO_EXTENSIONS)
    return Material(corpus, listing, list_url or root)


def _all_options(manifest: Manifest) -> list[Mapping[str, Any]]:
    """Of the pack, and of each list that was added."""
    return [manifest.options, *(each.options for each in manifest.appended)]


def _options_of(manifest: Manifest, number: int) -> PackOptions:
    """How a shard was packed. RecordError for what cannot be."""
    added = sum(number >= each.shards for each in manifest.appended)
    return _decoded(_all_options(manifest)[added], PackOptions)


def _decoded(options: Mapping[str, Any], kind: type[_Options]) -> _Options:
    remedy = "put the manifest back that packing wrote, or pack anew"
    return convert(dict(options), kind, f"{manifest_file.NAME}: options", remedy)


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
        selection = _decoded(manifest.options, Selection)
        listing = with_enough(material.listing, selection.min_utterances)
        plan = PackPlan(material.corpus, listing, _options_of(manifest, 0))
        reason = _other_plan(manifest, found, plan, material.name)
        if reason is not None:
            remedy = REMEDY if manifest.appended else _remedy(selection, plan.options)
            unknown |= dict.fromkeys(lost, f"its index is bad, and {reason}; {remedy}")
        else:
            unseen = dict.fromkeys(plan.rows(lost), (0, 0))
            for task in plan.tasks(lost, unseen, site, scratch):
                tasks.append(replace(task, plan=PLAN))
    return sorted(tasks, key=lambda task: task.number), unknown


def _remedy(selection: Selection, options: PackOptions) -> str:
    """What gives the list that was packed: all its files are looked at for some selections, which is not done
    here."""
    if not selection.looks and selection.drop is None:
        return REMEDY
    options_given = selection.decides() | ({} if selection.drop is None else {"drop": "FILE"})
    given = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options_given.items())
    given += " --convert" * options.convert
    return (
        "the set was packed with a selection that the list does not tell of: give --list LIST, made by"
        f" make-shards select ROOT LIST {given} with the --list or --speaker of make-shards pack"
    )


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
    options = _options_of(manifest, number)
    return ShardTask(
        number=number,
        site=site,
        scratch=scratch,
        corpus=material.corpus.part([source.path for source in sources]),
        format=options.format,
        convert=options.convert,
        sources=sources,
        plan=PLAN,
    )


def _other_plan(manifest: Manifest, found: Sequence[ShardFound], plan: PackPlan, name: str) -> str | None:
    """Why the plan of what is given now, called `name`, is not the manifest's; None where it is."""
    if manifest.appended:
        return "lists were added to the set, after which nothing else says what its shards hold"
    planned = [(shard_names(number), len(rows)) for number, rows in enumerate(plan.shards)]
    packed = [((entry.url, entry.index), entry.nsamples) for entry in manifest.shards]
    if plan.speakers != manifest.speakers or planned != packed:
        mine = _counts(len(plan.listing), len(plan.speakers), len(planned))
        theirs = _counts(manifest.utterances, len(manifest.speakers), len(packed))
        return f"{name} has {mine}, the manifest {theirs}"
    for number, (entry, one) in enumerate(zip(manifest.shards, found, strict=True)):
        index = _whole_index(entry, one)
        keys = index.keys() if index is not None else []
        for place, key in enumerate(keys):
            other = plan.listing.keys[int(plan.shards[number][place])]
            if other != key:
                return f"by {name} {entry.url} would hold {other} where it holds {key}"
    return None


def _counts(utterances: int, speakers: int, shards: int) -> str:
    return (
        f"{counted(utterances, 'utterance')} of {counted(speakers, 'speaker')} in {counted(shards, 'shard')}"
    )
