"""Packing audio files into shards: same list and options, same bytes, however many workers and interruptions.

Shards that an interrupted run made from the same inputs are kept (`pack_state`
has the rules); the manifest comes last. `pack` makes all shards and the manifest,
`pack_part` makes some of the shards, for `pack_merge` to make one dataset of.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from tqdm import tqdm

from shard_tools import audio
from shard_tools.audio.convert import EXTENSIONS as CONVERTIBLE
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.keys import AUDIO_EXTENSIONS
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.pack import claim as pack_claim
from shard_tools.pack import state as pack_state
from shard_tools.pack.check import check_sources
from shard_tools.pack.claim import Claim
from shard_tools.pack.corpus import find_corpus
from shard_tools.pack.listing import ProblemsError, read_listing
from shard_tools.pack.parts import Part, Record, publish_record
from shard_tools.pack.plan import PackOptions, PackPlan, dataset_inputs
from shard_tools.pack.reuse import find_reusable
from shard_tools.pack.scratch import scratch_folder
from shard_tools.pack.writer import ShardTask, write_shard
from shard_tools.storage import Folder
from shard_tools.text import printable
from shard_tools.workers import run


@dataclass(frozen=True)
class PackSummary:
    """What a pack made; `reused` shards were there already, from an earlier run."""

    manifest: Manifest
    reused: int
    seconds: float


@dataclass(frozen=True)
class PartSummary:
    """What a part made, of so many shards in `all`; `reused` of its shards were there already."""

    part: Part
    shards: tuple[ShardEntry, ...]
    all: int
    reused: int
    seconds: float


def pack(
    root: str,
    url: str,
    *,
    list_url: str | None = None,
    speaker: str | None = None,
    options: PackOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> PackSummary:
    """Pack audio below folder `root` into shards at `url`; manifest.json is published last.

    list_url: file of "speaker relative/path.wav" lines; without it every .wav and .flac below `root`, the
    first folder being the speaker, or `speaker` that of all. workers: processes that make shards.
    overwrite: whether other shards that are complete at `url` may be replaced. progress: show bars on
    stderr when that is a terminal.

    Raises UserError, with no manifest left behind that speaks of missing or changed shards.
    """
    began = time.monotonic()
    site = Folder(url)
    plan, claim = _plan(root, site, list_url, speaker, options, parts=1)
    numbers = range(len(plan.shards))
    files = _check(plan, numbers, workers, progress)
    names = site.names()
    with scratch_folder(site, names) as scratch:
        tasks = plan.tasks(numbers, files, site, scratch)
        inputs = dataset_inputs([task.inputs() for task in tasks], plan.speakers, claim.options)
        reuse = find_reusable(site, tasks, names, inputs, workers, progress)
        reused = reuse.entries
        pack_state.begin(site, names, inputs, tasks, reuse, claim, overwrite=overwrite)
        with pack_claim.given_up_on_failure(site, plan.digest):
            entries = dict(reused)
            for number, entry in _make(tasks, reused, workers, progress):
                entries[number] = entry
            manifest = Manifest(
                speakers=plan.speakers,
                shards=tuple(entries[number] for number in numbers),
                sample_rate=audio.SAMPLE_RATE,
                inputs=inputs,
                options=claim.options,
            )
            pack_state.complete(site, manifest, plan.digest)
    return PackSummary(manifest, len(reused), time.monotonic() - began)


def pack_part(
    root: str,
    url: str,
    part: Part,
    *,
    list_url: str | None = None,
    speaker: str | None = None,
    options: PackOptions | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> PartSummary:
    """Make one part of the shards that `pack` with the same arguments would make, and no manifest.

    Only the files of this part are looked at. Parts may run at the same time, on any machines that reach
    `url`. Files that are refused are noted there too, for `pack_merge.merge` to list.

    Raises UserError as `pack` does.
    """
    began = time.monotonic()
    site = Folder(url)
    plan, claim = _plan(root, site, list_url, speaker, options, parts=part.count)
    numbers = part.numbers(len(plan.shards))
    entries: dict[int, ShardEntry] = {}
    inputs: dict[int, str] = {}
    try:
        files = _check(plan, numbers, workers, progress)
    except ProblemsError as error:
        if _is_ours(site, claim):
            publish_record(site, part, Record(plan.digest, inputs, entries, 0, tuple(error.problems)))
        raise
    names = site.names()
    with scratch_folder(site, names, part) as scratch:
        tasks = plan.tasks(numbers, files, site, scratch)
        inputs = {task.number: task.inputs() for task in tasks}
        reused = find_reusable(site, tasks, names, None, workers, progress).entries
        pack_state.begin_part(site, names, part, tasks, reused, claim, overwrite=overwrite)
        entries |= reused
        refused: ProblemsError | None = None
        try:
            for number, entry in _make(tasks, reused, workers, progress):
                entries[number] = entry
        except ProblemsError as error:
            refused = error
        pack_claim.require(site, plan.digest)
        problems = tuple(refused.problems) if refused else ()
        publish_record(site, part, Record(plan.digest, inputs, entries, len(reused), problems))
        if refused:
            raise refused
    shards = tuple(entries[number] for number in numbers)
    return PartSummary(part, shards, len(plan.shards), len(reused), time.monotonic() - began)


def _plan(
    root: str,
    site: Folder,
    list_url: str | None,
    speaker: str | None,
    options: PackOptions | None,
    *,
    parts: int,
) -> tuple[PackPlan, Claim]:
    site.names()  # the first word with the store: a wrong bucket shows before any work
    options = options or PackOptions()
    extensions = CONVERTIBLE if options.convert else AUDIO_EXTENSIONS
    corpus = find_corpus(root)
    plan = PackPlan(corpus, read_listing(corpus, list_url, speaker, extensions), options)
    claim = Claim(
        plan=plan.digest,
        shards=len(plan.shards),
        parts=parts,
        root=root,
        list=list_url,
        speaker=speaker,
        options=asdict(plan.options),
        speakers=plan.speakers,
    )
    return plan, claim


def _check(
    plan: PackPlan, numbers: Sequence[int], workers: int, progress: bool
) -> dict[int, tuple[int, int]]:
    """(size, mtime) of the files of these shards, by their rows of the list, after a look at each."""
    rows = plan.rows(numbers)
    paths = [plan.listing.paths[row] for row in rows]
    files = check_sources(
        plan.corpus, paths, convert=plan.options.convert, workers=workers, progress=progress
    )
    return dict(zip(rows, files, strict=True))


def _is_ours(site: Folder, claim: Claim) -> bool:
    """Whether `site` is claimed for this plan, or is claimed now since nothing lies there."""
    held = pack_claim.understood(site)
    if held is None:
        names = site.names()
        if manifest_file.NAME in names or any(name.endswith(".tar") for name in names):
            return False
        pack_claim.take(site, claim, overwrite=False)
        return True
    return held.plan == claim.plan


def _make(
    tasks: Sequence[ShardTask], reused: dict[int, ShardEntry], workers: int, progress: bool
) -> Iterator[tuple[int, ShardEntry]]:
    """Make shards and yield (number, entry) of each; afterwards raise ProblemsError if files were refused.

    What converting cut off is said on stderr, whatever the end.
    """
    tasks = [task for task in tasks if task.number not in reused]
    if tasks and tasks[0].site.url.startswith("memory:"):
        workers = 1  # another process's memory is not ours
    problems: list[str] = []
    clipped: dict[str, int] = {}
    total = sum(source.size for task in tasks for source in task.sources)
    try:
        with tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            desc="packing",
            disable=None if progress else True,
            smoothing=0.1,
        ) as bar:
            for task, result in run(write_shard, tasks, workers=workers, progress=bar.update):
                problems.extend(result.problems)
                clipped |= result.clipped
                if result.entry is not None:
                    yield task.number, result.entry
    finally:
        if clipped:
            print(_clipping(clipped), file=sys.stderr)
    if problems:
        raise ProblemsError(
            sorted(problems),
            "no manifest was written; mend or unlist the files and run again (whole shards are kept)",
        )


def _clipping(clipped: dict[str, int]) -> str:
    most = max(sorted(clipped), key=clipped.__getitem__)
    return printable(
        f"converting cut off what went beyond full scale in {len(clipped)} file{'s' * (len(clipped) != 1)};"
        f" samples: {sum(clipped.values())}, most of them ({clipped[most]}) in {most}"
    )
