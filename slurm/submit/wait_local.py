"""`python -m slurm.submit.wait_local JOB RUN COMMAND …`: the command when a local training is done.

What --dependency=afterok is on SLURM: a job of --cluster local that waits for another one's process.
"""

from __future__ import annotations

import os
import sys
import time

from slurm.records import local_jobs
from slurm.records.run_folder import Job, RunFolder

_POLL_S = 1.0


def main(arguments: list[str]) -> int:
    """Becomes the command; 1 where the training ended otherwise than done."""
    number, run, *command = arguments
    folder = RunFolder(run)
    job = _job(folder, number)
    while job is None or local_jobs.alive(job):
        time.sleep(_POLL_S)
        job = job or _job(folder, number)  # it is noted a moment after it was submitted
    state = folder.state().get("state")
    if state != "done":
        said = f"job {number}, the training of {run}, is {state or 'gone'}: not evaluated"
        print(f"slurm: error: {said}", file=sys.stderr)
        return 1
    os.execvp(command[0], command)


def _job(folder: RunFolder, number: str) -> Job | None:
    return next((job for job in folder.jobs() if job.job == number), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
