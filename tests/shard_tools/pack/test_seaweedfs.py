"""Packing to, verifying and reading from a real store, on which many requests fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fault_proxy import WRITING, FaultProxy

from shard_tools import audio, storage
from shard_tools.dataset.verification import verify
from shard_tools.pack import pack
from shard_tools.pack.packing import PackOptions
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import s3_upload

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def test_shards_are_those_of_a_disk_whatever_fails_on_the_way(
    faulty_s3: FaultProxy,
    s3_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage_policy,
) -> None:
    monkeypatch.setattr(s3_upload, "UPLOAD_PART", 5 * 2**20)  # the least that S3 takes
    storage_policy(StoragePolicy(attempts=12, first_wait_s=0.01))
    shards = f"{s3_folder}/shards"
    rng = np.random.default_rng(0)
    for number in range(16):
        path = tmp_path / "wav" / f"id{number // 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.encode(rng.integers(-9999, 9999, 1_000_000).astype(np.int16), "wav"))
    options = PackOptions(utterances_per_shard=4)  # of 8 MB: two parts
    pack(str(tmp_path / "wav"), str(tmp_path / "disk"), options=options)

    faulty_s3.set_faults(0.4, WRITING, seed=1, methods=("PUT", "POST"))
    pack(str(tmp_path / "wav"), shards, options=options, workers=2)
    assert set(faulty_s3.faults) == set(WRITING), "too few requests to meet every fault"
    faulty_s3.set_faults(0.3, ("error", "slow_down", "reset", "truncated"))
    assert verify(shards).problems == []
    names = sorted(path.name for path in (tmp_path / "disk").iterdir())
    assert storage.list_names(shards) == names
    for name in names:
        assert storage.read_bytes(f"{shards}/{name}") == (tmp_path / "disk" / name).read_bytes()
