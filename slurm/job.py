"""Where 0.1.0 had the jobs that wait in the queue, pickled under this name; it stays for a release."""

from slurm.submit.job import CommandJob, TrainingJob

__all__ = ["CommandJob", "TrainingJob"]
