"""How far a run has come, in a small file for whoever watches it or starts it again: RUN/state.json.

state: running, stopped (by a signal: start again to go on), done, or failed. A run that was
killed still says running; its lock tells the difference.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Literal

from shard_tools import storage

NAME = "state.json"


def write_state(
    folder: str,
    state: Literal["running", "stopped", "done", "failed"],
    *,
    saved_step: int,
    last_step: int,
    world: int,
) -> None:
    """saved_step: of the newest checkpoint; last_step: where the run ends; world: processes.

    VOXSHARD_ATTEMPT in the environment is a launcher's name for this start.
    """
    values = {
        "state": state,
        "saved_step": saved_step,
        "last_step": last_step,
        "world": world,
        "attempt": os.environ.get("VOXSHARD_ATTEMPT"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "time": round(time.time(), 3),
    }
    storage.publish_bytes(os.path.join(folder, NAME), json.dumps(values).encode() + b"\n")
