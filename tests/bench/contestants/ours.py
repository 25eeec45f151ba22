"""voxshard's own loader: plan → ranged reads → augmenter, in the calling process.

What a training process with data.workers 0 does, or one of its reading processes.
Options: codec (wav, flac), augment,
cache_mib (of impulse responses' spectra), access (direct, cached: whole shards by way of a
folder on the local disk, which is empty at the start), verify (none, crops, shards), client
(s3fs: as where obstore is not installed), near (whether remote noise and rooms are brought to
the node), connections, first_wait (data.storage's).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import torch
from harness.task import Task

from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, configure_storage, open_training_data
from train.data.loader import open_loader
from train.data.pipeline import Stream


def make_stream(task: Task) -> Stream:
    if task.option("client") == "s3fs":
        sys.modules["obstore"] = None  # type: ignore[assignment]
    url = task.place(task.corpus.shards(task.option("codec") or "wav"))
    arguments = ["--data.url", url, "--data.workers", "0", "--train.steps", "1"]
    arguments += ["--batch.speakers", str(task.batch)]
    arguments += ["--data.crop_frames", str((task.frames - 240) // 160)]
    if task.option("access") == "cached":
        arguments += ["--data.access", "cached", "--data.cache.folder", str(task.scratch)]
        arguments += ["--data.order", "epoch"]  # a window of a small set has too few speakers for a batch
    if task.option("verify"):
        arguments += ["--data.verify", task.option("verify")]
    if task.option("augment"):
        noises = task.place(task.corpus.shards("noises"))
        for kind, category in (("noise", "noise"), ("music", "music"), ("babble", "speech")):
            arguments += [f"--augment.{kind}.url", noises, f"--augment.{kind}.category", category]
        arguments += ["--augment.reverberation.url", task.place(task.corpus.shards("rooms"))]
        if task.option("near"):
            arguments += ["--augment.copy.folder", str(task.scratch / "copies")]
        elif task.remote is not None:
            arguments += ["--augment.copy.max_gib", "0"]
        if task.option("cache_mib"):
            arguments += ["--augment.cache_mib", str(task.option("cache_mib"))]
    for name in ("connections", "first_wait"):
        if task.option(name):
            arguments += [f"--data.storage.{name}", str(task.option(name))]
    config = parse(arguments)
    configure_storage(config.data)
    data = open_training_data(config)
    plan = build_plan(data, config)
    return build_stream(config, data, plan, rank=0, world=1, on_node=1)


def batches(task: Task) -> Iterator[torch.Tensor]:
    stream = make_stream(task)
    gc.freeze()  # as a reading process does
    epoch = stream.plan.steps_per_epoch
    first = 0
    while True:  # epoch by epoch: what is read ahead is not of an epoch that nobody asked for
        for batch in open_loader(stream, first, first + epoch, workers=0, prefetch=2):
            yield batch["audio"]
        first += epoch
