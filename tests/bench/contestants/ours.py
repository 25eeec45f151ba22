"""voxshard's own loader: plan → ranged reads → augmenter, in the calling process.

What a training process with data.workers 0 does. Options: codec (wav, flac), augment,
cache_mib (of impulse responses' spectra), access (direct, cached: whole shards by way of a
folder on the local disk, which is empty at the start).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.task import Task
from shard_tools.catalogue import open_catalogue
from train.config import parse
from train.loading import CropLoader
from train.pipeline import Stream, make_loader
from train.pipeline import batches as unwrapped
from train.sources import build_augmenter, build_plan, build_reader, speeds_of


def make_stream(task: Task) -> Stream:
    url = task.place(task.corpus.shards(task.option("codec") or "wav"))
    arguments = ["--data.url", url, "--train.steps", "1", "--batch.speakers", str(task.batch)]
    arguments += ["--data.crop_frames", str((task.frames - 240) // 160)]
    if task.option("access") == "cached":
        arguments += ["--data.access", "cached", "--data.cache.folder", str(task.scratch)]
    if task.option("augment"):
        noises = task.place(task.corpus.shards("noises"))
        for kind, category in (("noise", "noise"), ("music", "music"), ("babble", "speech")):
            arguments += [f"--augment.{kind}.url", noises, f"--augment.{kind}.category", category]
        arguments += ["--augment.reverberation.url", task.place(task.corpus.shards("rooms"))]
        if task.option("cache_mib"):
            arguments += ["--augment.cache_mib", str(task.option("cache_mib"))]
    config, _ = parse(arguments)
    catalogue = open_catalogue(url)
    speeds = speeds_of(config, catalogue)
    plan = build_plan(catalogue, config, speeds)
    crop = plan.spec.crop
    reader = build_reader(catalogue, config, 1, 1)
    # As train.run has it: batches are read ahead in threads where the store does not answer at once.
    at_once = task.remote is None or config.data.access == "cached"
    return Stream(
        plan,
        CropLoader(reader, crop, config.run.seed, speeds, config.data.on_error),
        build_augmenter(config.augment, frames=crop, seed=config.run.seed),
        rank=0,
        world=1,
        ahead=0 if at_once else max(1, (config.data.ahead_mib << 20) // (task.batch * crop * 4)),
    )


def batches(task: Task) -> Iterator[torch.Tensor]:
    for batch in unwrapped(make_loader(make_stream(task), 0, 10**9, workers=0, prefetch=2)):
        yield batch["audio"]
