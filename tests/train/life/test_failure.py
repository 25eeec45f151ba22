"""What a rank says of its failure, and what it means to whoever may start the run again."""

from __future__ import annotations

import errno
import json

import pytest
import torch

from shard_tools.errors import UserError
from shard_tools.storage.errors import StorageError
from train.life.failure import LostPeerError, RankError, explained, kind_of, tell_run_folder


def overloaded() -> UserError:
    try:
        try:
            raise TimeoutError("read timed out")
        except TimeoutError as cause:
            raise StorageError("s3://b/k: gave up after 8 tries") from cause
    except StorageError as error:
        return error


NCCL = (
    "NCCL error in: NCCLUtils.cpp:77, {}, NCCL version 2.28.9\n{}: what it means in general.\nLast error:\n{}"
)
REMOTE = NCCL.format(
    "remote process exited or there was a network error", "ncclRemoteError", "socket 7 closed"
)
DUPLICATE = NCCL.format(
    "invalid usage",
    "ncclInvalidUsage",
    "Duplicate GPU detected : rank 1 and 0 both on CUDA device 1a",
)
NO_INTERFACE = NCCL.format("internal error", "ncclInternalError", "Bootstrap : no socket interface found")
SYSTEM = NCCL.format("unhandled system error", "ncclSystemError", "Call to ibv_create_qp failed")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("lower optim.lr"), "mistake"),
        (overloaded(), "crash"),
        (RankError("a broken shard"), "mistake"),
        (RankError("an overloaded store", passing=True), "crash"),
        (LostPeerError("gone"), "peer"),
        (RuntimeError("a defect"), "crash"),
    ],
)
def test_kinds(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ModuleNotFoundError("No module named 'x'"), "mistake", "No module named 'x': "),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
            "mistake",
            "smaller batch.speakers",
        ),
        (MemoryError(), "crash", "can have no more memory: lower data.workers"),
        (OSError(errno.EMFILE, "Too many open files"), "mistake", "raise the limit (ulimit -n)"),
        (
            RuntimeError(
                "NCCL error\nLast error:\nError while creating /dev/shm/nccl-1 (size 9): No space left"
            ),
            "mistake",
            "--shm-size",
        ),
        (RuntimeError("[gloo] Connection closed by peer"), "peer", "lost the other processes"),
        (torch.distributed.DistBackendError(REMOTE), "peer", "lost the other processes"),
        (torch.distributed.DistStoreError("wait timeout after 600000ms"), "peer", "lost the other processes"),
        (torch.distributed.DistBackendError(DUPLICATE), "mistake", "as many processes as it has GPUs"),
        (
            torch.distributed.DistBackendError(NO_INTERFACE),
            "mistake",
            "no socket interface found (NCCL_DEBUG",
        ),
        (torch.distributed.DistBackendError(SYSTEM), "crash", "Call to ibv_create_qp failed"),
    ],
)
def test_explained(error: Exception, kind: str, words: str) -> None:
    explanation = explained(error)
    assert explanation is not None
    assert words in str(explanation)
    assert kind_of(explanation) == kind


@pytest.mark.parametrize("error", [ValueError("of ours"), BrokenPipeError("of stdout"), EOFError()])
def test_what_is_not_known_keeps_its_traceback(error: Exception) -> None:
    assert explained(error) is None


def test_records_hold_no_credentials_and_no_escapes(tmp_path) -> None:
    tell_run_folder(str(tmp_path), "crash", "s3://key:secret@host/x \x1b[31mred")
    [path] = (tmp_path / "failures").iterdir()
    assert json.loads(path.read_text())["message"] == r"s3://***@host/x \x1b[31mred"


def test_the_run_folder_gets_a_whole_record_named_by_the_start(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOXSHARD_ATTEMPT", "12.1")
    monkeypatch.setenv("VOXSHARD_NODE", "n7")
    monkeypatch.setenv("RANK", "3")
    tell_run_folder(str(tmp_path), "crash", "words")
    [path] = (tmp_path / "failures").iterdir()
    assert path.name.startswith("12.1-")
    record = json.loads(path.read_text())
    assert (record["kind"], record["rank"], record["host"], record["message"]) == ("crash", 3, "n7", "words")


def test_a_run_folder_that_cannot_be_written_is_no_second_failure(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    tell_run_folder(str(tmp_path / "file"), "crash", "words")


def test_what_gloo_says_of_a_defect_of_ours_keeps_its_traceback() -> None:
    assert (
        explained(RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:446] length <= nbytes")) is None
    )
