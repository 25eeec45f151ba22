"""Packing audio files into shards: same list and options, same bytes, however many workers and interruptions.

Shards that an interrupted run made from the same inputs are kept (`pack_state`
has the rules); the manifest comes last. `pack` makes all shards and the manifest,
`pack_part` makes some of the shards, for `pack_merge` to make one dataset of.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from shard_tools import audio
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.pack import claim as pack_claim
from shard_tools.pack import state as pack_state
from shard_tools.pack.claim import Claim
from shard_tools.pack.intake import Wanted, claim_of, take_in
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.parts import Part, Record, publish_record
from shard_tools.pack.plan import PackOptions, dataset_inputs
from shard_tools.pack.reports import is_report, publish_report
from shard_tools.pack.reuse import find_reusable
from shard_tools.pack.scratch import scratch_folder
from shard_tools.pack.selected import Report
from shard_tools.pack.selection import Selection, refuse_in_part
from shard_tools.pack.task import ShardTask
from shard_tools.pack.writer import suits_threads, write_shard
from shard_tools.storage import Folder
from shard_tools.text import printable
from shard_tools.workers import run


@dataclass(frozen=True)
class PackSummary:
    """What a pack made; `reused` shards were there already, from an earlier run.

    report: of what was chosen to be packed; table: where all that was left out is listed.
    """

    manifest: Manifest
    reused: int
    seconds: float
    report: Report
    table: str | None


@dataclass(frozen=True)
class PartSummary:
    """What a part made, of so many shards in `all`; `reused` of its shards were there already.

    report, table: as of `PackSummary`.
    """

    part: Part
    shards: tuple[ShardEntry, ...]
    all: int
    reused: int
    seconds: float
    report: Report
    table: str | None


def pack(
    root: str,
    url: str,
    *,
    list_url: str | None = None,
    speaker: str | None = None,
    options: PackOptions | None = None,
    selection: Selection | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> PackSummary:
    """Pack audio below folder `root` into shards at `url`; manifest.json is published last.

    list_url: file of "speaker relative/path.wav" lines; without it every .wav and .flac below `root`, the
    first folder being the speaker, or `speaker` that of all. selection: which of these; all of them unless
    given. workers: processes that make shards. overwrite: whether other shards that are complete at `url`
    may be replaced. progress: show bars on stderr when that is a terminal.

    Raises UserError, with no manifest left behind that speaks of missing or changed shards.
    """
    began = time.monotonic()
    site = Folder(url)
    site.names()  # the first word with the store: a wrong bucket shows before any work
    wanted = Wanted(root, list_url, speaker, options or PackOptions(), selection or Selection())
    intake = take_in(wanted, workers=workers, progress=progress)
    plan = intake.plan()
    claim = claim_of(plan, wanted, parts=1)
    numbers = plan.numbers
    files = intake.files(plan, numbers, workers, progress)
    names = site.names()
    with scratch_folder(site, names) as scratch:
        tasks = plan.tasks(numbers, files, site, scratch)
        inputs = dataset_inputs([task.inputs() for task in tasks], plan.speakers, claim.options)
        reuse = find_reusable(site, tasks, names, inputs, workers, progress)
        reused = reuse.entries
        old = pack_state.begin(site, names, inputs, tasks, reuse, claim, overwrite=overwrite)
        with pack_claim.given_up_on_failure(site, plan.digest):
            entries = dict(reused)
            for number, entry in make(tasks, reused, workers, progress):
                entries[number] = entry
            manifest = Manifest(
                speakers=plan.speakers,
                shards=tuple(entries[number] for number in numbers),
                sample_rate=audio.SAMPLE_RATE,
                inputs=inputs,
                options=claim.options,
            )
            reports = publish_report(site, intake.report)
            told = filter(is_report, names) if not reports and manifest == old else ()  # of the same set
            pack_state.complete(site, manifest, plan.digest, keep=(*reports, *told))
    table = site.at(reports[-1]) if reports else None
    return PackSummary(manifest, len(reused), time.monotonic() - began, intake.report, table)


def pack_part(
    root: str,
    url: str,
    part: Part,
    *,
    list_url: str | None = None,
    speaker: str | None = None,
    options: PackOptions | None = None,
    selection: Selection | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> PartSummary:
    """Make one part of the shards that `pack` with the same arguments would make, and no manifest.

    Only the files of this part are looked at: a `selection` that depends on files is refused. Parts may run
    at the same time, on any machines that reach `url`. Files that are refused are noted there too, for
    `pack_merge.merge` to list.

    Raises UserError as `pack` does.
    """
    began = time.monotonic()
    site = Folder(url)
    wanted = Wanted(root, list_url, speaker, options or PackOptions(), selection or Selection())
    refuse_in_part(wanted.selection)
    site.names()
    intake = take_in(wanted, workers=workers, progress=progress)
    plan = intake.plan()
    claim = claim_of(plan, wanted, parts=part.count)
    numbers = part.numbers(len(plan.shards))
    entries: dict[int, ShardEntry] = {}
    inputs: dict[int, str] = {}
    try:
        files = intake.files(plan, numbers, workers, progress)
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
            for number, entry in make(tasks, reused, workers, progress):
                entries[number] = entry
        except ProblemsError as error:
            refused = error
        pack_claim.require(site, plan.digest)
        reports = publish_report(site, intake.report)  # every part's are the same
        problems = tuple(refused.problems) if refused else ()
        publish_record(site, part, Record(plan.digest, inputs, entries, len(reused), problems))
        if refused:
            raise refused
    shards = tuple(entries[number] for number in numbers)
    seconds = time.monotonic() - began
    table = site.at(reports[-1]) if reports else None
    return PartSummary(part, shards, len(plan.shards), len(reused), seconds, intake.report, table)


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


def make(
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
            threads = suits_threads(tasks, workers)
            for task, result in run(
                write_shard, tasks, workers=workers, progress=bar.update, threads=threads
            ):
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
