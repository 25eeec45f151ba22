"""Which noise and rooms are copied to the node, and that a batch is the same from copies."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shard_tools import storage
from shard_tools.cache.shard import CachedShard
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from train.augment.sections import CopyConfig
from train.config.parsing import parse
from train.config.sections import CacheConfig, DataConfig
from train.data import augmentation, copies
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.copies import open_copies
from train.data.loader import open_loader

GIB = 2**30


def shard(number: int, gib: float) -> CachedShard:
    return CachedShard(f"s3://b/{number}.tar", int(gib * GIB), f"{number:064x}")


@pytest.fixture
def usual(tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "usual_folder", lambda: str(tmp_path / "usual"))
    monkeypatch.setattr(copies, "in_memory", lambda folder: False)
    return tmp_path / "usual"


def chosen(max_gib, *wanted, data=None, folder=None):
    found = open_copies(CopyConfig(max_gib, folder), data or DataConfig("x"), wanted, eager=True)
    return None if found is None else (set(found.shards.values()), found.folder)


def test_the_smallest_datasets_that_fit_together_are_copied(usual, caplog):
    caplog.set_level("INFO")
    small, large, both = [shard(1, 2)], [shard(2, 9), shard(3, 5)], [shard(1, 2), shard(4, 1)]
    assert chosen(20, small, large, both) == ({*small, *large, *both}, str(usual / "copies"))
    assert not caplog.messages
    assert chosen(16, small, large, both) == ({*small, *both}, str(usual / "copies"))
    assert "14 GiB are read from where they lie: augment.copy.max_gib is 16" in caplog.text
    assert chosen(1, small, large) is None
    assert chosen(0, small) is None
    assert chosen(20) is None


def test_the_folder_is_what_is_given_or_beside_the_cache_or_the_users(usual, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    beside = DataConfig("x", cache=CacheConfig(folder=str(tmp_path / "cache")))
    wanted = [shard(1, 1)]
    assert chosen(20, wanted, data=beside)[1] == str(tmp_path / "cache" / "copies")
    assert chosen(20, wanted, data=beside, folder=str(tmp_path / "given"))[1] == str(tmp_path / "given")
    usual.mkdir()
    usual.chmod(0o777)
    assert chosen(20, wanted) is None
    assert "others may write to; give augment.copy.folder" in caplog.messages[-1]
    monkeypatch.setattr(copies, "in_memory", lambda folder: True)
    assert chosen(20, wanted) is None
    assert "lies in memory; augment.copy.folder says where" in caplog.messages[-1]
    (tmp_path / "file").touch()
    assert chosen(20, wanted, folder=str(tmp_path / "file")) is None
    assert "augment.copy.max_gib 0 brings none" in caplog.messages[-1]


def test_what_a_cache_may_still_take_is_not_free(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "a.shard").write_bytes(bytes(1000))
    cache = CacheConfig(folder=str(folder), capacity=1.0)
    found = open_copies(
        CopyConfig(), DataConfig("x", cache=cache, access="cached"), [[shard(1, 1)]], eager=True
    )
    assert found._spare == GIB - 1000
    found = open_copies(CopyConfig(), DataConfig("x", cache=cache), [[shard(1, 1)]], eager=True)
    assert found._spare == 0


def test_a_folder_elsewhere_is_refused():
    words = ["--data.url", "x", "--train.steps", "1", "--augment.copy.folder", "s3://bucket/copies"]
    with pytest.raises(UserError, match=r"augment\.copy\.folder is s3://bucket/copies"):
        parse(words)


@pytest.mark.parametrize("device", ["workers", "model"])
def test_batches_are_the_same_from_copies(corpus, tmp_path, monkeypatch, device):
    config = parse(
        [
            "--data.url", corpus.wav, "--train.steps", "1", "--batch.speakers", "8",
            "--data.crop_frames", "50", "--augment.device", device,
            "--augment.noise.url", corpus.noise, "--augment.reverberation.url", corpus.rooms,
            "--augment.copy.folder", str(tmp_path / "copies"),
        ]
    )  # fmt: skip

    def stream():
        data = open_training_data(config)
        return build_stream(config, data, build_plan(data, config), 0, 1, on_node=1)

    def batches(made):
        found = list(open_loader(made, 0, 12, workers=0, prefetch=2))
        return [(batch["audio"].numpy().tobytes(), str(batch.get("prepared"))) for batch in found]

    directly = batches(stream())
    assert not (tmp_path / "copies").exists()
    monkeypatch.setattr(augmentation, "_is_remote", lambda url: True)
    copied = stream()
    sources = [each.reader.source for each in copied.augmenter.sources.values()]
    assert {source.copies for source in sources} == {sources[0].copies}
    assert batches(copied) == directly
    limit = time.monotonic() + 20
    while not sources[0].at_once:
        assert time.monotonic() < limit
        sources[0].fill([0], [0], [memoryview(bytearray(1))])
        time.sleep(0.01)
    before = [source.direct.fetched_bytes for source in sources]
    assert batches(copied) == directly
    assert [source.direct.fetched_bytes for source in sources] == before
    sources[0].copies.close()


@pytest.mark.slow
@pytest.mark.s3
def test_reading_processes_bring_from_s3_what_is_copied(corpus, s3_folder, tmp_path):
    url = f"{s3_folder}/noise"
    for path in Path(corpus.noise).iterdir():
        if path.is_file():
            storage.publish_bytes(f"{url}/{path.name}", path.read_bytes())

    def batches(noise, steps, workers):
        config = parse(
            [
                "--data.url", corpus.wav, "--train.steps", "1", "--batch.speakers", "8",
                "--data.crop_frames", "50", "--augment.noise.url", noise,
                "--augment.copy.folder", str(tmp_path / "copies"),
            ]
        )  # fmt: skip
        data = open_training_data(config)
        made = build_stream(config, data, build_plan(data, config), 0, 1, on_node=1)
        for batch in open_loader(made, 0, steps, workers=workers, prefetch=2):
            yield batch["audio"].numpy().tobytes()

    expected = list(batches(corpus.noise, 30, 0))
    assert not (tmp_path / "copies").exists()
    found = []
    wanted = len(open_catalogue(corpus.noise).shard_urls)
    limit = time.monotonic() + 60
    for audio in batches(url, 30, 2):
        found.append(audio)
        while len(found) == 20 and len(list((tmp_path / "copies").glob("*.shard"))) < wanted:
            assert time.monotonic() < limit
            time.sleep(0.05)
    assert found == expected
