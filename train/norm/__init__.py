"""BatchNorm whose statistics do not depend on how a global batch is shared out."""

from train.norm.convert import convert
from train.norm.ghost import GhostBatchNorm
from train.norm.shared import SharedBatchNorm
from train.norm.statistics import RunningStatistics

__all__ = ["GhostBatchNorm", "RunningStatistics", "SharedBatchNorm", "convert"]
