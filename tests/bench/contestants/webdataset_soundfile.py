"""Plain webdataset on our shards, as its documentation has it, decoded by soundfile.

Shards shuffled, samples shuffled in a buffer of 1,000, decoded, cropped, batched inside the
dataset and passed through a WebLoader with batch_size None. (Its own wds.torch_audio needs
torchaudio.load, which needs TorchCodec since torchaudio 2.9; soundfile is the faster choice
for short WAVs.) From S3 the documented way is a pipe; curl, which signs as S3 wants it, is taken
rather than `aws s3 cp`, whose start costs a second of Python a shard. Its own opener of http://
URLs runs curl too, without a shell; it gets URLs that are signed.
Options: read, "whole" decodes the utterance and then crops, "seek" decodes the crop alone; by,
"pipe" or "http".
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from typing import Any

import botocore.session
import soundfile
import torch
import webdataset as wds
from botocore.config import Config
from harness.task import Task

from shard_tools.dataset.manifest import from_bytes


def shard_urls(task: Task) -> list[str]:
    manifest = task.corpus.shards("wav") / "manifest.json"
    folder = task.place(task.corpus.shards("wav"))
    urls = [f"{folder}/{shard.url}" for shard in from_bytes(manifest.read_bytes(), str(manifest)).shards]
    if task.remote is None:
        return urls
    if task.option("by") == "http":
        return signed(urls)
    key, secret = (os.environ[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    curl = f"pipe:curl -s -f --aws-sigv4 aws:amz:us-east-1:s3 --user {key}:{secret} "
    return [f"{curl}{os.environ['AWS_ENDPOINT_URL']}/{url.removeprefix('s3://')}" for url in urls]


def signed(urls: list[str]) -> list[str]:
    """http:// URLs that anyone may get for an hour."""
    store = botocore.session.get_session().create_client("s3", config=Config(signature_version="s3v4"))
    places = [
        dict(zip(("Bucket", "Key"), url.removeprefix("s3://").split("/", 1), strict=True)) for url in urls
    ]
    return [store.generate_presigned_url("get_object", place) for place in places]


def batches(task: Task) -> Iterator[torch.Tensor]:
    def whole(sample: dict[str, Any]) -> torch.Tensor:
        audio, _ = soundfile.read(io.BytesIO(sample["wav"]), dtype="float32")
        start = random.randint(0, len(audio) - task.frames)
        return torch.from_numpy(audio[start : start + task.frames])

    def seek(sample: dict[str, Any]) -> torch.Tensor:
        with soundfile.SoundFile(io.BytesIO(sample["wav"])) as file:
            file.seek(random.randint(0, file.frames - task.frames))
            return torch.from_numpy(file.read(task.frames, dtype="float32"))

    dataset = (
        wds.WebDataset(shard_urls(task), shardshuffle=100, seed=0)
        .shuffle(1000)
        .map({"whole": whole, "seek": seek}[task.option("read")])
        .batched(task.batch, collation_fn=torch.stack, partial=False)
    )
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=0)
    while True:
        yield from loader
