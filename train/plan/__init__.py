"""The pure plan: which utterances, from which first frame, form each global batch.

No I/O, no torch, no process group: everything here is a function of (labels and
frames of the manifest, seed, epoch), in integer arithmetic, so that every
machine of a job computes the same plan.
"""

from train.plan.base import Account, Anchor, Batch, BatchPlan, BatchSpec, PlanError, Taken
from train.plan.epoch import EpochPlan
from train.plan.joined import JoinedPlan, Member, PlanMaker
from train.plan.shares import shares
from train.plan.windowed import PlannedWindow, WindowUtterances, plan_window
from train.plan.windows import Windows

__all__ = [
    "Account",
    "Anchor",
    "Batch",
    "BatchPlan",
    "BatchSpec",
    "EpochPlan",
    "JoinedPlan",
    "Member",
    "PlanError",
    "PlanMaker",
    "PlannedWindow",
    "Taken",
    "WindowUtterances",
    "Windows",
    "plan_window",
    "shares",
]
