"""`dataprep convert` on so many cores: python convert_once.py CORES SOURCE OUT → CPU seconds as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from shard_tools.dataprep.cli import main


def convert(cores: int, source: str, out: str) -> dict[str, float]:
    """CPU seconds of this process since its start ("own"), and of its workers, if it has any."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    status = main(["convert", source, out, "--workers", str(cores)])
    if status:
        sys.exit(status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"own": time.process_time(), "workers": used.ru_utime + used.ru_stime}


if __name__ == "__main__":
    print(json.dumps(convert(int(sys.argv[1]), *sys.argv[2:])))
