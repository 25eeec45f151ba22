"""What runs on each node of a job: the place in it, torchrun and its ranks, signals, how it ends."""

from slurm.node.training import Training

__all__ = ["Training"]  # 0.1.0 pickled queued jobs under this name; it stays for a release
