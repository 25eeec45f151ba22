"""A contestant's process: does what its standard input says, on one core, and answers in JSON lines.

python worker.py CPU TASK_JSON; then lines "prepare", "warm_up S", "measure S", "epoch CROPS", "more CROPS",
"digest BATCHES".
CPU is a core's number, or "all" for work that is not timed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def main() -> None:
    cpu, task_json = sys.argv[1:]
    # The parent stops processes whose turn it is not; none may stay behind stopped.
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    sys.path.insert(0, str(Path(__file__).parents[1]))

    import torch
    from harness.runner import Runner
    from harness.task import from_json

    torch.set_num_threads(1)
    runner = Runner(from_json(task_json))
    if cpu != "all":  # now, so that several may import at once; threads to come will inherit it
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {int(cpu)})
    answers.write("null\n")
    for line in sys.stdin:
        name, *arguments = line.split()
        answers.write(json.dumps(getattr(runner, name)(*map(float, arguments))) + "\n")


if __name__ == "__main__":
    main()
