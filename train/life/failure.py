"""How a rank that fails lets the others, torchrun, and whoever started the job know why."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
import time

from shard_tools.errors import UserError
from shard_tools.run_records import Failure, FailureKind, attempt_name, node_name, write_failure
from shard_tools.storage.errors import is_passing
from shard_tools.text import shown

# Of gloo, of NCCL (ncclRemoteError), of the store of torch.distributed; in lower case.
_SIGNS_OF_A_LOST_PEER = (
    "remote process exited", "ncclremoteerror", "connection closed", "connection was likely closed",
    "connection reset", "connection refused", "broken pipe", "timed out", "timeout", "was aborted",
    "failed to recv", "unreachable", "no route to host",
)  # fmt: skip
_SIGNS_OF_A_MISTAKE = ("ncclInvalidUsage", "ncclInvalidArgument", "no socket interface found")


class RankError(UserError):
    """A failure of this rank alone, such as a shard that only it reads: nobody else will say it.

    passing: it may be over when the run is started again, as an overloaded store is.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class LostPeerError(UserError):
    """A collective failed because another rank went away."""


def kind_of(error: BaseException) -> FailureKind:
    """What the failure of this rank means to whoever may start the run again."""
    if isinstance(error, LostPeerError):
        return "peer"
    if isinstance(error, RankError):
        return "crash" if error.passing else "mistake"
    return "mistake" if isinstance(error, UserError) and not is_passing(error) else "crash"


def tell_torchrun(text: str) -> None:
    """Leave `text` where torchrun looks for the cause of a failure; it prints the first one of a job last.

    The file's form is that of torch.distributed.elastic.multiprocessing.errors. Without torchrun,
    or where the file cannot be written, nothing happens.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            json.dump({"message": shown(text), "timestamp": int(time.time())}, file)


def tell_run_folder(folder: str, kind: FailureKind, text: str) -> None:
    """Leave the failure of this rank in the run's folder, for those who look later."""
    rank = int(os.environ.get("RANK", 0))
    write_failure(
        folder, Failure(round(time.time(), 3), kind, rank, node_name(), attempt_name(), shown(text))
    )


def explained(error: Exception) -> UserError | None:
    """What to say in place of a traceback; None where nothing says it better."""
    return (
        _lacking_module(error)
        or _out_of_memory(error)
        or _out_of_files(error)
        or _small_shared_memory(error)
        or _lost_peer(error)
        or _failed_collective(error)
    )


def _out_of_memory(error: Exception) -> RankError | None:
    if isinstance(error, MemoryError):  # numpy's says how much it wanted
        wanted = f" ({error})" if str(error) else ""
        return RankError(
            f"a process on {node_name()} can have no more memory{wanted}: lower data.workers, data.prefetch, "
            "data.ahead_mib or batch.speakers",
            passing=True,
        )
    if type(error).__name__ != "OutOfMemoryError":  # torch's, which need not be imported to tell
        return None
    said = str(error).splitlines()[0]
    return RankError(
        f"a GPU of {node_name()} ran out of memory ({said}): use more processes, a smaller batch.speakers, "
        "or train.precision bf16"
    )


def _out_of_files(error: BaseException) -> RankError | None:
    if not isinstance(error, OSError) or error.errno != errno.EMFILE:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    where = f" ({error.filename})" if error.filename else ""
    return RankError(
        f"a process on {node_name()} may have {limit} files open, and needs more{where}: raise the limit "
        "(ulimit -n), or lower data.workers"
    )


def _small_shared_memory(error: Exception) -> RankError | None:
    """NCCL's ranks of one node, and they alone, talk through files in /dev/shm."""
    said = next((line.strip() for line in str(error).splitlines() if "/dev/shm" in line), None)
    if said is None or not isinstance(error, (RuntimeError, OSError)):
        return None
    return RankError(
        f"/dev/shm of {node_name()} is full or too small ({said}): make it larger (docker's --shm-size, or "
        "--ipc=host)"
    )


def _lacking_module(error: Exception) -> RankError | None:
    """One node's Python may lack what the others have."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    return RankError(f"{error}: {sys.executable} on {node_name()} lacks it; install this project there too")


def _lost_peer(error: BaseException) -> LostPeerError | None:
    """What to say where a collective failed because another process went away, or stands still."""
    if not _is_collective(error):
        return None
    said = str(error)
    if not any(sign in said.lower() for sign in _SIGNS_OF_A_LOST_PEER):
        return None
    return LostPeerError(f"lost the other processes of the job ({said.splitlines()[0]})")


def _failed_collective(error: BaseException) -> RankError | None:
    """What NCCL itself says of a collective that failed here: the job's mistake, or a fault of this node."""
    if not _is_collective(error) or "gloo" in str(error):  # what else gloo raises is a defect of ours
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = [number + 1 for number, line in enumerate(lines) if line.startswith("Last error")]
    last = " ".join(lines[after[-1] :])[:500] if after else ""
    said = last or (lines[0] if lines else type(error).__name__)
    if "Duplicate GPU" in said:
        remedy = ": two processes of this node have the same GPU; start as many processes as it has GPUs"
        return RankError(f"{node_name()}: {said}{remedy}")
    passing = not any(sign in str(error) for sign in _SIGNS_OF_A_MISTAKE)
    return RankError(
        f"a collective failed on {node_name()}: {said} (NCCL_DEBUG=INFO says more)", passing=passing
    )


def _is_collective(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = str(error)
    return "DistError" in kinds or (isinstance(error, RuntimeError) and ("gloo" in said or "NCCL" in said))
