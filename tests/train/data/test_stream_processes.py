"""The stream in real processes: other numbers of ranks, shared caches, corrupted shards, killed readers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import seaweedfs
import torch
from processes import alive, descendants, finish, kill_tree, start_warm, torchrun, wait_until
from project import REPO
from small_run import SMALL_NETWORK

from eval.checkpoint.file import read_checkpoint
from shard_tools import storage
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.run_records import STOPPED
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data

pytestmark = pytest.mark.slow

SCRIPT = str(REPO / "tests/helpers/dump_batches.py")
NAMES = ("audio", "label", "n", "utterance")


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory):
    """8 shards of 12 utterances."""
    folder = tmp_path_factory.mktemp("stream")
    pack(
        str(corpus.folder / "wav"), str(folder / "wav"), options=PackOptions(utterances_per_shard=12, group=2)
    )
    return folder / "wav"


def options(corpus, url, **changed):
    chosen = {
        "data.url": str(url),
        "data.crop_frames": "50",
        "data.workers": "1",
        "data.order": "windows",
        "data.windows.lanes": "4",
        "data.windows.shards": "1",
        "batch.speakers": "8",
        "model.name": "tdnn",
        "model.options": json.dumps(SMALL_NETWORK),
        "augment.noise.url": corpus.noise,
        "augment.reverberation.url": corpus.rooms,
        "train.steps": "12",
        "train.log_every": "1",
    } | {key.replace("__", "."): str(value) for key, value in changed.items()}
    return [word for key, value in chosen.items() for word in (f"--{key}", value)]


def cached(folder):
    return {"data__access": "cached", "data__cache__folder": folder, "data__cache__capacity": 0.01}


def dump(prefix, first, last, arguments):
    return [SCRIPT, str(prefix), str(first), str(last), *arguments]


def joined(prefix, world):
    ranks = [np.load(f"{prefix}-{rank}.npz") for rank in range(world)]
    return {name: np.concatenate([rank[name] for rank in ranks], axis=1) for name in NAMES}


def test_a_stream_goes_on_under_other_numbers_of_ranks_and_two_jobs_share_a_cache(corpus, shards, tmp_path):
    """1 rank to step 5, 2 ranks to 10, 4 to 16: the stream of one undisturbed process; two jobs at a time."""
    arguments = options(corpus, shards, **cached(tmp_path / "cache"))
    alone = torchrun(1, *dump(tmp_path / "whole", 0, 16, options(corpus, shards)))
    whole = start_warm(alone, tmp_path / "log0")
    parts = [(1, 0, 5), (2, 5, 10), (4, 10, 16)]
    try:
        for world, first, last in parts:
            command = torchrun(world, *dump(tmp_path / f"part{world}", first, last, arguments))
            status, output = finish(command, tmp_path / f"log{world}")
            assert status == 0, output
        assert whole.wait(120) == 0, (tmp_path / "log0").read_text()
    finally:
        kill_tree(whole.pid)
    expected = joined(tmp_path / "whole", 1)
    for name in NAMES:
        found = np.concatenate([joined(tmp_path / f"part{world}", world)[name] for world, _, _ in parts])
        assert found.tobytes() == expected[name].tobytes(), name


def corrupt(shards, folder):
    """A copy with the audio of one shard's first third overwritten."""
    shutil.copytree(shards, folder)
    victim = folder / "shard-000003.tar"
    data = bytearray(victim.read_bytes())
    for place in range(2000, len(data) // 3, 1000):
        data[place] ^= 0xFF
    victim.write_bytes(bytes(data))
    return folder


def test_a_corrupted_shard_ends_the_run_with_its_name_and_place(corpus, shards, tmp_path):
    url = corrupt(shards, tmp_path / "shards")
    more = {"data__verify": "crops", "run__folder": tmp_path / "run"}
    status, output = finish(torchrun(2, "-m", "train", *options(corpus, url, **more)), tmp_path / "out", 120)
    assert status != 0
    said = [line for line in output.splitlines() if "train[rank" in line and "error:" in line]
    assert said, output
    for words in ("shard-000003.tar", "utterance s", "at byte", "CRC-32"):
        assert words in said[0]
        assert words in said[-1], "torchrun should repeat the first cause, last of all"
    assert "lost the other processes" not in output


@pytest.mark.exhaustive
def test_a_corrupted_shard_is_substituted_alike_on_one_rank_and_two_and_counted(corpus, shards, tmp_path):
    url = corrupt(shards, tmp_path / "shards")
    more = {"data__verify": "crops", "data__on_error": "substitute", "data__max_substituted": 0.5}
    for world in (1, 2):
        command = torchrun(world, *dump(tmp_path / f"world{world}", 0, 12, options(corpus, url, **more)))
        status, output = finish(command, tmp_path / "out")
        assert status == 0, output
        assert "substituting another utterance of the speaker" in output
    one, two = joined(tmp_path / "world1", 1), joined(tmp_path / "world2", 2)
    for name in NAMES:
        assert one[name].tobytes() == two[name].tobytes(), name

    status, output = finish(
        torchrun(2, "-m", "train", *options(corpus, url, **more, run__folder=tmp_path / "run")),
        tmp_path / "out",
    )
    assert status == 0, output
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["substituted"] > 0

    more |= {"data__max_substituted": 0.001, "run__folder": tmp_path / "strict"}
    status, output = finish(torchrun(2, "-m", "train", *options(corpus, url, **more)), tmp_path / "out")
    assert status != 0
    assert "more than data.max_substituted 0.001" in output


def test_a_killed_reader_ends_all_ranks_with_a_word_about_it(corpus, shards, tmp_path):
    more = {"train__steps": 100000, "run__folder": tmp_path / "run"}
    command = torchrun(2, "-m", "train", *options(corpus, shards, **more))
    process = start_warm(command, tmp_path / "out")
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3, 120, "the third step")
        below = descendants(process.pid)
        readers = [pid for pid in below if _depth(pid, process.pid) == 2]
        assert readers, "no reading process found"
        os.kill(readers[0], signal.SIGKILL)
        process.wait(60)
        wait_until(lambda: not alive(below), 30, "the end of all ranks and readers")
    finally:
        kill_tree(process.pid)
    assert process.returncode != 0
    assert "a reading process ended" in (tmp_path / "out").read_text()


