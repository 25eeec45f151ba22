"""How far a run has come, in a small file for whoever watches it or starts it again: RUN/state.json."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict

from shard_tools import storage
from shard_tools.run_records import STATE, RunState, State, attempt_name


def write_state(folder: str, state: RunState, *, saved_step: int, last_step: int, world: int) -> None:
    """saved_step: of the newest checkpoint; last_step: where the run ends; world: processes."""
    said = State(
        state=state,
        saved_step=saved_step,
        last_step=last_step,
        world=world,
        attempt=attempt_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        time=round(time.time(), 3),
    )
    storage.publish_bytes(os.path.join(folder, STATE), json.dumps(asdict(said)).encode() + b"\n")
