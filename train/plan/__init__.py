"""The pure plan: which utterances, from which first frame, form each global batch.

No I/O, no torch, no process group: everything here is a function of (labels and
frames of the manifest, seed, epoch), in integer arithmetic, so that every
machine of a job computes the same plan.
"""

from train.plan.plan import Batch, BatchSpec, Plan, PlanError

__all__ = ["Batch", "BatchSpec", "Plan", "PlanError"]