def test_a_signal_ends_a_run_whose_batch_does_not_come_with_all_that_it_learnt(corpus, shards, tmp_path):
    arguments = options(corpus, shards, train__steps=100000, run__folder=tmp_path / "run")
    code = (
        "import sys, train.data.loader; from train.__main__ import main; train.data.loader.GRACE_S = 1; "
        "sys.exit(main())"
    )
    process = start_warm([sys.executable, "-c", code, *arguments], tmp_path / "out")
    metrics = tmp_path / "run" / "metrics.jsonl"
    try:
        wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3, 120, "the third step")
        [reader] = descendants(process.pid)
        os.kill(reader, signal.SIGSTOP)
        before = -1
        while before != (before := metrics.read_text().count("\n")):  # until no batch is left
            time.sleep(1)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == STOPPED
        wait_until(lambda: not alive([reader]), 20, "the end of the reading process")
    finally:
        kill_tree(process.pid)
    output = (tmp_path / "out").read_text()
    assert "has not come 1 s after SIGTERM: reading process" in output
    assert f"stopped by SIGTERM after step {before} of" in output
    assert (tmp_path / "run" / f"checkpoints/step-{before:08d}.pt").exists()


def _depth(pid, ancestor):
    depth = 0
    while pid != ancestor and pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        depth += 1
    return depth


@pytest.mark.s3
def test_a_run_through_a_faulty_store_learns_exactly_what_one_from_the_disk_does(
    corpus, shards, s3_folder, faulty_s3, tmp_path
):
    """Errors, throttling, resets, cut and stalled bodies and wrong bytes in a fifth of all answers."""
    for file in shards.iterdir():
        storage.publish_bytes(storage.join(s3_folder, file.name), file.read_bytes())
    faulty_s3.set_faults(0.2, seed=7)
    more = {
        "data__verify": "crops",
        "data__storage__attempts": 12,
        "data__storage__first_wait": 0.01,
        "data__storage__read_timeout": 1.0,
        "data__windows__shards": 2,
    }
    weights = []
    for name, url in (("disk", str(shards)), ("store", s3_folder)):
        folder = tmp_path / name
        command = torchrun(2, "-m", "train", *options(corpus, url, **more, run__folder=folder))
        status, output = finish(command, tmp_path / "out")
        assert status == 0, output
        weights.append(read_checkpoint(str(folder / "checkpoints/step-00000012.pt"))["network"])
    assert sum(faulty_s3.faults.values()) > 20, faulty_s3.faults
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


