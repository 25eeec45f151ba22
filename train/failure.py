"""How a rank that fails lets the others, and torchrun, know why."""

from __future__ import annotations

import contextlib
import json
import os
import time

from shard_tools.errors import UserError


class RankError(UserError):
    """A failure of this rank alone, such as a shard that only it reads: nobody else will say it."""


def tell_torchrun(text: str) -> None:
    """Leave `text` where torchrun looks for the cause of a failure; it prints the first one of a job last.

    The file's form is that of torch.distributed.elastic.multiprocessing.errors. Without torchrun,
    or where the file cannot be written, nothing happens.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            json.dump({"message": text, "timestamp": int(time.time())}, file)


def lost_reader(error: BaseException) -> RankError | None:
    """What to say where one of DataLoader's processes died.

    DataLoader notices by a signal, and may then raise in any line; before it does, taking a batch
    from the dead process fails in the ways that broken connections do.
    """
    noticed = isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    if not noticed and not isinstance(error, (ConnectionError, EOFError)):
        return None
    return RankError(
        f"a reading process ended: {(str(error) or type(error).__name__).splitlines()[0]} (a kill by "
        "the kernel is most often for want "
        "of memory: lower data.workers, data.prefetch or data.ahead_mib)"
    )


def looks_like_a_lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another process went away."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "DistError" in kinds or (isinstance(error, RuntimeError) and "gloo" in str(error))
