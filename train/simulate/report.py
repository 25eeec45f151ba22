"""A simulation's numbers as a table for people, and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from shard_tools.text import counted
from train.simulate.dataset import Dataset
from train.simulate.mixing import Mixing
from train.simulate.reading import Impossible, Job, Reading, over_cap
from train.simulate.scale import Scale

_LEGEND = """\
per node and epoch, of the node that has most; {steps}
cache GiB   what data.cache.capacity must be at least: the window in use and the next one
left out    utterances that the epoch does not use, those beyond a cap apart
apart       how far neighbours in a shard come apart in the epoch; a full shuffle is 1
spk/1000    distinct speakers in 1,000 consecutive samples
encounters  how often two speakers who met in a batch meet again in the epoch; a full shuffle is 1"""

_COLUMNS = (
    "reading", "window", "GB", "requests", "MB/s", "req/s", "cache GiB", "left out", "apart", "spk/1000",
    "encounters",
)  # fmt: skip


def as_table(
    dataset: Dataset, job: Job, lanes: int, step_seconds: float, readings: list[Reading | Impossible]
) -> str:
    """The first reading is the full shuffle that the others are compared with."""
    shuffled = readings[0]
    assert isinstance(shuffled, Reading)
    rows = [list(_COLUMNS)]
    problems = []
    for reading in readings:
        if isinstance(reading, Impossible):
            problems.append(f"window {reading.window}: {reading.reason}")
        else:
            rows.append(_row(reading, shuffled.mixing, step_seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    spec = job.spec
    size = dataset.shard_bytes.sum() / 1e9
    steps = f"{shuffled.steps:,} steps of {step_seconds:g} s ({shuffled.steps * step_seconds / 3600:.1f} h)"
    heading = [
        f"{dataset.name}: {counted(len(dataset.left), 'utterance', ',')} of "
        f"{counted(dataset.speakers, 'speaker', ',')}, "
        f"{counted(len(dataset.shard_bytes), 'shard', ',')}, {size:,.1f} GB",
        f"batches of {counted(spec.speakers, 'speaker')} x {spec.utterances_per_speaker}, "
        f"crops of {f'{spec.shortest_crop:,} to ' if spec.varying else ''}{spec.crop:,} frames"
        f"{', read in whole blocks to verify them' if job.verify_crops else ''}; {job.nodes} x "
        f"{job.ranks_per_node} processes (nodes x ranks); {counted(lanes, 'lane')}",
    ]
    if over := over_cap(dataset, spec):
        heading.append(f"{over:,} utterances are beyond --max-utterances-per-speaker in every epoch")
    return "\n".join([*heading, "", *table, "", *problems, _LEGEND.format(steps=steps)])


def _row(reading: Reading, shuffled: Mixing, step_seconds: float) -> list[str]:
    seconds = reading.steps * step_seconds
    mixed = reading.mixing
    encounters = "–"
    if mixed.meetings is not None and shuffled.meetings:
        encounters = f"{mixed.meetings / shuffled.meetings:.2f}"
    return [
        reading.way,
        "epoch" if reading.window is None else str(reading.window),
        f"{reading.bytes / 1e9:,.1f}",
        f"{reading.requests:,}",
        f"{reading.bytes / seconds / 1e6:,.1f}",
        f"{reading.requests / seconds:,.1f}",
        f"{math.ceil(reading.cache_bytes / 2**30 * 10) / 10:,.1f}" if reading.cache_bytes else "–",
        f"{100 * reading.left_out:.2f} %",
        f"{mixed.apart / shuffled.apart:.3f}" if shuffled.apart else "–",
        f"{mixed.speakers:,.0f}",
        encounters,
    ]


def as_document(
    dataset: Dataset, job: Job, lanes: int, step_seconds: float, readings: list[Reading | Impossible]
) -> dict[str, Any]:
    """The same numbers, raw: bytes, counts, shares in [0, 1], seconds."""
    spec = job.spec
    return {
        "data": {
            "name": dataset.name,
            "utterances": len(dataset.left),
            "speakers": dataset.speakers,
            "shards": len(dataset.shard_bytes),
            "bytes": int(dataset.shard_bytes.sum()),
            "over_cap": over_cap(dataset, spec),
        },
        "job": asdict(job) | {"lanes": lanes, "step_seconds": step_seconds},
        "readings": [asdict(reading) for reading in readings],
    }


def scale_as_text(scale: Scale) -> str:
    return (
        f"{scale.utterances:,} utterances in {scale.shards:,} shards; {scale.window_utterances:,} a window\n"
        f"  start {scale.start_s:.2f} s, each window {scale.window_s:.2f} s, each batch "
        f"{1e3 * scale.batch_s:.2f} ms\n"
        f"  memory grew by {scale.grown_mib:.0f} MiB; {scale.shards_asked:,} shards were looked at for "
        f"{scale.steps:,} steps"
    )