# Reads batches by two processes, and after the first waits until it is told to go on.
READS = """
import sys, time
from pathlib import Path
import numpy as np
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, configure_storage, open_training_data
from train.data.loader import open_loader

first, go, out, *arguments = sys.argv[1:]
config = parse(arguments)
configure_storage(config.data)
data = open_training_data(config)
stream = build_stream(config, data, build_plan(data, config), 0, 1, 1)
with open_loader(stream, 0, 24, workers=config.data.workers, prefetch=1) as batches:
    audio = [next(batches)["audio"].numpy()]
    Path(first).touch()
    while not Path(go).exists():
        time.sleep(0.02)
    audio += [batch["audio"].numpy() for batch in batches]
np.save(out, np.stack(audio))
"""


@pytest.mark.s3
def test_credentials_that_expire_are_looked_up_anew_by_reading_processes(
    corpus, shards, s3_folder, faulty_s3, tmp_path, monkeypatch
):
    """The file is written anew after the first batch, and from then on the old key is refused."""
    for file in shards.iterdir():
        storage.publish_bytes(storage.join(s3_folder, file.name), file.read_bytes())
    file, first, go = tmp_path / "credentials", tmp_path / "first", tmp_path / "go"
    more = {
        "data__workers": 2,
        "data__order": "epoch",
        "data__ahead_mib": 1,
        "data__storage__first_wait": 0.01,
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    lines = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(lines.format(seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY))
    arguments = options(corpus, s3_folder, **more)
    command = [sys.executable, "-c", READS, str(first), str(go), str(tmp_path / "store.npy"), *arguments]
    process = start_warm(command, tmp_path / "log")
    try:
        wait_until(first.exists, 60, "the first batch")
        file.write_text(lines.format(seaweedfs.NEXT_KEY, seaweedfs.NEXT_SECRET))
        faulty_s3.expired = f"Credential={seaweedfs.ACCESS_KEY}/"
        go.touch()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        kill_tree(process.pid)
    assert f"Credential={seaweedfs.NEXT_KEY}/" in faulty_s3.headers["authorization"]
    config = parse(options(corpus, shards, **more))
    data = open_training_data(config)
    stream = build_stream(config, data, build_plan(data, config), 0, 1, 1)
    expected = np.stack([batch["audio"].numpy() for batch in stream.made(range(24))])
    assert np.array_equal(np.load(tmp_path / "store.npy"), expected)


@pytest.mark.s3
@pytest.mark.exhaustive
def test_a_run_that_is_killed_goes_on_from_a_store_as_if_nothing_had_been(
    corpus, shards, s3_folder, tmp_path
):
    """Shards, noise and checkpoints lie there; the weights are those of a run from the disk, to the bit."""
    for kind in ("shards", "noise"):
        for file in (shards if kind == "shards" else Path(corpus.noise)).iterdir():
            storage.publish_bytes(f"{s3_folder}/{kind}/{file.name}", file.read_bytes())
    more = {"train__steps": 24, "checkpoint__every": 4}
    disk = options(corpus, shards, **more, run__folder=tmp_path / "disk")
    status, output = finish([sys.executable, "-m", "train", *disk], tmp_path / "out")
    assert status == 0, output
    more |= {"augment__noise__url": f"{s3_folder}/noise", "checkpoint__url": f"{s3_folder}/checkpoints"}
    arguments = options(corpus, f"{s3_folder}/shards", **more, run__folder=tmp_path / "store")
    command = [sys.executable, "-m", "train", *arguments]
    process = start_warm(command, tmp_path / "log")
    saved = f"{s3_folder}/checkpoints/step-00000004.pt"
    try:
        wait_until(lambda: storage.exists(saved), 120, "the first checkpoint")
    finally:
        kill_tree(process.pid)
    assert not storage.exists(f"{s3_folder}/checkpoints/step-00000024.pt")
    status, output = finish(command, tmp_path / "out")
    assert status == 0, output
    assert "resuming from" in output
    expected = read_checkpoint(str(tmp_path / "disk/checkpoints/step-00000024.pt"))["network"]
    found = read_checkpoint(f"{s3_folder}/checkpoints/step-00000024.pt")["network"]
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
